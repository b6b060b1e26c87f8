// Host memory of storages and workspaces: page-aligned, zero at first, counted in accounting(), given back at once when freed.
#pragma once

#include <sys/mman.h>

#include <string>
#include <utility>

#include "accounting.h"
#include "error.h"

namespace ladder {

class HostBuffer {
 public:
  HostBuffer() = default;
  /// @param what names the memory in the error. @throws Error OUT_OF_MEMORY
  HostBuffer(size_t bytes, const char* what) : bytes_(bytes ? bytes : 1) {
    data_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data_ == MAP_FAILED) {
      data_ = nullptr;
      throw Error("OUT_OF_MEMORY",
                  "allocating " + std::to_string(bytes) + " bytes of host memory for " + what +
                      " failed; free memory or choose a smaller batch",
                  {{"requestedBytes", double(bytes)}});
    }
    accounting().hostBytes += static_cast<int64_t>(bytes_);
  }
  ~HostBuffer() {
    if (!data_) return;
    munmap(data_, bytes_);
    accounting().hostBytes -= static_cast<int64_t>(bytes_);
  }
  HostBuffer(HostBuffer&& other) noexcept { swap(other); }
  HostBuffer& operator=(HostBuffer&& other) noexcept {
    swap(other);
    return *this;
  }
  void* data() const noexcept { return data_; }
  size_t bytes() const noexcept { return bytes_; }

 private:
  void swap(HostBuffer& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
  }
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace ladder
