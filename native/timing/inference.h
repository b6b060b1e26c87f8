// One inference as the loops see it: by stream or by graph, and how long a batch of them took.
#pragma once

#include <chrono>
#include <optional>

#include "measure.h"

namespace ladder::timing {

using Clock = std::chrono::steady_clock;

inline double msSince(Clock::time_point start) { return std::chrono::duration<double, std::milli>(Clock::now() - start).count(); }

/// Enqueues inferences in the way that was asked for.
class Inference {
 public:
  /// Captures the graph where one is asked for. @throws Error UNSUPPORTED with the reason when that cannot be done
  Inference(Executor& executor, Launch launch, const CancelFlag& cancelled);
  void enqueue() {
    runtime::throwIfCancelled(cancelled_);
    if (launch_ == Launch::kGraph) {
      executor_.launchGraph();
    } else {
      executor_.enqueue(cancelled_);
    }
  }

 private:
  Executor& executor_;
  Launch launch_;
  const CancelFlag& cancelled_;
};

/// Time between two points of the executor's work: events on a device, a steady clock on the CPU.
class Stopwatch {
 public:
  explicit Stopwatch(Executor& executor);
  void start();
  void stop();
  /// Waits for the stop. Milliseconds.
  double elapsedMs();

 private:
  Executor& executor_;
  std::optional<cuda::Event> startEvent_;
  std::optional<cuda::Event> stopEvent_;
  Clock::time_point startTime_;
  double hostMs_ = 0;
};

}  // namespace ladder::timing
