// Launch choice and stopwatch.
#include "inference.h"

#include "../runtime/error.h"

namespace ladder::timing {

Inference::Inference(Executor& executor, Launch launch, const CancelFlag& cancelled)
    : executor_(executor), launch_(launch), cancelled_(cancelled) {
  executor.firstRun(cancelled);
  if (launch == Launch::kStream) return;
  const runtime::CaptureResult capture = executor.capture(cancelled);
  if (!capture.captured) {
    throw Error("UNSUPPORTED", "the checkpoint cannot be replayed as a CUDA graph: " + capture.reason + "; measure with launch `stream`",
                {{"reason", capture.reason}});
  }
}

Stopwatch::Stopwatch(Executor& executor) : executor_(executor) {
  if (!executor.onDevice()) return;
  startEvent_.emplace();
  stopEvent_.emplace();
}

void Stopwatch::start() {
  if (startEvent_) {
    startEvent_->record(executor_.stream());
  } else {
    startTime_ = Clock::now();
  }
}

void Stopwatch::stop() {
  if (stopEvent_) {
    stopEvent_->record(executor_.stream());
  } else {
    hostMs_ = msSince(startTime_);
  }
}

double Stopwatch::elapsedMs() {
  if (!stopEvent_) return hostMs_;
  stopEvent_->synchronize();
  return stopEvent_->elapsedMsSince(*startEvent_);
}

}  // namespace ladder::timing
