// Opens libcuda.so.1 once per process. The library is never closed: other code of the process may use it too.
#include "driver.h"

#include <dlfcn.h>

#include "../runtime/error.h"

namespace ladder::cuda {
namespace {

struct LoadedDriver {
  Driver functions;
  std::string absence;

  LoadedDriver() {
    void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) {
      const char* reason = dlerror();
      absence = std::string("libcuda.so.1 could not be loaded (") + (reason ? reason : "no reason given") + ")";
      return;
    }
    std::string missing;
#define LADDER_FIND(member, symbol, ...)                                                \
  functions.member = reinterpret_cast<Result (*)(__VA_ARGS__)>(dlsym(library, symbol)); \
  if (!functions.member && missing.empty()) missing = symbol;
    LADDER_CUDA_FUNCTIONS(LADDER_FIND)
#undef LADDER_FIND
#define LADDER_FIND(member, symbol, ...) functions.member = reinterpret_cast<Result (*)(__VA_ARGS__)>(dlsym(library, symbol));
    LADDER_CUDA_OPTIONAL_FUNCTIONS(LADDER_FIND)
#undef LADDER_FIND
    if (!missing.empty()) {
      absence = "libcuda.so.1 lacks " + missing + ": the driver is older than CUDA 11.4";
      return;
    }
    const Result result = functions.init(0);
    if (result == kSuccess) return;
    const char* name = nullptr;
    const char* text = nullptr;
    functions.getErrorName(result, &name);
    functions.getErrorString(result, &text);
    absence = std::string("cuInit failed: ") + (name ? name : std::to_string(result)) + (text ? std::string(" (") + text + ")" : "");
  }
};

// Leaked on purpose: threads may still use it while static objects are destroyed.
const LoadedDriver& loadedDriver() {
  static const LoadedDriver* const kLoaded = new LoadedDriver();
  return *kLoaded;
}

}  // namespace

const std::string& driverAbsence() { return loadedDriver().absence; }

const Driver& driver() {
  const LoadedDriver& loaded = loadedDriver();
  if (!loaded.absence.empty()) {
    throw Error("NO_DRIVER", "no usable CUDA driver: " + loaded.absence +
                                 "; install NVIDIA's driver (in a container: pass the GPU through), or run on the CPU (`--device cpu`)");
  }
  return loaded.functions;
}

}  // namespace ladder::cuda
