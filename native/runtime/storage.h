// One buffer of the plan, on the host or on the device, and copies between such buffers.
#pragma once

#include "../cuda/handles.h"
#include "host_buffer.h"

namespace ladder::runtime {

class Storage {
 public:
  /// @param deviceType DLPack's: 1 CPU, 2 CUDA
  Storage(int deviceType, uint64_t bytes, const char* what) {
    if (deviceType == 2) {
      device_ = cuda::DeviceBuffer(bytes, what);
    } else {
      host_ = HostBuffer(bytes, what);
    }
  }
  bool onDevice() const noexcept { return device_.get() != 0; }
  void* data() const noexcept { return onDevice() ? device_.data() : host_.data(); }
  cuda::DevicePointer pointer() const noexcept { return device_.get(); }

 private:
  HostBuffer host_;
  cuda::DeviceBuffer device_;
};

/// Copies; on the stream where the device takes part, and then asynchronously. `stream` may be null between host buffers.
/// @throws Error CUDA
void copyStorage(const Storage& target, const Storage& source, uint64_t bytes, const cuda::Stream* stream);
/// Copies from or to pageable host memory and waits.
void copyFromHost(const Storage& target, const void* source, uint64_t bytes, const cuda::Stream* stream);
void copyToHost(void* target, const Storage& source, uint64_t offset, uint64_t bytes, const cuda::Stream* stream);

}  // namespace ladder::runtime
