// One asynchronous call: work for a session's thread, and the promise that it settles.
// JavaScript values in it are made and released on JavaScript's thread only.
#pragma once

#include <napi.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "../runtime/error.h"

namespace ladder::binding {

class EnvState;
class Session;
struct Task;

/// Makes the promise's value, on JavaScript's thread, from what the work left behind.
using Settle = std::function<Napi::Value(Napi::Env)>;
/// Runs on the session's thread. Throws to reject.
using Work = std::function<Settle(Task&)>;

struct Task : std::enable_shared_from_this<Task> {
  explicit Task(Napi::Env env) : deferred(Napi::Promise::Deferred::New(env)) {}

  /// Keeps a JavaScript object (a buffer that the work reads) alive until the promise settles.
  void keep(const Napi::Object& object) { kept.push_back(Napi::Persistent(object)); }
  /// From the session's thread: passes on how far it is, at most every 100 ms, never backwards.
  void reportProgress(double fraction);

  Napi::Promise::Deferred deferred;
  std::vector<Napi::ObjectReference> kept;
  Napi::FunctionReference progress;                // may be empty
  std::optional<Napi::ObjectReference> progressError;  // what the progress function threw
  bool endsSession = false;                        // the session's thread is joined when it settles
  bool endsSessionOnError = false;

  std::atomic<bool> cancelled{false};
  std::atomic<bool> refused{false};  // disposed before it began

  EnvState* state = nullptr;
  std::shared_ptr<Session> session;
  Work work;
  bool wantsProgress = false;
  double lastFraction = 0;
  std::chrono::steady_clock::time_point lastReport{};

  // The outcome: one of the two.
  Settle settle;
  std::optional<Error> error;
};

}  // namespace ladder::binding
