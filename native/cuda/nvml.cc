// Opens NVML once per process.
#include "nvml.h"

#include <dlfcn.h>

namespace ladder::cuda {
namespace {

template <typename Function>
void find(void* library, Function& target, const char* name, const char* olderName = nullptr) {
  target = reinterpret_cast<Function>(dlsym(library, name));
  if (!target && olderName) target = reinterpret_cast<Function>(dlsym(library, olderName));
}

const Nvml* load() {
  void* library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library) library = dlopen("/usr/lib/wsl/lib/libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library) return nullptr;
  int (*init)() = nullptr;
  find(library, init, "nvmlInit_v2");
  if (!init || init() != 0) return nullptr;
  auto* functions = new Nvml();
  find(library, functions->systemGetDriverVersion, "nvmlSystemGetDriverVersion");
  find(library, functions->deviceGetHandleByUuid, "nvmlDeviceGetHandleByUUID");
  find(library, functions->deviceGetClockInfo, "nvmlDeviceGetClockInfo");
  find(library, functions->deviceGetMaxClockInfo, "nvmlDeviceGetMaxClockInfo");
  find(library, functions->deviceGetTemperature, "nvmlDeviceGetTemperature");
  find(library, functions->deviceGetPowerUsage, "nvmlDeviceGetPowerUsage");
  find(library, functions->deviceGetClocksEventReasons, "nvmlDeviceGetCurrentClocksEventReasons",
       "nvmlDeviceGetCurrentClocksThrottleReasons");
  return functions;
}

}  // namespace

const Nvml* nvml() {
  static const Nvml* const kLoaded = load();
  return kLoaded;
}

}  // namespace ladder::cuda
