// From the native Error to JavaScript's LadderError, and the guards at every entry from JavaScript.
#pragma once

#include <napi.h>

#include "../runtime/error.h"

namespace ladder::binding {

/// A LadderError (or, before the class was handed over, an Error with `code`).
Napi::Value toJavaScript(Napi::Env env, const Error& error);

/// The exception in flight as an Error: std::bad_alloc and others of C++ included. Call inside a catch block.
Error currentError();

/// Runs a synchronous entry; native errors are thrown as LadderErrors.
template <typename Body>
auto guarded(Napi::Env env, Body body) -> decltype(body()) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    throw Napi::Error(env, toJavaScript(env, currentError()));
  }
}

/// Runs the start of an asynchronous entry; errors become a rejected promise.
template <typename Body>
Napi::Value guardedAsync(Napi::Env env, Body body) {
  const auto reject = [env](napi_value reason) -> Napi::Value {
    const auto deferred = Napi::Promise::Deferred::New(env);
    deferred.Reject(reason);
    return deferred.Promise();
  };
  try {
    return body();
  } catch (const Napi::Error& error) {
    return reject(error.Value());
  } catch (...) {
    return reject(toJavaScript(env, currentError()));
  }
}

}  // namespace ladder::binding
