// measureMatmul(ordinal, {m, n, k, type, library}): JavaScript values to a product, and its measurement back.
// Runs on a session's thread of its own, which ends with it. The product itself: cuda/cublaslt.h.
#include "matmul_binding.h"

#include "../cuda/cublaslt.h"
#include "env_state.h"
#include "errors.h"
#include "reader.h"

namespace ladder::binding {
namespace {

cuda::MatmulType typeOf(const std::string& text) {
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
    const auto ordinal = static_cast<int>(readInteger(info[0], "ordinal"));
    const Fields request(info[1], "matmul");
    const cuda::MatmulProblem problem{request.integer("m"), request.integer("n"), request.integer("k"), typeOf(request.text("type"))};
    const std::string path = request.isNull("library") ? std::string() : request.text("library");
    auto task = std::make_shared<Task>(env);
    task->endsSession = true;
    EnvState& state = EnvState::of(env);
    return state.submit(state.openSession(), task, [ordinal, problem, path](Task&) -> Settle {
      const cuda::MatmulMeasurement measurement = cuda::measureMatmul(ordinal, problem, path);
      return [measurement](Napi::Env settleEnv) -> Napi::Value { return toObject(settleEnv, measurement); };
    });
  });
}

}  // namespace

void registerMatmul(Napi::Env env, Napi::Object exports) {
  exports.Set("measureMatmul", Napi::Function::New(env, measureMatmul, "measureMatmul"));
}

}  // namespace ladder::binding
