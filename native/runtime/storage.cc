// Copies between storages.
#include "storage.h"

#include <cstring>

#include "../cuda/failure.h"

namespace ladder::runtime {

void copyStorage(const Storage& target, const Storage& source, uint64_t bytes, const cuda::Stream* stream) {
  if (bytes == 0 || target.data() == source.data()) return;
  if (!target.onDevice() && !source.onDevice()) {
    std::memcpy(target.data(), source.data(), bytes);
  } else if (target.onDevice() && source.onDevice()) {
    cuda::check(cuda::driver().memcpyDtoDAsync(target.pointer(), source.pointer(), bytes, stream->get()), "copying between device buffers");
  } else if (target.onDevice()) {
    cuda::check(cuda::driver().memcpyHtoDAsync(target.pointer(), source.data(), bytes, stream->get()), "copying to the device");
  } else {
    // The host's next operator reads what was copied.
    cuda::check(cuda::driver().memcpyDtoHAsync(target.data(), source.pointer(), bytes, stream->get()), "copying from the device");
    stream->synchronize();
  }
}

void copyFromHost(const Storage& target, const void* source, uint64_t bytes, const cuda::Stream* stream) {
  if (bytes == 0) return;
  if (!target.onDevice()) {
    std::memcpy(target.data(), source, bytes);
    return;
  }
  cuda::check(cuda::driver().memcpyHtoDAsync(target.pointer(), source, bytes, stream->get()), "copying to the device");
  stream->synchronize();
}

void copyToHost(void* target, const Storage& source, uint64_t offset, uint64_t bytes, const cuda::Stream* stream) {
  if (bytes == 0) return;
  if (!source.onDevice()) {
    std::memcpy(target, static_cast<const char*>(source.data()) + offset, bytes);
    return;
  }
  cuda::check(cuda::driver().memcpyDtoHAsync(target, source.pointer() + offset, bytes, stream->get()), "copying from the device");
  stream->synchronize();
}

}  // namespace ladder::runtime
