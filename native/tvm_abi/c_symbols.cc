// The C functions that a model.so expects of its process (TVM 0.12's c_backend_api.h and c_runtime_api.h). They are the only
// symbols of the addon with default visibility, beside cpp_symbols.cc's; visibility.h makes them globally visible.
#include "c_symbols.h"

#include <cstdlib>
#include <exception>

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

// A system library registers its functions here when it is loaded. Ours are found by dlsym, so nothing is kept.
int TVMBackendRegisterSystemLibSymbol(const char*, void*) { return 0; }
}
