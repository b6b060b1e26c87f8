// The measurement loops over a loaded checkpoint: the paper's rule, single samples, and one operator at a time. They return
// what was measured and leave statistics to TypeScript. Device time comes from CUDA events, host time from a steady clock.
#pragma once

#include <functional>
#include <vector>

#include "../runtime/executor.h"

namespace ladder::timing {

using runtime::CancelFlag;
using runtime::Executor;

/// Told how far a measurement has come, 0…1. Called often; whoever passes it thins it out.
using Progress = std::function<void(double)>;

enum class Launch { kStream, kGraph };

struct PaperOptions {
  Launch launch = Launch::kStream;
  int number = 5;
  int repeat = 5;
  double minRepeatMs = 500;
};

struct PaperResult {
  std::vector<double> valuesMs;
  std::vector<double> numbers;
};

/// TVM 0.12's time evaluator: one untimed inference, then `repeat` measurements of `number` inferences between two events.
/// A measurement shorter than `minRepeatMs` is taken again with a larger number, which the next ones keep.
/// @throws Error ABORTED, UNSUPPORTED (graph launch of what cannot be captured), BAD_ARGUMENT, and the executor's
PaperResult measurePaper(Executor& executor, const PaperOptions& options, const Progress& progress, const CancelFlag& cancelled);

struct SamplesOptions {
  Launch launch = Launch::kStream;
  bool coldL2 = false;
  double warmupMs = 0;
  int64_t minSamples = 1;
  int64_t maxSamples = 1;
  double maxMs = 0;
};

struct SamplesResult {
  std::vector<double> gpuMs;      // on the CPU: host time
  std::vector<double> enqueueMs;  // on the CPU: the same
  double hostMsPerInference = 0;
};

/// One event pair per inference. The device is kept busy: pairs are read when they are needed again.
/// @throws Error as measurePaper; UNSUPPORTED for a cold L2 on the CPU
SamplesResult measureSamples(Executor& executor, const SamplesOptions& options, const Progress& progress, const CancelFlag& cancelled);

/// [operator][sample] milliseconds. On the device the stream is held up while the host enqueues, so that the launches' own
/// cost stays out as far as the driver's queue reaches.
std::vector<double> profile(Executor& executor, int64_t samples, const Progress& progress, const CancelFlag& cancelled);

}  // namespace ladder::timing
