// The C functions that a model.so expects of its process (TVM 0.12's c_backend_api.h and c_runtime_api.h). They are the only
// symbols of the addon with default visibility, beside cpp_symbols.cc's; visibility.h makes them globally visible.
#include "c_symbols.h"

#include <cstdlib>
#include <exception>
#include <memory>
#include <vector>

#include "../reference/floats.h"
#include "packed_function.h"
#include "parallel.h"
#include "workspace.h"

namespace ladder::tvm_abi {

std::string& lastErrorText() {
  thread_local std::string text;
  return text;
}

std::optional<Error>& pendingError() {
  thread_local std::optional<Error> error;
  return error;
}

namespace {

/// What TVMArrayAlloc hands out: a tensor with its shape.
struct AllocatedTensor : Tensor { std::vector<int64_t> shape; };

/// Runs `body`; what it throws is kept for behind model.so, and −1 returned.
template <typename Body>
int guarded(Body body) noexcept {
  try {
    return body();
  } catch (const Error& error) {
    lastErrorText() = error.message();
    pendingError() = error;
  } catch (const std::exception& error) {
    lastErrorText() = error.what();
    pendingError() = Error("INTERNAL", error.what());
  }
  return -1;
}

}  // namespace
}  // namespace ladder::tvm_abi

using namespace ladder::tvm_abi;

extern "C" {

void TVMAPISetLastError(const char* message) { lastErrorText() = message ? message : ""; }

const char* TVMGetLastError() { return lastErrorText().c_str(); }

int TVMFuncCall(void* function, Value* arguments, int* codes, int count, Value* result, int* resultCode) {
  return guarded([&] {
    *resultCode = kCodeNull;
    static_cast<PackedFunction*>(function)->call(arguments, codes, count, result, resultCode);
    return 0;
  });
}

int TVMBackendGetFuncFromEnv(void* context, const char* name, void** function) {
  return guarded([&] {
    PackedFunction* found = context ? static_cast<FunctionSource*>(context)->find(name) : nullptr;
    if (!found) found = findGlobalFunction(name);
    if (!found) {
      throw ladder::Error("MISSING_SYMBOL",
                          "model.so calls the function `" + std::string(name) +
                              "`, which is neither in its device code, nor exported by it, nor one that this runtime provides",
                          {{"symbol", std::string(name)}});
    }
    *function = found;
    return 0;
  });
}

void* TVMBackendAllocWorkspace(int deviceType, int deviceId, uint64_t bytes, int, int) {
  void* memory = nullptr;
  guarded([&] {
    memory = workspacePool().allocate(deviceType, deviceId, bytes);
    return 0;
  });
  return memory;
}

int TVMBackendFreeWorkspace(int deviceType, int deviceId, void* memory) {
  return guarded([&] {
    workspacePool().release(deviceType, deviceId, memory);
    return 0;
  });
}

int TVMBackendParallelLaunch(ParallelTask task, void* data, int taskCount) {
  return guarded([&] { return parallelLaunch(task, data, taskCount); });
}

int TVMBackendParallelBarrier(int, ParallelGroup* group) {
  parallelBarrier(group);
  return 0;
}

int TVMBackendRunOnce(void** once, int (*body)(void*), void* data, int) {
  if (*once) return 0;
  const int status = body(data);
  if (status == 0) *once = reinterpret_cast<void*>(1);
  return status;
}

int TVMFuncGetGlobal(const char* name, void** function) {
  return guarded([&] {
    *function = findGlobalFunction(name);  // null, and no error, where there is none
    return 0;
  });
}

int TVMFuncFree(void*) { return 0; }

// Memory that an operator allocates and frees in each call is the same in each: it comes from the executor's pool, as scratch
// memory does, and is given back with the executor if it is never freed.
int TVMDeviceAllocDataSpace(DeviceOf device, size_t bytes, size_t alignment, ElementType, void** memory) {
  return guarded([&] {
    if (alignment > kPoolAlignment) {
      throw ladder::Error("UNSUPPORTED", "model.so asks for memory aligned to " + std::to_string(alignment) + " bytes; at most " +
                                             std::to_string(kPoolAlignment) + " are given");
    }
    *memory = workspacePool().allocate(device.type, device.id, bytes);
    return 0;
  });
}

int TVMDeviceFreeDataSpace(DeviceOf device, void* memory) { return TVMBackendFreeWorkspace(device.type, device.id, memory); }

int TVMArrayAlloc(const int64_t* shape, int dimensions, int code, int bits, int lanes, int deviceType, int deviceId, Tensor** tensor) {
  return guarded([&] {
    uint64_t bytes = (static_cast<uint64_t>(bits) * static_cast<uint64_t>(lanes) + 7) / 8;
    for (int i = 0; i < dimensions; ++i) {
      if (shape[i] < 0 || __builtin_mul_overflow(bytes, static_cast<uint64_t>(shape[i]), &bytes))
        throw ladder::Error("OPERATOR", "model.so asks for a tensor with an extent of " + std::to_string(shape[i]));
    }
    auto made = std::make_unique<AllocatedTensor>();
    made->shape.assign(shape, shape + dimensions);
    static_cast<Tensor&>(*made) = {workspacePool().allocate(deviceType, deviceId, bytes),
                                   deviceType,
                                   deviceId,
                                   dimensions,
                                   static_cast<uint8_t>(code),
                                   static_cast<uint8_t>(bits),
                                   static_cast<uint16_t>(lanes),
                                   made->shape.data(),
                                   nullptr,
                                   0};
    *tensor = made.release();
    return 0;
  });
}

int TVMArrayFree(Tensor* tensor) {
  const std::unique_ptr<AllocatedTensor> owned(static_cast<AllocatedTensor*>(tensor));
  return TVMBackendFreeWorkspace(owned->deviceType, owned->deviceId, owned->data);
}

uint16_t __gnu_f2h_ieee(float value) { return ladder::reference::floatToHalf(value); }

float __gnu_h2f_ieee(uint16_t code) { return ladder::reference::halfToFloat(code); }

// A system library registers its functions here when it is loaded. Ours are found by dlsym, so nothing is kept.
int TVMBackendRegisterSystemLibSymbol(const char*, void*) { return 0; }
}
