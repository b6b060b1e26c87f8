// Opens libcuda.so.1 once per process. The library is never closed: other code of the process may use it too.
#include "driver.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>

#include "../runtime/error.h"

namespace ladder::cuda {
namespace {

/// Where the library may lie without being found by name: WSL keeps it outside the linker's folders.
constexpr const char* kLibraries[] = {"libcuda.so.1", "/usr/lib/wsl/lib/libcuda.so.1"};

bool exists(const char* path) { return access(path, F_OK) == 0; }

bool inContainer() { return exists("/.dockerenv") || exists("/run/.containerenv"); }

std::string visibleDevices() {
  const char* value = std::getenv("CUDA_VISIBLE_DEVICES");
  return value ? std::string("CUDA_VISIBLE_DEVICES is \"") + value + "\"" : std::string();
}

const char* missingLibraryRemedy() {
  if (exists("/dev/dxg")) return "in WSL the driver is Windows': install NVIDIA's driver there, none in Linux, and run `wsl --update`";
  if (exists("/dev/nvidia0") || exists("/proc/driver/nvidia/version"))
    return inContainer()
               ? "the GPU is there but not the driver's libraries: start the container with the NVIDIA container toolkit, " "and `compute` among NVIDIA_DRIVER_CAPABILITIES"
               : "the kernel module is there but not the library: install libcuda.so.1 (package libnvidia-compute) of the same " "version, or add its folder to LD_LIBRARY_PATH";
  return inContainer() ? "start the container with its GPU passed through (`--gpus all`, with the NVIDIA container toolkit)"
                       : "install NVIDIA's driver";
}

/// What to do about a cuInit that failed.
std::string initRemedy(Result result) {
  switch (result) {
    case kErrorStubLibrary: return "libcuda.so.1 is the CUDA toolkit's stub: take its folder (`stubs`) out of LD_LIBRARY_PATH";
    case kErrorNoDevice:
      if (!visibleDevices().empty()) return visibleDevices() + ", which hides every GPU: unset it, or name one that `nvidia-smi -L` lists";
      return inContainer() ? "start the container with its GPU passed through (`--gpus all`)"
                           : "look whether `nvidia-smi` shows a GPU and whether /dev/nvidia0 may be opened";
    case kErrorInvalidDevice: return "the GPU cannot be used by this driver; see `nvidia-smi` and the kernel's log (`dmesg`)";
    case kErrorSystemNotReady: return "the system is not ready: on machines with NVSwitch start nvidia-fabricmanager";
    case kErrorSystemDriverMismatch:
      return "libcuda.so.1 and the kernel module differ in version: reboot after an update of the driver; in a container take the toolkit's " "`compat` folder out of LD_LIBRARY_PATH, or update the host's driver";
    case kErrorCompatNotSupported:
      return "the forward-compatible libcuda.so.1 of the CUDA toolkit does not run on this GPU: take its `compat` folder out of " "LD_LIBRARY_PATH and update the driver";
    case kErrorUnknown:
      return "mostly the module nvidia_uvm is not loaded or in a bad state, as after a suspend: run `sudo modprobe -r nvidia_uvm && sudo " "modprobe nvidia_uvm` (in a container: see that /dev/nvidia-uvm is there), else reboot";
    default: return "see `nvidia-smi` and the kernel's log (`dmesg`)";
  }
}

struct LoadedDriver {
  Driver functions;
  DriverAbsence absence;

  LoadedDriver() {
    void* library = nullptr;
    std::string reason;
    for (const char* name : kLibraries) {
      library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
      if (library) break;
      const char* text = dlerror();
      if (reason.empty()) reason = text ? text : "no reason given";
    }
    if (!library) {
      absence = {"libcuda.so.1 could not be loaded (" + reason + ")", missingLibraryRemedy()};
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
      absence = {"libcuda.so.1 lacks " + missing + ": the driver is older than CUDA 11.4", "update NVIDIA's driver"};
      return;
    }
    const Result result = functions.init(0);
    if (result == kSuccess) return;
    const char* name = nullptr;
    const char* text = nullptr;
    functions.getErrorName(result, &name);
    functions.getErrorString(result, &text);
    absence = {std::string("cuInit failed: ") + (name ? name : std::to_string(result)) + (text ? std::string(" (") + text + ")" : ""),
               initRemedy(result)};
  }
};

// Leaked on purpose: threads may still use it while static objects are destroyed.
const LoadedDriver& loadedDriver() {
  static const LoadedDriver* const kLoaded = new LoadedDriver();
  return *kLoaded;
}

}  // namespace

const DriverAbsence& driverAbsence() { return loadedDriver().absence; }

std::string noDeviceRemedy() { return initRemedy(kErrorNoDevice); }

const Driver& driver() {
  const LoadedDriver& loaded = loadedDriver();
  if (!loaded.absence.reason.empty()) {
    throw Error("NO_DRIVER",
                "no usable CUDA driver: " + loaded.absence.reason + "; " + loaded.absence.remedy + "; or run on the CPU (`--device cpu`)");
  }
  return loaded.functions;
}

}  // namespace ladder::cuda
