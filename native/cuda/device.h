// What the driver and NVML (libnvidia-ml.so.1, opened at first use) say of the devices.
// Needs no context. Absence of NVML is an answer, never an error.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace ladder::cuda {

struct DeviceFacts {
  int ordinal;
  std::string name;
  std::string uuid;  // "GPU-…", as nvidia-smi prints it
  int computeMajor;
  int computeMinor;
  int multiprocessors;
  uint64_t memoryBytes;
  uint64_t l2Bytes;
  uint64_t sharedMemoryPerBlockBytes;  // with opt-in
};

struct DeviceState {
  std::optional<double> smClockMHz;
  std::optional<double> memoryClockMHz;
  std::optional<double> maxSmClockMHz;
  std::optional<double> temperatureC;
  std::optional<double> powerW;
  std::optional<std::vector<std::string>> throttleReasons;
};

struct CudaStatus {
  bool available = false;
  int driverApiVersion = 0;
  std::optional<std::string> driverVersion;
  bool nvml = false;
  int deviceCount = 0;
  std::optional<std::string> reason;
  std::optional<std::string> remedy;
};

/// Never throws.
CudaStatus cudaStatus();

/// @throws Error NO_DRIVER, NO_DEVICE
DeviceFacts deviceFacts(int ordinal);

/// NVML's reading now. @throws Error NO_DRIVER, NO_DEVICE (only for the ordinal)
DeviceState deviceState(int ordinal);

}  // namespace ladder::cuda
