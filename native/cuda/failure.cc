// Which CUresult becomes which error code, and what to do about it.
#include "failure.h"

#include <cstdio>

namespace ladder::cuda {
namespace {

const char* codeOf(Result result) {
  switch (result) {
    case kErrorOutOfMemory: return "OUT_OF_MEMORY";
    case kErrorNoDevice:
    case kErrorInvalidDevice: return "NO_DEVICE";
    case kErrorInvalidDeviceFunction:
    case kErrorNoBinaryForGpu:
    case kErrorInvalidPtx:
    case kErrorUnsupportedPtxVersion: return "WRONG_ARCHITECTURE";
    default: return "CUDA";
  }
}

const char* remedyOf(Result result) {
  switch (result) {
    case kErrorOutOfMemory: return "dispose other checkpoints, end other processes on this GPU, or choose a smaller batch";
    case kErrorNoDevice:
    case kErrorInvalidDevice: return "see `ladder doctor` and CUDA_VISIBLE_DEVICES for the devices of this process";
    case kErrorInvalidConfiguration: return "the grid or block is beyond what this GPU takes; rebuild model.so for it";
    case kErrorInsufficientDriver: return "the CUDA runtime in model.so is newer than the driver; update the driver";
    case kErrorInvalidDeviceFunction:
    case kErrorNoBinaryForGpu: return "rebuild model.so for this GPU (`ladder build`), or add PTX to it";
    case kErrorInvalidPtx: return "the PTX uses what this GPU does not have; rebuild model.so for it (`ladder build`)";
    case kErrorUnsupportedPtxVersion:
      return "the PTX is newer than the driver; update the driver or rebuild model.so with an older toolkit";
    case kErrorJitCompilerNotFound: return "install libnvidia-ptxjitcompiler, which is part of the driver";
    case kErrorJitCompilationDisabled: return "unset CUDA_DISABLE_PTX_JIT, or rebuild model.so for this GPU";
    case kErrorInvalidImage: return "the device code is damaged; rebuild model.so (`ladder build`)";
    case kErrorLaunchOutOfResources: return "the kernel wants more registers or shared memory than this GPU has; rebuild model.so for it";
    case kErrorSystemDriverMismatch: return "libcuda.so.1 and the kernel module differ in version; reboot or reinstall the driver";
    default: return "";
  }
}

/// Of errors that only the CUDA runtime inside a model.so reports; the driver does not know their names.
const char* runtimeName(Result result) {
  switch (result) {
    case kErrorInvalidConfiguration: return "cudaErrorInvalidConfiguration";
    case kErrorInsufficientDriver: return "cudaErrorInsufficientDriver";
    case kErrorInvalidDeviceFunction: return "cudaErrorInvalidDeviceFunction";
    default: return nullptr;
  }
}

}  // namespace

bool isSticky(Result result) noexcept {
  switch (result) {
    case kErrorEccUncorrectable:
    case kErrorNvlinkUncorrectable:
    case kErrorContained:
    case kErrorIllegalAddress:
    case kErrorLaunchTimeout:
    case kErrorContextIsDestroyed:
    case kErrorAssert: return true;
    default: return result >= kErrorHardwareStackError && result <= kErrorLaunchFailed;
  }
}

Error failure(Result result, const std::string& doing, ErrorContext context) {
  const char* name = nullptr;
  const char* text = nullptr;
  if (const char* known = runtimeName(result)) {
    name = known;
  } else if (driverAbsence().reason.empty()) {
    driver().getErrorName(result, &name);
    driver().getErrorString(result, &text);
  }
  const std::string cudaName = name ? name : "CUDA error " + std::to_string(result);
  std::string message = doing + " failed: " + cudaName + (text ? std::string(" (") + text + ")" : "");
  const std::string remedy = remedyOf(result);
  if (!remedy.empty()) message += "; " + remedy;
  if (isSticky(result)) {
    message += "; this process's CUDA context is lost: start a new process";
    context.emplace("contextLost", 1.0);
  }
  context.emplace("cudaName", cudaName);
  context.emplace("cudaText", text ? text : "");
  return Error(codeOf(result), message, std::move(context));
}

std::string bytesText(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  while (value >= 1024 && unit < 4) {
    value /= 1024;
    ++unit;
  }
  char text[48];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", value, kUnits[unit]);
  return text;
}

}  // namespace ladder::cuda
