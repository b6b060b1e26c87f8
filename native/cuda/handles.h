// Move-only owners of the driver's objects: device and pinned memory, streams, events.
// All need the context of `makeCurrent` on the calling thread. Destructors ignore failures (the context may be lost).
#pragma once

#include <utility>

#include "driver.h"

namespace ladder::cuda {

/// Makes the device's primary context (the one that the CUDA runtime API uses too) current on this thread. It is kept until
/// the process ends: objects with a runtime of their own inside hold state in it.
/// @throws Error NO_DRIVER, NO_DEVICE, CUDA
void makeCurrent(int ordinal);

/// The same while it lives, on a thread that others may use for CUDA as well.
class ContextScope {
 public:
  /// @throws Error as makeCurrent
  explicit ContextScope(int ordinal);
  ~ContextScope();
  ContextScope(const ContextScope&) = delete;
  ContextScope& operator=(const ContextScope&) = delete;
};

/// Device memory, counted in accounting().
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  /// @param what names the memory in the error: "storage 3"
  /// @throws Error OUT_OF_MEMORY with what was asked for and what is free
  DeviceBuffer(size_t bytes, const char* what);
  ~DeviceBuffer() { reset(); }
  DeviceBuffer(DeviceBuffer&& other) noexcept { swap(other); }
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    swap(other);
    return *this;
  }
  DevicePointer get() const noexcept { return pointer_; }
  void* data() const noexcept { return reinterpret_cast<void*>(pointer_); }
  size_t bytes() const noexcept { return bytes_; }

 private:
  void reset() noexcept;
  void swap(DeviceBuffer& other) noexcept {
    std::swap(pointer_, other.pointer_);
    std::swap(bytes_, other.bytes_);
  }
  DevicePointer pointer_ = 0;
  size_t bytes_ = 0;
};

/// Page-locked host memory, for copies that run beside the CPU; counted as host memory.
class PinnedBuffer {
 public:
  explicit PinnedBuffer(size_t bytes);
  ~PinnedBuffer();
  PinnedBuffer(const PinnedBuffer&) = delete;
  PinnedBuffer& operator=(const PinnedBuffer&) = delete;
  void* data() const noexcept { return data_; }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

/// A stream of our own, or the legacy default stream, on which objects with embedded launches work.
class Stream {
 public:
  static Stream create();
  static Stream legacy() noexcept { return Stream(nullptr); }
  ~Stream();
  Stream(Stream&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Stream& operator=(Stream&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  StreamHandle get() const noexcept { return handle_; }
  bool isLegacy() const noexcept { return handle_ == nullptr; }
  void synchronize() const;

 private:
  explicit Stream(StreamHandle handle) noexcept : handle_(handle) {}
  StreamHandle handle_;
};

/// A timing event.
class Event {
 public:
  Event();
  ~Event();
  Event(Event&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Event& operator=(Event&&) = delete;
  void record(const Stream& stream) const;
  void synchronize() const;
  /// Milliseconds from `start` to this event; both must have happened.
  float elapsedMsSince(const Event& start) const;

 private:
  EventHandle handle_ = nullptr;
};

}  // namespace ladder::cuda
