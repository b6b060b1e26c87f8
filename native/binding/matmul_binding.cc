// measureMatmul(ordinal, {m, n, k, type, library}): JavaScript values to a product, and its measurement back.
// Runs on a session's thread of its own, which ends with it. The product itself: cuda/cublaslt.h.
#include "matmul_binding.h"

#include <cmath>

#include "../cuda/cublaslt.h"
#include "env_state.h"
#include "errors.h"

namespace ladder::binding {
namespace {

int64_t integerOf(const Napi::Value& value, const char* name) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : std::nan("");
  if (!(std::abs(number) <= 9007199254740991.0) || number != std::floor(number)) {
    throw Error("BAD_ARGUMENT", std::string("expected an integer for `") + name + "` but received " + value.ToString().Utf8Value());
  }
  return static_cast<int64_t>(number);
}

cuda::MatmulType typeOf(const Napi::Value& value) {
  const std::string text = value.ToString();
  if (text == "fp16") return cuda::MatmulType::kFp16;
  if (text == "fp8_e4m3") return cuda::MatmulType::kFp8E4m3;
  if (text == "int8") return cuda::MatmulType::kInt8;
  throw Error("BAD_ARGUMENT", "expected 'fp16', 'fp8_e4m3' or 'int8' for `type` but received " + text);
}

Napi::Object toObject(Napi::Env env, const cuda::MatmulMeasurement& measurement) {
  const Napi::Object result = Napi::Object::New(env);
  result.Set("ms", measurement.ms);
  result.Set("flopsPerSecond", measurement.flopsPerSecond);
  result.Set("bytesPerSecond", measurement.bytesPerSecond);
  result.Set("algorithms", measurement.algorithms);
  result.Set("samples", measurement.samples);
  result.Set("libraryVersion", static_cast<double>(measurement.libraryVersion));
  result.Set("weightCopies", measurement.weightCopies);
  return result;
}

Napi::Value measureMatmul(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guardedAsync(env, [&]() -> Napi::Value {
    if (!info[1].IsObject()) throw Error("BAD_ARGUMENT", "expected an object for `matmul` but received " + info[1].ToString().Utf8Value());
    const auto request = info[1].As<Napi::Object>();
    const int64_t ordinal = integerOf(info[0], "ordinal");
    if (ordinal < 0 || ordinal > 1023) throw Error("BAD_ARGUMENT", "expected 0 to 1023 for `ordinal` but received " + std::to_string(ordinal));
    const cuda::MatmulProblem problem{integerOf(request.Get("m"), "m"), integerOf(request.Get("n"), "n"), integerOf(request.Get("k"), "k"),
                                      typeOf(request.Get("type"))};
    const Napi::Value library = request.Get("library");
    if (!library.IsString() && !library.IsNull()) throw Error("BAD_ARGUMENT", "expected a path or null for `library` but received " + library.ToString().Utf8Value());
    const std::string path = library.IsString() ? library.As<Napi::String>().Utf8Value() : std::string();
    auto task = std::make_shared<Task>(env);
    task->endsSession = true;
    EnvState& state = EnvState::of(env);
    return state.submit(state.openSession(), task, [ordinal, problem, path](Task&) -> Settle {
      const cuda::MatmulMeasurement measurement = cuda::measureMatmul(static_cast<int>(ordinal), problem, path);
      return [measurement](Napi::Env settleEnv) -> Napi::Value { return toObject(settleEnv, measurement); };
    });
  });
}

}  // namespace

void registerMatmul(Napi::Env env, Napi::Object exports) { exports.Set("measureMatmul", Napi::Function::New(env, measureMatmul, "measureMatmul")); }

}  // namespace ladder::binding
