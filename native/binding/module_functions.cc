// The functions of NativeAddon, in the order of lib/native.ts.
#include "module_functions.h"

#include <array>

#include "../cuda/device.h"
#include "../cuda/device_kernels.h"
#include "../runtime/accounting.h"
#include "../runtime/elements.h"
#include "../tvm_abi/packed_function.h"
#include "errors.h"
#include "executor_object.h"
#include "matmul_binding.h"
#include "pack_binding.h"
#include "plan_reader.h"

namespace ladder::binding {
namespace {

using Info = Napi::CallbackInfo;

template <typename Optional>
Napi::Value orNull(Napi::Env env, const Optional& value) {
  return value ? Napi::Value::From(env, *value) : env.Null();
}

void setErrorClass(const Info& info) {
  guarded(info.Env(), [&] {
    if (!info[0].IsFunction()) throw Error("BAD_ARGUMENT", "expected a class for `errorClass` but received " + describe(info[0]));
    EnvState::of(info.Env()).errorClass = Napi::Persistent(info[0].As<Napi::Function>());
  });
}

Napi::Value cudaStatus(const Info& info) {
  const cuda::CudaStatus status = cuda::cudaStatus();
  const Napi::Object object = Napi::Object::New(info.Env());
  object.Set("available", status.available);
  object.Set("driverApiVersion", status.driverApiVersion);
  object.Set("driverVersion", orNull(info.Env(), status.driverVersion));
  object.Set("nvml", status.nvml);
  object.Set("deviceCount", status.deviceCount);
  object.Set("reason", orNull(info.Env(), status.reason));
  object.Set("remedy", orNull(info.Env(), status.remedy));
  return object;
}

Napi::Value devices(const Info& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const int count = cuda::cudaStatus().deviceCount;
    const Napi::Array list = Napi::Array::New(info.Env(), static_cast<size_t>(count));
    for (int ordinal = 0; ordinal < count; ++ordinal) {
      const cuda::DeviceFacts facts = cuda::deviceFacts(ordinal);
      const Napi::Object object = Napi::Object::New(info.Env());
      const Napi::Array capability = Napi::Array::New(info.Env(), 2);
      capability.Set(0u, facts.computeMajor);
      capability.Set(1u, facts.computeMinor);
      object.Set("ordinal", facts.ordinal);
      object.Set("name", facts.name);
      object.Set("uuid", facts.uuid);
      object.Set("computeCapability", capability);
      object.Set("multiprocessors", facts.multiprocessors);
      object.Set("memoryBytes", double(facts.memoryBytes));
      object.Set("l2Bytes", double(facts.l2Bytes));
      object.Set("sharedMemoryPerBlockBytes", double(facts.sharedMemoryPerBlockBytes));
      list.Set(static_cast<uint32_t>(ordinal), object);
    }
    return list;
  });
}

Napi::Value deviceState(const Info& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Env env = info.Env();
    const cuda::DeviceState state = cuda::deviceState(static_cast<int>(readInteger(info[0], "ordinal")));
    const Napi::Object object = Napi::Object::New(env);
    object.Set("smClockMHz", orNull(env, state.smClockMHz));
    object.Set("memoryClockMHz", orNull(env, state.memoryClockMHz));
    object.Set("maxSmClockMHz", orNull(env, state.maxSmClockMHz));
    object.Set("temperatureC", orNull(env, state.temperatureC));
    object.Set("powerW", orNull(env, state.powerW));
    if (!state.throttleReasons) {
      object.Set("throttleReasons", env.Null());
      return object;
    }
    const Napi::Array reasons = Napi::Array::New(env, state.throttleReasons->size());
    for (uint32_t i = 0; i < state.throttleReasons->size(); ++i) reasons.Set(i, (*state.throttleReasons)[i]);
    object.Set("throttleReasons", reasons);
    return object;
  });
}

/// A task on a thread of its own, which ends with it.
Napi::Value submitAlone(Napi::Env env, std::shared_ptr<Task> task, Work work) {
  EnvState& state = EnvState::of(env);
  task->endsSession = true;
  return state.submit(state.openSession(), std::move(task), std::move(work));
}

Napi::Value measureReadBandwidth(const Info& info) {
  return guardedAsync(info.Env(), [&] {
    const auto ordinal = static_cast<int>(readInteger(info[0], "ordinal"));
    const uint64_t sizeBytes = readCount(info[1], "sizeBytes");
    const uint64_t repeats = readCount(info[2], "repeats");
    if (sizeBytes < 16 || repeats < 1 || repeats > 1'000'000)
      throw Error("BAD_ARGUMENT", "expected at least 16 for `sizeBytes` and 1 to 1000000 for `repeats`");
    return submitAlone(info.Env(), std::make_shared<Task>(info.Env()), [=](Task&) -> Settle {
      const double bytesPerSecond = cuda::measureReadBandwidth(ordinal, sizeBytes, static_cast<int>(repeats));
      return [bytesPerSecond](Napi::Env env) { return Napi::Number::New(env, bytesPerSecond); };
    });
  });
}

