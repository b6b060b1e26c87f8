// Device facts from the driver, device state from NVML; the two meet by UUID, which CUDA_VISIBLE_DEVICES does not reorder.
#include "device.h"

#include <cstdio>

#include "failure.h"
#include "nvml.h"

namespace ladder::cuda {
namespace {

int attribute(int which, Device device) {
  int value = 0;
  check(driver().deviceGetAttribute(&value, which, device), "reading a device attribute");
  return value;
}

Device open(int ordinal) {
  const Driver& cu = driver();
  Device device = 0;
  const Result result = cu.deviceGet(&device, ordinal);
  if (result != kSuccess) throw failure(result, "opening CUDA device " + std::to_string(ordinal), {{"ordinal", double(ordinal)}});
  return device;
}

std::string uuidText(Device device, const char* prefix) {
  Uuid uuid{};
  check(driver().deviceGetUuid(&uuid, device), "reading the device's UUID");
  std::string text = prefix;
  for (int i = 0; i < 16; ++i) {
    char hex[4];
    std::snprintf(hex, sizeof hex, "%02x", uuid.bytes[i]);
    text += hex;
    if (i == 3 || i == 5 || i == 7 || i == 9) text += '-';
  }
  return text;
}

template <typename Read>
std::optional<double> reading(bool present, double scale, Read read) {
  unsigned value = 0;
  if (!present || read(&value) != 0) return std::nullopt;
  return value * scale;
}

}  // namespace

CudaStatus cudaStatus() {
  CudaStatus status;
  if (const Nvml* library = nvml()) {
    status.nvml = true;
    char version[96] = {};
    if (library->systemGetDriverVersion && library->systemGetDriverVersion(version, sizeof version) == 0) status.driverVersion = version;
  }
  if (!driverAbsence().reason.empty()) {
    status.reason = driverAbsence().reason;
    status.remedy = driverAbsence().remedy;
    return status;
  }
  status.available = true;
  driver().driverGetVersion(&status.driverApiVersion);
  driver().deviceGetCount(&status.deviceCount);
  if (status.deviceCount == 0) {
    status.reason = "the CUDA driver sees no device";
    status.remedy = noDeviceRemedy();
  }
  return status;
}

DeviceFacts deviceFacts(int ordinal) {
  const Device device = open(ordinal);
  char name[256] = {};
  check(driver().deviceGetName(name, sizeof name, device), "reading the device's name");
  size_t memoryBytes = 0;
  check(driver().deviceTotalMem(&memoryBytes, device), "reading the device's memory size");
  return {ordinal,
          name,
          uuidText(device, "GPU-"),
          attribute(kAttributeComputeCapabilityMajor, device),
          attribute(kAttributeComputeCapabilityMinor, device),
          attribute(kAttributeMultiprocessorCount, device),
          memoryBytes,
          static_cast<uint64_t>(attribute(kAttributeL2CacheSize, device)),
          static_cast<uint64_t>(attribute(kAttributeMaxSharedMemoryPerBlockOptin, device))};
}

DeviceState deviceState(int ordinal) {
  const Device device = open(ordinal);
  DeviceState state;
  const Nvml* library = nvml();
  if (!library || !library->deviceGetHandleByUuid) return state;
  NvmlDevice handle = nullptr;
  if (library->deviceGetHandleByUuid(uuidText(device, "GPU-").c_str(), &handle) != 0 &&
      library->deviceGetHandleByUuid(uuidText(device, "MIG-").c_str(), &handle) != 0) {
    return state;
  }
  const auto clock = [&](auto function, unsigned kind) {
    return reading(function != nullptr, 1, [&](unsigned* value) { return function(handle, kind, value); });
  };
  state.smClockMHz = clock(library->deviceGetClockInfo, kNvmlClockSm);
  state.memoryClockMHz = clock(library->deviceGetClockInfo, kNvmlClockMemory);
  state.maxSmClockMHz = clock(library->deviceGetMaxClockInfo, kNvmlClockSm);
  state.temperatureC = clock(library->deviceGetTemperature, kNvmlTemperatureGpu);
  state.powerW =
      reading(library->deviceGetPowerUsage != nullptr, 1e-3, [&](unsigned* value) { return library->deviceGetPowerUsage(handle, value); });
  unsigned long long reasons = 0;
  if (library->deviceGetClocksEventReasons && library->deviceGetClocksEventReasons(handle, &reasons) == 0) {
    state.throttleReasons.emplace();
    for (const ClockReason& reason : kClockReasons) {
      if (reasons & reason.bit) state.throttleReasons->push_back(reason.name);
    }
  }
  return state;
}

}  // namespace ladder::cuda
