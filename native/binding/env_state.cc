// Tasks: from JavaScript to a session's thread and back.
#include "env_state.h"

#include <algorithm>

#include "errors.h"

namespace ladder::binding {
namespace {

struct Message {
  std::shared_ptr<Task> task;
  std::optional<double> fraction;  // progress; otherwise the task is done
};

constexpr std::chrono::milliseconds kReportInterval{100};

}  // namespace

void Task::reportProgress(double fraction) {
  if (!wantsProgress) return;
  const auto now = std::chrono::steady_clock::now();
  if (now - lastReport < kReportInterval) return;
  lastReport = now;
  lastFraction = std::clamp(fraction, lastFraction, 1.0);
  state->deliver(shared_from_this(), lastFraction);
}

EnvState::EnvState(Napi::Env env) : env_(env) {
  const Napi::String name = Napi::String::New(env, "ladder");
  if (napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, this, &EnvState::receive, &channel_) !=
      napi_ok) {
    throw Napi::Error::New(env, "ladder: napi_create_threadsafe_function failed");
  }
  napi_unref_threadsafe_function(env, channel_);
  // Hooks run in reverse order: the sessions end before the channel, which was made first, closes.
  napi_add_env_cleanup_hook(env, &EnvState::endAll, this);
}

void EnvState::endAll(void* state) {
  for (const auto& weak : static_cast<EnvState*>(state)->sessions_) {
    const auto session = weak.lock();
    if (!session) continue;
    session->end();
    for (const auto& task : session->pending) task->session = nullptr;  // each holds the other
    session->pending.clear();
  }
}

std::shared_ptr<Session> EnvState::openSession() {
  sessions_.erase(std::remove_if(sessions_.begin(), sessions_.end(), [](const auto& weak) { return weak.expired(); }), sessions_.end());
  auto session = std::make_shared<Session>();
  sessions_.push_back(session);
  return session;
}

Napi::Promise EnvState::submit(std::shared_ptr<Session> session, std::shared_ptr<Task> task, Work work) {
  const Napi::Promise promise = task->deferred.Promise();
  task->state = this;
  task->session = session;
  task->work = std::move(work);
  task->wantsProgress = !task->progress.IsEmpty();
  session->pending.push_back(task);
  if (pendingCount_++ == 0) napi_ref_threadsafe_function(env_, channel_);
  session->worker.post([this, task = std::move(task)]() mutable {
    try {
      if (task->refused) throw Error("DISPOSED", "the executor was disposed before the call began");
      task->settle = task->work(*task);
    } catch (...) {
      task->error = currentError();
    }
    task->work = nullptr;  // what another thread may wait for ends now
    // The last of this thread's hold on the task: its JavaScript values must be released elsewhere.
    deliver(std::move(task), std::nullopt);
  });
  return promise;
}

void EnvState::deliver(std::shared_ptr<Task> task, std::optional<double> fraction) {
  auto message = std::make_unique<Message>(Message{std::move(task), fraction});
  if (napi_call_threadsafe_function(channel_, message.get(), napi_tsfn_nonblocking) == napi_ok) message.release();
}

void EnvState::receive(napi_env rawEnv, napi_value, void* context, void* data) {
  const std::unique_ptr<Message> message(static_cast<Message*>(data));
  if (!rawEnv) return;  // the environment is ending: nobody waits for the promise
  const Napi::Env env(rawEnv);
  const Napi::HandleScope scope(env);
  try {
    if (message->fraction) {
      report(env, *message->task, *message->fraction);
    } else {
      static_cast<EnvState*>(context)->settle(env, *message->task);
    }
  } catch (const Napi::Error&) {
    // JavaScript can no longer run: its thread is being terminated.
  }
}

void EnvState::report(Napi::Env env, Task& task, double fraction) {
  if (task.progressError) return;
  try {
    task.progress.Call({Napi::Number::New(env, fraction)});
  } catch (const Napi::Error& error) {
    // The caller's function failed: the measurement ends, and its promise tells why.
    task.cancelled = true;
    task.progressError = Napi::Persistent(error.Value());
  }
}

void EnvState::settle(Napi::Env env, Task& task) {
  if (--pendingCount_ == 0) napi_unref_threadsafe_function(env_, channel_);
  const std::shared_ptr<Session> session = std::exchange(task.session, nullptr);
  auto& pending = session->pending;
  pending.erase(std::remove_if(pending.begin(), pending.end(), [&](const auto& other) { return other.get() == &task; }), pending.end());
  if (task.endsSession || (task.error && task.endsSessionOnError)) session->end();
  try {
    if (task.progressError) {
      task.deferred.Reject(task.progressError->Value());
    } else if (task.error) {
      task.deferred.Reject(toJavaScript(env, *task.error));
    } else {
      task.deferred.Resolve(task.settle(env));
    }
  } catch (const Napi::Error& error) {
    task.deferred.Reject(error.Value());
  }
}

}  // namespace ladder::binding
