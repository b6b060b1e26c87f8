// A worker thread with (mostly) an executor on it, and the tasks that are on their way to it.
// Methods belong to JavaScript's thread; the executor to the worker's.
#pragma once

#include <memory>
#include <vector>

#include "../runtime/executor.h"
#include "task.h"
#include "worker.h"

namespace ladder::binding {

class Session {
 public:
  ~Session() { end(); }

  /// Tells every task that has not settled to stop at its next opportunity.
  void cancel() {
    for (const auto& task : pending) task->cancelled = true;
  }
  /// The same, and tasks that have not begun are refused as DISPOSED.
  void refuse() {
    for (const auto& task : pending) task->refused = true;
    cancel();
  }
  /// Frees the executor on its thread and joins it. Waits for the task in flight. Again is fine.
  void end() {
    if (ended_) return;
    ended_ = true;
    refuse();
    worker.post([this] { executor.reset(); });
    worker.join();
  }

  Worker worker;
  std::unique_ptr<runtime::Executor> executor;
  std::vector<std::shared_ptr<Task>> pending;

 private:
  bool ended_ = false;
};

}  // namespace ladder::binding
