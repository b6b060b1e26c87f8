// Each operator alone between two events.
#include <algorithm>

#include "../runtime/error.h"
#include "inference.h"

namespace ladder::timing {
namespace {

/// The longest that the device is held up for the host's sake.
constexpr double kLongestDelayMs = 50;

void profileDevice(Executor& executor, int64_t samples, const Progress& progress, const CancelFlag& cancelled,
                   std::vector<double>& operatorMs) {
  const size_t operators = executor.plan().operators.size();
  std::vector<cuda::Event> starts(operators);
  std::vector<cuda::Event> stops(operators);
  double enqueueMs = 0;
  for (int64_t sample = 0; sample < samples; ++sample) {
    runtime::throwIfCancelled(cancelled);
    if (enqueueMs > 0) executor.kernels().delay(executor.stream(), static_cast<uint64_t>(std::min(1.5 * enqueueMs, kLongestDelayMs) * 1e6));
    const auto begin = Clock::now();
    for (size_t i = 0; i < operators; ++i) {
      starts[i].record(executor.stream());
      executor.enqueueOperator(i, cancelled);
      stops[i].record(executor.stream());
    }
    enqueueMs = sample == 0 ? msSince(begin) : std::min(enqueueMs, msSince(begin));  // some wait for a full queue
    executor.synchronize();
    for (size_t i = 0; i < operators; ++i) operatorMs[i * samples + sample] = stops[i].elapsedMsSince(starts[i]);
    progress(double(sample + 1) / samples);
  }
}

void profileHost(Executor& executor, int64_t samples, const Progress& progress, const CancelFlag& cancelled,
                 std::vector<double>& operatorMs) {
  const size_t operators = executor.plan().operators.size();
  for (int64_t sample = 0; sample < samples; ++sample) {
    for (size_t i = 0; i < operators; ++i) {
      runtime::throwIfCancelled(cancelled);
      const auto begin = Clock::now();
      executor.enqueueOperator(i, cancelled);
      operatorMs[i * samples + sample] = msSince(begin);
      progress(double(sample * operators + i + 1) / (samples * operators));
    }
  }
}

}  // namespace

std::vector<double> profile(Executor& executor, int64_t samples, const Progress& progress, const CancelFlag& cancelled) {
  if (samples < 1 || samples > 1'000'000)
    throw Error("BAD_ARGUMENT", "expected 1 to 1000000 `samples` but received " + std::to_string(samples));
  std::vector<double> operatorMs(executor.plan().operators.size() * samples);
  executor.enqueue(cancelled);  // untimed
  executor.synchronize();
  if (executor.onDevice()) {
    executor.kernels().delay(executor.stream(), 0);  // compiled before anything is timed
    profileDevice(executor, samples, progress, cancelled, operatorMs);
  } else {
    profileHost(executor, samples, progress, cancelled, operatorMs);
  }
  return operatorMs;
}

}  // namespace ladder::timing
