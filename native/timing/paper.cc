// The rule by which the paper's authors timed: TVM 0.12's WrapTimeEvaluator, with its roundings.
#include <algorithm>
#include <climits>

#include "../runtime/error.h"
#include "inference.h"

namespace ladder::timing {
namespace {

constexpr double kGrowth = 1.618;
/// TVM gives up on a measurement that has shown no time at all that often.
constexpr int kLimitZeroTimes = 100;

}  // namespace

PaperResult measurePaper(Executor& executor, const PaperOptions& options, const Progress& progress, const CancelFlag& cancelled) {
  if (options.number < 1 || options.repeat < 1) throw Error("BAD_ARGUMENT", "expected `number` and `repeat` of at least 1");
  Inference inference(executor, options.launch, cancelled);
  Stopwatch stopwatch(executor);
  inference.enqueue();  // untimed
  executor.synchronize();

  PaperResult result;
  int number = options.number;
  for (int i = 0; i < options.repeat; ++i) {
    double durationMs = 0;
    int zeroTimes = 0;
    do {
      if (durationMs > 0) {
        const double wanted = std::max(options.minRepeatMs / (durationMs / number) + 1, number * kGrowth);
        number = static_cast<int>(std::min(wanted, double{INT_MAX}));
      }
      stopwatch.start();
      for (int j = 0; j < number; ++j) {
        inference.enqueue();
        if (!executor.onDevice()) progress((i + double(j + 1) / number) / options.repeat);
      }
      stopwatch.stop();
      // Whole nanoseconds, as TVM's timers count.
      const auto nanoseconds = static_cast<int64_t>(stopwatch.elapsedMs() * 1e6);
      if (nanoseconds == 0) ++zeroTimes;
      durationMs = static_cast<double>(nanoseconds) / 1e6;
      progress((i + std::min(1.0, options.minRepeatMs > 0 ? durationMs / options.minRepeatMs : 1.0)) / options.repeat);
    } while (durationMs < options.minRepeatMs && zeroTimes < kLimitZeroTimes);
    result.valuesMs.push_back(durationMs / number);
    result.numbers.push_back(number);
  }
  executor.finish(cancelled);
  return result;
}

}  // namespace ladder::timing
