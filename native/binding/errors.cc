// Builds the JavaScript error.
#include "errors.h"

#include <new>

#include "env_state.h"

namespace ladder::binding {

Napi::Value toJavaScript(Napi::Env env, const Error& error) {
  const Napi::Object context = Napi::Object::New(env);
  for (const auto& [key, value] : error.context()) {
    if (const auto* text = std::get_if<std::string>(&value)) {
      context.Set(key, *text);
    } else {
      context.Set(key, std::get<double>(value));
    }
  }
  const EnvState& state = EnvState::of(env);
  if (state.errorClass.IsEmpty()) {
    const Napi::Error plain = Napi::Error::New(env, error.message());
    plain.Set("code", Napi::String::New(env, error.code()));
    return plain.Value();
  }
  return state.errorClass.New({Napi::String::New(env, error.code()), Napi::String::New(env, error.message()), context});
}

Error currentError() {
  try {
    throw;
  } catch (const Error& error) {
    return error;
  } catch (const std::bad_alloc&) {
    return Error("OUT_OF_MEMORY", "host memory does not suffice; free memory or choose a smaller batch");
  } catch (const std::exception& error) {
    return Error("INTERNAL", std::string("unexpected native exception: ") + error.what() + "; please report it");
  } catch (...) {
    return Error("INTERNAL", "unexpected native exception of an unknown type; please report it");
  }
}

}  // namespace ladder::binding
