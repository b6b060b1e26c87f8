// Two page-locked buffers in turn: while one is copied to the device, the file is read into the other.
#include "upload.h"

#include <algorithm>

#include "../cuda/failure.h"

namespace ladder::runtime {
namespace {

constexpr uint64_t kChunkBytes = 16u << 20;

}  // namespace

struct Uploader::Staging {
  cuda::PinnedBuffer buffers[2]{cuda::PinnedBuffer(kChunkBytes), cuda::PinnedBuffer(kChunkBytes)};
  cuda::Event copied[2];
  unsigned turn = 0;
};

Uploader::Uploader(const File& file, const cuda::Stream* stream) : file_(file), stream_(stream) {}

Uploader::~Uploader() {
  if (staging_) cuda::driver().streamSynchronize(stream_->get());  // the buffers may still be read from
}

void Uploader::upload(const Storage& target, uint64_t fileOffset, uint64_t sizeBytes, const CancelFlag& cancelled) {
  if (target.onDevice()) return uploadToDevice(target.pointer(), fileOffset, sizeBytes, cancelled);
  for (uint64_t done = 0; done < sizeBytes; done += kChunkBytes) {
    throwIfCancelled(cancelled);
    file_.read(static_cast<char*>(target.data()) + done, fileOffset + done, std::min(kChunkBytes, sizeBytes - done));
  }
}

void Uploader::uploadToDevice(cuda::DevicePointer target, uint64_t fileOffset, uint64_t sizeBytes, const CancelFlag& cancelled) {
  if (!staging_) staging_ = std::make_unique<Staging>();
  for (uint64_t done = 0; done < sizeBytes; done += kChunkBytes) {
    throwIfCancelled(cancelled);
    const uint64_t bytes = std::min(kChunkBytes, sizeBytes - done);
    const unsigned turn = staging_->turn++ % 2;
    staging_->copied[turn].synchronize();  // an event that was never recorded counts as complete
    file_.read(staging_->buffers[turn].data(), fileOffset + done, bytes);
    cuda::check(cuda::driver().memcpyHtoDAsync(target + done, staging_->buffers[turn].data(), bytes, stream_->get()),
                "copying from a file to the device");
    staging_->copied[turn].record(*stream_);
  }
}

}  // namespace ladder::runtime
