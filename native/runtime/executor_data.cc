// What goes into and out of an executor's entries.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "../cuda/failure.h"
#include "call.h"
#include "error.h"

namespace ladder::runtime {
namespace {

constexpr uint64_t kChunkBytes = 16u << 20;

class File {
 public:
  explicit File(const std::string& path) : path_(path), descriptor_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    struct stat status{};
    if (descriptor_ < 0 || fstat(descriptor_, &status) != 0) {
      const std::string reason = std::strerror(errno);
      if (descriptor_ >= 0) close(descriptor_);
      throw Error("IO", "expected a readable file `" + path + "`: " + reason, {{"file", path}});
    }
    sizeBytes_ = static_cast<uint64_t>(status.st_size);
  }
  ~File() { close(descriptor_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  uint64_t sizeBytes() const noexcept { return sizeBytes_; }
  /// Reads exactly that range. Not by mapping: a file that shrinks meanwhile is then an error and no signal.
  void read(void* target, uint64_t offset, uint64_t bytes) const {
    for (uint64_t done = 0; done < bytes;) {
      const ssize_t count = pread(descriptor_, static_cast<char*>(target) + done, bytes - done, static_cast<off_t>(offset + done));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) throw Error("IO", "reading `" + path_ + "` failed: " + std::strerror(errno), {{"file", path_}});
      if (count == 0) throw Error("BAD_PARAMS", "`" + path_ + "` ended while it was read; it is cut short", {{"file", path_}});
      done += static_cast<uint64_t>(count);
    }
  }

 private:
  std::string path_;
  int descriptor_;
  uint64_t sizeBytes_ = 0;
};

/// Two page-locked buffers in turn: while one is copied to the device, the file is read into the other.
class Uploader {
 public:
  explicit Uploader(const cuda::Stream& stream) : stream_(stream) {}
  ~Uploader() { cuda::driver().streamSynchronize(stream_.get()); }  // the buffers may still be read from
  Uploader(const Uploader&) = delete;
  Uploader& operator=(const Uploader&) = delete;
  void upload(const File& file, const ParamCopy& copy, cuda::DevicePointer target, const CancelFlag& cancelled) {
    for (uint64_t done = 0; done < copy.sizeBytes; done += kChunkBytes) {
      throwIfCancelled(cancelled);
      const uint64_t bytes = std::min(kChunkBytes, copy.sizeBytes - done);
      const int turn = turn_++ % 2;
      copied_[turn].synchronize();  // an event that was never recorded counts as complete
      file.read(buffers_[turn].data(), copy.fileOffset + done, bytes);
      cuda::check(cuda::driver().memcpyHtoDAsync(target + done, buffers_[turn].data(), bytes, stream_.get()),
                  "copying parameters to the device");
      copied_[turn].record(stream_);
    }
  }

 private:
  const cuda::Stream& stream_;
  cuda::PinnedBuffer buffers_[2]{cuda::PinnedBuffer(kChunkBytes), cuda::PinnedBuffer(kChunkBytes)};
  cuda::Event copied_[2];
  unsigned turn_ = 0;
};

}  // namespace

const PlanEntry& Executor::checkedEntry(uint32_t entry) const {
  if (entry >= plan_.entries.size()) {
    throw Error("BAD_ARGUMENT",
                "expected an entry below " + std::to_string(plan_.entries.size()) + " but received " + std::to_string(entry));
  }
  return plan_.entries[entry];
}

void Executor::write(uint32_t entry, const void* bytes, uint64_t sizeBytes) {
  const uint64_t expected = checkedEntry(entry).sizeBytes;
  if (sizeBytes != expected) {
    throw Error("WRONG_LENGTH", "expected " + std::to_string(expected) + " bytes for entry " + std::to_string(entry) + " but received " +
                                    std::to_string(sizeBytes));
  }
  copyFromHost(storageOf(entry), bytes, sizeBytes, stream_ ? &*stream_ : nullptr);
}

void Executor::read(uint32_t entry, uint64_t offset, uint64_t sizeBytes, void* target) {
  const uint64_t available = checkedEntry(entry).sizeBytes;
  if (offset > available || sizeBytes > available - offset) {
    throw Error("WRONG_LENGTH", "expected a range within the " + std::to_string(available) + " bytes of entry " + std::to_string(entry) +
                                    " but received offset " + std::to_string(offset) + ", length " + std::to_string(sizeBytes));
  }
  copyToHost(target, storageOf(entry), offset, sizeBytes, stream_ ? &*stream_ : nullptr);
}

const void* Executor::hostData(uint32_t entry) const {
  checkedEntry(entry);
  return storageOf(entry).onDevice() ? nullptr : storageOf(entry).data();
}

void Executor::fill(uint32_t entry, const reference::FillSpec& fill, uint64_t key) {
  const PlanEntry& target = checkedEntry(entry);
  if (target.sizeBytes == 0) return;
  const Storage& storage = storageOf(entry);
  if (!storage.onDevice()) {
    reference::fill(fill, key, target.dtype.code, target.dtype.bits, 0, storage.data(), target.sizeBytes);
    return;
  }
  switch (fill.kind) {
    case 0: kernels().fillWords(*stream_, storage.pointer(), target.sizeBytes, key, 0xff, 0, false); break;
    case 2: kernels().fillWords(*stream_, storage.pointer(), target.sizeBytes, key, fill.mask, fill.base, fill.isSigned); break;
    default:
      kernels().fillUniform(*stream_, storage.pointer(), target.sizeBytes * 8 / std::max<uint64_t>(8, target.dtype.bits), key,
                            target.dtype.code, target.dtype.bits, fill.low, fill.high);
  }
  synchronize();
}

void Executor::setBytes(uint32_t entry, uint8_t value) {
  const PlanEntry& target = checkedEntry(entry);
  if (target.sizeBytes == 0) return;
  const Storage& storage = storageOf(entry);
  if (!storage.onDevice()) {
    std::memset(storage.data(), value, target.sizeBytes);
    return;
  }
  cuda::check(cuda::driver().memsetD8Async(storage.pointer(), value, target.sizeBytes, stream_->get()), "setting device memory");
  synchronize();
}

void Executor::loadParams(const std::string& path, const std::vector<ParamCopy>& copies, const CancelFlag& cancelled) {
  const File file(path);
  for (const ParamCopy& copy : copies) {
    const uint64_t expected = checkedEntry(copy.entry).sizeBytes;
    if (copy.sizeBytes != expected || copy.fileOffset > file.sizeBytes() || copy.sizeBytes > file.sizeBytes() - copy.fileOffset) {
      throw Error("BAD_PARAMS",
                  "expected " + std::to_string(expected) + " bytes for entry " + std::to_string(copy.entry) + " within the " +
                      std::to_string(file.sizeBytes()) + " bytes of `" + path + "` but received offset " + std::to_string(copy.fileOffset) +
                      ", length " + std::to_string(copy.sizeBytes) + "; the file is cut short or of another checkpoint",
                  {{"file", path}, {"entry", double(copy.entry)}});
    }
  }
  std::optional<Uploader> uploader;
  for (const ParamCopy& copy : copies) {
    const Storage& storage = storageOf(copy.entry);
    if (!storage.onDevice()) {
      throwIfCancelled(cancelled);
      file.read(storage.data(), copy.fileOffset, copy.sizeBytes);
      continue;
    }
    if (!uploader) uploader.emplace(*stream_);
    uploader->upload(file, copy, storage.pointer(), cancelled);
  }
  synchronize();
}

}  // namespace ladder::runtime
