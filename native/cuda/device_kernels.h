// Launches of the addon's own device code: fills, the read sweep of the bandwidth measurement, the delay.
// The code itself is embedded_ptx.h's.
#pragma once

#include <cstdint>

#include "embedded_module.h"

namespace ladder::cuda {

/// The embedded module in one context. Any thread may launch.
class DeviceKernels {
 public:
  explicit DeviceKernels(int ordinal);
  /// Those of a device, compiled by the driver at the first call in the process, and kept.
  static DeviceKernels& of(int ordinal);
  /// Whether they are compiled already.
  static bool ready(int ordinal);

  /// byte = base + (r & mask), plus r & 0x80 when `isSigned`; `bits` is fillWords(…, 0xff, 0, false).
  void fillWords(const Stream& stream, DevicePointer target, uint64_t bytes, uint64_t key, uint8_t mask, uint8_t base, bool isSigned);
  /// Uniform values of the DLPack scalar type. @throws Error UNSUPPORTED for a type without such a fill
  void fillUniform(const Stream& stream, DevicePointer target, uint64_t elements, uint64_t key, uint8_t typeCode, uint8_t bits, float low,
                   float high);
  void read(const Stream& stream, DevicePointer source, uint64_t bytes, DevicePointer sink);
  /// Occupies the stream for at least that long, so that the host can enqueue ahead of the device.
  void delay(const Stream& stream, uint64_t nanoseconds);

 private:
  EmbeddedModule module_;
};

/// The best of `repeats` sweeps over `sizeBytes` of device memory, in bytes per second.
double measureReadBandwidth(int ordinal, uint64_t sizeBytes, int repeats);

}  // namespace ladder::cuda
