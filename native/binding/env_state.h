// What belongs to one JavaScript environment (the main thread's or a worker thread's): the error class, the executor's class,
// the way back from the sessions' threads, and the sessions that live. Nothing of the binding is global.
#pragma once

#include <napi.h>

#include <memory>
#include <vector>

#include "session.h"
#include "task.h"

namespace ladder::binding {

class EnvState {
 public:
  explicit EnvState(Napi::Env env);
  static EnvState& of(Napi::Env env) { return *env.GetInstanceData<EnvState>(); }

  /// A new session, ended at the latest when the environment is.
  std::shared_ptr<Session> openSession();
  /// Posts the work. The event loop stays alive until the promise settles.
  Napi::Promise submit(std::shared_ptr<Session> session, std::shared_ptr<Task> task, Work work);
  /// From any thread: hands the task to JavaScript's thread, to settle it or to report its progress.
  void deliver(std::shared_ptr<Task> task, std::optional<double> fraction);

  Napi::FunctionReference errorClass;
  Napi::FunctionReference executorClass;

 private:
  static void receive(napi_env env, napi_value function, void* context, void* data);
  static void endAll(void* state);
  static void report(Napi::Env env, Task& task, double fraction);
  void settle(Napi::Env env, Task& task);

  napi_env env_;
  napi_threadsafe_function channel_ = nullptr;
  size_t pendingCount_ = 0;
  std::vector<std::weak_ptr<Session>> sessions_;
};

}  // namespace ladder::binding
