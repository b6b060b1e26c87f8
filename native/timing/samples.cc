// One sample per inference.
#include <algorithm>

#include "../cuda/device.h"
#include "../cuda/device_kernels.h"
#include "../runtime/error.h"
#include "inference.h"

namespace ladder::timing {
namespace {

/// How much work may wait on the device: enough that it never starves, little enough that a cancel ends soon.
constexpr double kAheadMs = 100;
/// Launches that the driver queues before it makes the host wait, which would be counted as enqueueing.
constexpr size_t kQueuedLaunches = 512;

/// A memory region that is read, so that the device's L2 holds nothing of the checkpoint. Not written: what is written the cache gives
/// back to memory while the inference is timed, which would take its bandwidth.
class L2Flush {
 public:
  L2Flush(Executor& executor, bool wanted) : executor_(executor) {
    if (!wanted) return;
    if (!executor.onDevice()) throw Error("UNSUPPORTED", "a cold L2 can be measured on a CUDA device only; measure with l2 `hot`");
    const int ordinal = executor.plan().deviceOrdinal;
    kernels_ = &cuda::DeviceKernels::of(ordinal);
    buffer_ = cuda::DeviceBuffer(2 * cuda::deviceFacts(ordinal).l2Bytes, "filling the L2 cache");
    sink_ = cuda::DeviceBuffer(4, "filling the L2 cache");
    kernels_->fillWords(executor.stream(), buffer_.get(), buffer_.bytes(), 1, 0xff, 0, false);
  }
  void enqueue() {
    if (kernels_) kernels_->read(executor_.stream(), buffer_.get(), buffer_.bytes(), sink_.get());
  }

 private:
  Executor& executor_;
  cuda::DeviceKernels* kernels_ = nullptr;
  cuda::DeviceBuffer buffer_;
  cuda::DeviceBuffer sink_;
};

/// Runs inferences for that long, at least one. @returns milliseconds per inference
double warmUp(Executor& executor, Inference& inference, double warmupMs, const CancelFlag& cancelled) {
  const auto start = Clock::now();
  int64_t count = 0;
  int64_t batch = 1;
  double elapsedMs = 0;
  do {
    for (int64_t i = 0; i < batch; ++i) inference.enqueue();
    executor.finish(cancelled);
    count += batch;
    elapsedMs = msSince(start);
    batch = std::clamp<int64_t>(static_cast<int64_t>(count * 10 / std::max(elapsedMs, 1e-3)), 1, 1000);  // about 10 ms
  } while (elapsedMs < warmupMs);
  return elapsedMs / static_cast<double>(count);
}

class Loop {
 public:
  Loop(const SamplesOptions& options, const Progress& progress) : options_(options), progress_(progress) {
    if (options.minSamples < 1 || options.maxSamples < options.minSamples) {
      throw Error("BAD_ARGUMENT", "expected 1 <= `minSamples` <= `maxSamples` but received " + std::to_string(options.minSamples) +
                                      " and " + std::to_string(options.maxSamples));
    }
    start_ = Clock::now();
  }
  /// Whether another sample is to be taken after `count`.
  bool more(int64_t count) const {
    if (count >= options_.maxSamples) return false;
    const double elapsedMs = msSince(start_);
    progress_(std::max(double(count) / options_.maxSamples,
                       std::min(options_.maxMs > 0 ? elapsedMs / options_.maxMs : 1.0, double(count) / options_.minSamples)));
    return count < options_.minSamples || elapsedMs < options_.maxMs;
  }
  double elapsedMs() const { return msSince(start_); }

 private:
  const SamplesOptions& options_;
  const Progress& progress_;
  Clock::time_point start_;
};

void sampleDevice(Executor& executor, Inference& inference, L2Flush& flush, size_t depth, Loop& loop, SamplesResult& result) {
  std::vector<cuda::Event> starts(depth);
  std::vector<cuda::Event> stops(depth);
  const auto collect = [&](size_t slot) {
    stops[slot].synchronize();
    result.gpuMs.push_back(stops[slot].elapsedMsSince(starts[slot]));
  };
  size_t count = 0;
  for (; loop.more(static_cast<int64_t>(count)); ++count) {
    const size_t slot = count % depth;
    if (count >= depth) collect(slot);
    flush.enqueue();
    starts[slot].record(executor.stream());
    const auto begin = Clock::now();
    inference.enqueue();
    result.enqueueMs.push_back(msSince(begin));
    stops[slot].record(executor.stream());
  }
  for (size_t i = count > depth ? count - depth : 0; i < count; ++i) collect(i % depth);
}

void sampleHost(Inference& inference, Loop& loop, SamplesResult& result) {
  for (int64_t count = 0; loop.more(count); ++count) {
    const auto begin = Clock::now();
    inference.enqueue();
    result.gpuMs.push_back(msSince(begin));
  }
  result.enqueueMs = result.gpuMs;
}

}  // namespace

SamplesResult measureSamples(Executor& executor, const SamplesOptions& options, const Progress& progress, const CancelFlag& cancelled) {
  Inference inference(executor, options.launch, cancelled);
  L2Flush flush(executor, options.coldL2);
  const double inferenceMs = warmUp(executor, inference, options.warmupMs, cancelled);
  Loop loop(options, progress);
  SamplesResult result;
  if (executor.onDevice()) {
    const size_t launches = (options.launch == Launch::kGraph ? 1 : executor.plan().operators.size()) + 3;
    const auto byTime = static_cast<size_t>(kAheadMs / std::max(inferenceMs, 1e-3));
    sampleDevice(executor, inference, flush, std::clamp<size_t>(std::min(byTime, kQueuedLaunches / launches), 2, 256), loop, result);
  } else {
    sampleHost(inference, loop, result);
  }
  executor.finish(cancelled);
  result.hostMsPerInference = loop.elapsedMs() / static_cast<double>(result.gpuMs.size());
  return result;
}

}  // namespace ladder::timing
