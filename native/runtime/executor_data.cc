// What goes into and out of an executor's entries.
#include <algorithm>
#include <cstring>

#include "../cuda/failure.h"
#include "call.h"
#include "error.h"
#include "upload.h"

namespace ladder::runtime {

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

void Executor::read(uint32_t entry, uint64_t offset, uint64_t sizeBytes, void* target, const CancelFlag& cancelled) {
  const uint64_t available = checkedEntry(entry).sizeBytes;
  if (offset > available || sizeBytes > available - offset) {
    throw Error("WRONG_LENGTH", "expected a range within the " + std::to_string(available) + " bytes of entry " + std::to_string(entry) +
                                    " but received offset " + std::to_string(offset) + ", length " + std::to_string(sizeBytes));
  }
  constexpr uint64_t kPieceBytes = 64u << 20;  // a tenth of a second at the slowest
  for (uint64_t at = 0; at < sizeBytes; at += kPieceBytes) {
    throwIfCancelled(cancelled);
    const uint64_t bytes = std::min(kPieceBytes, sizeBytes - at);
    copyToHost(static_cast<uint8_t*>(target) + at, storageOf(entry), offset + at, bytes, stream_ ? &*stream_ : nullptr);
  }
}

void Executor::copyFrom(uint32_t entry, const Executor& source, uint32_t sourceEntry) {
  const uint64_t expected = checkedEntry(entry).sizeBytes;
  const uint64_t available = source.checkedEntry(sourceEntry).sizeBytes;
  if (available != expected) {
    throw Error("WRONG_LENGTH", "expected " + std::to_string(expected) + " bytes for entry " + std::to_string(entry) + " but received " +
                                    std::to_string(available));
  }
  if (onDevice() != source.onDevice() || (onDevice() && plan_.deviceOrdinal != source.plan_.deviceOrdinal))
    throw Error("UNSUPPORTED", "expected a tensor on the same device; read it and set it as an array instead");
  copyStorage(storageOf(entry), source.storageOf(sourceEntry), expected, stream_ ? &*stream_ : nullptr);
  if (stream_) synchronize();
}

const void* Executor::hostData(uint32_t entry) const {
  checkedEntry(entry);
  return storageOf(entry).onDevice() ? nullptr : storageOf(entry).data();
}

/// The fill kernels are compiled when first used in a process, in 25 ms: little data are made sooner on the host.
bool Executor::fillsOnHost(uint64_t sizeBytes) {
  constexpr uint64_t kMaxHostFilledBytes = 4u << 20;
  if (cuda::DeviceKernels::ready(plan_.deviceOrdinal) || sizeBytes > kMaxHostFilledBytes - hostFilledBytes_) return false;
  hostFilledBytes_ += sizeBytes;
  return true;
}

void Executor::fill(uint32_t entry, const reference::FillSpec& fill, uint64_t key) {
  const PlanEntry& target = checkedEntry(entry);
  if (target.sizeBytes == 0) return;
  const Storage& storage = storageOf(entry);
  if (!storage.onDevice()) {
    reference::fill(fill, key, target.dtype.code, target.dtype.bits, 0, storage.data(), target.sizeBytes);
    return;
  }
  if (fillsOnHost(target.sizeBytes)) {
    std::vector<uint8_t> bytes(target.sizeBytes);
    reference::fill(fill, key, target.dtype.code, target.dtype.bits, 0, bytes.data(), bytes.size());
    copyFromHost(storage, bytes.data(), bytes.size(), &*stream_);
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
    if (copy.sizeBytes != expected || !file.holds(copy.fileOffset, copy.sizeBytes)) {
      throw Error("BAD_PARAMS",
                  "expected " + std::to_string(expected) + " bytes for entry " + std::to_string(copy.entry) + " within the " +
                      std::to_string(file.sizeBytes()) + " bytes of `" + path + "` but received offset " + std::to_string(copy.fileOffset) +
                      ", length " + std::to_string(copy.sizeBytes) + "; the file is cut short or of another checkpoint",
                  {{"file", path}, {"entry", double(copy.entry)}});
    }
  }
  Uploader uploader(file, stream_ ? &*stream_ : nullptr);
  for (const ParamCopy& copy : copies) uploader.upload(storageOf(copy.entry), copy.fileOffset, copy.sizeBytes, cancelled);
  synchronize();
}

}  // namespace ladder::runtime