Napi::Value openExecutor(const Info& info) {
  return guardedAsync(info.Env(), [&] {
    EnvState& state = EnvState::of(info.Env());
    auto plan = std::make_shared<runtime::ExecutorPlan>(readPlan(info[0]));
    std::vector<uint64_t> entrySizes;
    for (const runtime::PlanEntry& entry : plan->entries) entrySizes.push_back(entry.sizeBytes);
    auto task = std::make_shared<Task>(info.Env());
    task->endsSessionOnError = true;
    return state.submit(state.openSession(), std::move(task), [plan, entrySizes](Task& running) -> Settle {
      running.session->executor = std::make_unique<runtime::Executor>(std::move(*plan));
      return [times = running.session->executor->loadTimes(), entrySizes, session = running.session](Napi::Env env) {
        return ExecutorObject::create(env, session, times, entrySizes);
      };
    });
  });
}

Napi::Value referenceRun(const Info& info) {
  return guardedAsync(info.Env(), [&] {
    const Fields call(info[0], "call");
    reference::Program program = readProgram(call.value("program"), "call.program");
    auto task = std::make_shared<Task>(info.Env());
    std::vector<reference::Buffer> inputs;
    call.each("inputs", [&](Napi::Value item, const std::string& name) {
      const ByteView bytes = readBytes(item, name);
      inputs.push_back({bytes.data, bytes.size});
      task->keep(item.As<Napi::Object>());
    });
    std::vector<reference::MutableBuffer> outputs;
    call.each("outputs", [&](Napi::Value item, const std::string& name) {
      const ByteView bytes = readBytes(item, name);
      outputs.push_back({bytes.data, bytes.size});
      task->keep(item.As<Napi::Object>());
    });
    return submitAlone(info.Env(), std::move(task), [program = std::move(program), inputs, outputs](Task& running) -> Settle {
      reference::runProgram(program, inputs, outputs, &running.cancelled);
      return [](Napi::Env env) { return env.Undefined(); };
    });
  });
}

Napi::Value compareTensors(const Info& info) {
  return guardedAsync(info.Env(), [&] {
    runtime::DataType type = readDataType(info[0], "dtype");
    auto task = std::make_shared<Task>(info.Env());
    const char* const kNames[] = {"first", "second", "expected"};
    std::array<ByteView, 3> views{};
    for (size_t i = 0; i < views.size(); ++i) {
      if (i == 2 && info[3].IsNull()) continue;
      views[i] = readBytes(info[i + 1], kNames[i]);
      if (views[i].size != views[0].size || views[i].size % type.elementBytes() != 0) {
        throw Error("WRONG_LENGTH", std::string("expected whole elements, as many as in `first`, for `") + kNames[i] + "` but received " +
                                        std::to_string(views[i].size) + " bytes");
      }
      task->keep(info[i + 1].As<Napi::Object>());
    }
    return submitAlone(info.Env(), std::move(task), [type = std::move(type), views](Task& running) -> Settle {
      const auto [first, second, expected] = views;
      const runtime::Elements elements{type, first.data, first.size};
      const int64_t nonFinite = runtime::countNonFinite(elements, &running.cancelled);
      const bool equal = runtime::sameBytes(first.data, second.data, first.size, &running.cancelled);
      std::optional<runtime::Difference> between, error;
      if (!equal) between = runtime::difference(elements, second.data, &running.cancelled);
      if (expected.data) error = runtime::difference(elements, expected.data, &running.cancelled);
      return [=](Napi::Env env) -> Napi::Value {
        const Napi::Object object = Napi::Object::New(env);
        object.Set("nonFinite", double(nonFinite));
        object.Set("equal", equal);
        object.Set("maxDifference", between ? between->largest : 0);
        object.Set("relativeL2", error ? Napi::Value::From(env, error->relativeL2) : env.Null());
        return object;
      };
    });
  });
}

void fillBytes(const Info& info) {
  guarded(info.Env(), [&] {
    const runtime::DataType type = readDataType(info[2], "dtype");
    const ByteView target = readBytes(info[4], "target");
    reference::fill(readFill(info[0], "fill"), readBigInt(info[1], "key"), type.code, type.bits, readCount(info[3], "firstElement"),
                    target.data, target.size);
  });
}

Napi::Value globalFunctions(const Info& info) {
  const std::vector<std::string> names = tvm_abi::globalFunctionNames();
  const Napi::Array list = Napi::Array::New(info.Env(), names.size());
  for (uint32_t i = 0; i < names.size(); ++i) list.Set(i, names[i]);
  return list;
}

Napi::Value allocatedBytes(const Info& info) {
  const Napi::Object object = Napi::Object::New(info.Env());
  object.Set("host", double(accounting().hostBytes));
  object.Set("device", double(accounting().deviceBytes));
  return object;
}

}  // namespace

Napi::Object registerAddon(Napi::Env env, Napi::Object exports) {
  auto* state = new EnvState(env);
  env.SetInstanceData(state);
  state->executorClass = Napi::Persistent(ExecutorObject::define(env));
  const auto add = [&](const char* name, auto function) { exports.Set(name, Napi::Function::New(env, function, name)); };
  add("setErrorClass", setErrorClass);
  add("cudaStatus", cudaStatus);
  add("devices", devices);
  add("deviceState", deviceState);
  add("measureReadBandwidth", measureReadBandwidth);
  add("openExecutor", openExecutor);
  add("referenceRun", referenceRun);
  add("compareTensors", compareTensors);
  add("fillBytes", fillBytes);
  add("globalFunctions", globalFunctions);
  add("allocatedBytes", allocatedBytes);
  registerMatmul(env, exports);
  registerPack(env, exports);
  return exports;
}

}  // namespace ladder::binding
