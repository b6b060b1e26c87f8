// NVML's functions that this project uses, with declarations of its own (NVML API reference).
#pragma once

#include <cstddef>

namespace ladder::cuda {

using NvmlDevice = struct NvmlDeviceOpaque*;

constexpr unsigned kNvmlClockSm = 1;
constexpr unsigned kNvmlClockMemory = 2;
constexpr unsigned kNvmlTemperatureGpu = 0;

/// Functions return 0 for success; those that this NVML lacks are null.
struct Nvml {
  int (*systemGetDriverVersion)(char*, unsigned) = nullptr;
  int (*deviceGetHandleByUuid)(const char*, NvmlDevice*) = nullptr;
  int (*deviceGetClockInfo)(NvmlDevice, unsigned, unsigned*) = nullptr;
  int (*deviceGetMaxClockInfo)(NvmlDevice, unsigned, unsigned*) = nullptr;
  int (*deviceGetTemperature)(NvmlDevice, unsigned, unsigned*) = nullptr;
  int (*deviceGetPowerUsage)(NvmlDevice, unsigned*) = nullptr;
  int (*deviceGetClocksEventReasons)(NvmlDevice, unsigned long long*) = nullptr;
};

/// The library, initialised, or null.
const Nvml* nvml();

/// A clock-event reason: NVML's bit and our name for it.
struct ClockReason {
  unsigned long long bit;
  const char* name;
};
// clang-format off
constexpr ClockReason kClockReasons[] = {
    {0x001, "gpu_idle"},          {0x002, "applications_clocks_setting"}, {0x004, "sw_power_cap"},
    {0x008, "hw_slowdown"},       {0x010, "sync_boost"},                  {0x020, "sw_thermal_slowdown"},
    {0x040, "hw_thermal_slowdown"}, {0x080, "hw_power_brake_slowdown"},   {0x100, "display_clock_setting"},
};
// clang-format on

}  // namespace ladder::cuda
