// NativeExecutor: the JavaScript object round a session with an executor. Made by openExecutor only.
// Every call is checked on JavaScript's thread and then posted; `dispose` comes last.
#pragma once

#include <napi.h>

#include "env_state.h"

namespace ladder::binding {

class ExecutorObject : public Napi::ObjectWrap<ExecutorObject> {
 public:
  /// The class, once per environment.
  static Napi::Function define(Napi::Env env);
  /// An object that owns the session. `entrySizes`: bytes of each entry.
  static Napi::Object create(Napi::Env env, std::shared_ptr<Session> session, const runtime::LoadTimes& times,
                             std::vector<uint64_t> entrySizes);

  explicit ExecutorObject(const Napi::CallbackInfo& info);

 private:
  using Info = Napi::CallbackInfo;
  Napi::Value write(const Info& info);
  Napi::Value read(const Info& info);
  Napi::Value readInto(const Info& info);
  Napi::Value copyFrom(const Info& info);
  Napi::Value fill(const Info& info);
  Napi::Value setBytes(const Info& info);
  Napi::Value loadParams(const Info& info);
  Napi::Value run(const Info& info);
  Napi::Value runOperator(const Info& info);
  Napi::Value capture(const Info& info);
  Napi::Value measurePaper(const Info& info);
  Napi::Value measureSamples(const Info& info);
  Napi::Value profile(const Info& info);
  Napi::Value verifyOperator(const Info& info);
  void cancel(const Info& info);
  Napi::Value dispose(const Info& info);

  /// A task whose object stays alive until it settles. @throws Error DISPOSED
  std::shared_ptr<Task> task(Napi::Env env);
  std::shared_ptr<Task> taskWithProgress(const Info& info, size_t progressArgument);
  Napi::Value submit(Napi::Env env, std::shared_ptr<Task> task, Work work);
  size_t readEntry(const Info& info) const;

  std::shared_ptr<Session> session_;
  std::vector<uint64_t> entrySizes_;
  Napi::ObjectReference disposal_;  // the promise of dispose()
};

/// A promise's value from numbers.
Napi::Value toFloat64Array(Napi::Env env, const std::vector<double>& values);

}  // namespace ladder::binding
