// Ranges of a file into storages, past the JavaScript heap.
#pragma once

#include <memory>

#include "cancel.h"
#include "file.h"
#include "storage.h"

namespace ladder::runtime {

class Uploader {
 public:
  /// @param stream where copies to the device go; may be null where all storages are the host's. Both must outlive it
  Uploader(const File& file, const cuda::Stream* stream);
  /// Waits until the copies have ended.
  ~Uploader();
  Uploader(const Uploader&) = delete;
  Uploader& operator=(const Uploader&) = delete;

  /// Enqueues; the bytes are there when the stream has come so far. @throws Error IO, CUDA, ABORTED
  void upload(const Storage& target, uint64_t fileOffset, uint64_t sizeBytes, const CancelFlag& cancelled);

 private:
  struct Staging;
  void uploadToDevice(cuda::DevicePointer target, uint64_t fileOffset, uint64_t sizeBytes, const CancelFlag& cancelled);
  const File& file_;
  const cuda::Stream* stream_;
  std::unique_ptr<Staging> staging_;  // made when something goes to the device
};

}  // namespace ladder::runtime
