// Allocation and release of the driver's objects.
#include "handles.h"

#include <map>
#include <mutex>
#include <string>

#include "../runtime/accounting.h"
#include "failure.h"

namespace ladder::cuda {

namespace {

ContextHandle primaryContext(int ordinal) {
  static std::mutex* const mutex = new std::mutex();
  static auto* const contexts = new std::map<int, ContextHandle>();
  const Driver& cu = driver();
  const std::lock_guard<std::mutex> lock(*mutex);
  auto found = contexts->find(ordinal);
  if (found == contexts->end()) {
    int count = 0;
    check(cu.deviceGetCount(&count), "counting CUDA devices");
    if (ordinal < 0 || ordinal >= count) {
      throw Error("NO_DEVICE",
                  "CUDA device " + std::to_string(ordinal) + " does not exist: this process sees " + std::to_string(count) +
                      " device(s); see `ladder doctor` and CUDA_VISIBLE_DEVICES",
                  {{"ordinal", double(ordinal)}, {"deviceCount", double(count)}});
    }
    Device device = 0;
    check(cu.deviceGet(&device, ordinal), "opening the CUDA device");
    ContextHandle context = nullptr;
    check(cu.primaryContextRetain(&context, device), "creating the CUDA context");
    found = contexts->emplace(ordinal, context).first;
  }
  return found->second;
}

}  // namespace

void makeCurrent(int ordinal) { check(driver().contextSetCurrent(primaryContext(ordinal)), "selecting the CUDA context"); }

ContextScope::ContextScope(int ordinal) { check(driver().contextPush(primaryContext(ordinal)), "selecting the CUDA context"); }

ContextScope::~ContextScope() {
  ContextHandle popped = nullptr;
  driver().contextPop(&popped);
}

DeviceBuffer::DeviceBuffer(size_t bytes, const char* what) {
  const size_t asked = bytes ? bytes : 1;  // cuMemAlloc refuses 0
  const Result result = driver().memAlloc(&pointer_, asked);
  if (result != kSuccess) {
    size_t freeBytes = 0;
    size_t totalBytes = 0;
    ErrorContext context{{"requestedBytes", double(bytes)}};
    std::string doing = "allocating " + bytesText(bytes) + " of device memory for " + what;
    if (driver().memGetInfo(&freeBytes, &totalBytes) == kSuccess) {
      doing += " (" + bytesText(freeBytes) + " of " + bytesText(totalBytes) + " are free)";
      context.emplace("freeBytes", double(freeBytes));
    }
    throw failure(result, doing, std::move(context));
  }
  bytes_ = asked;
  accounting().deviceBytes += static_cast<int64_t>(bytes_);
}

void DeviceBuffer::reset() noexcept {
  if (!pointer_) return;
  driver().memFree(pointer_);
  accounting().deviceBytes -= static_cast<int64_t>(bytes_);
  pointer_ = 0;
  bytes_ = 0;
}

PinnedBuffer::PinnedBuffer(size_t bytes) : bytes_(bytes) {
  const Result result = driver().memHostAlloc(&data_, bytes, 0);
  if (result != kSuccess) throw failure(result, "allocating " + bytesText(bytes) + " of page-locked host memory");
  accounting().hostBytes += static_cast<int64_t>(bytes_);
}

PinnedBuffer::~PinnedBuffer() {
  driver().memFreeHost(data_);
  accounting().hostBytes -= static_cast<int64_t>(bytes_);
}

Stream Stream::create() {
  StreamHandle handle = nullptr;
  check(driver().streamCreate(&handle, kStreamNonBlocking), "creating a stream");
  return Stream(handle);
}

Stream::~Stream() {
  if (handle_) driver().streamDestroy(handle_);
}

void Stream::synchronize() const { check(driver().streamSynchronize(handle_), "waiting for the device"); }

Event::Event() { check(driver().eventCreate(&handle_, kEventDefault), "creating an event"); }

Event::~Event() {
  if (handle_) driver().eventDestroy(handle_);
}

void Event::record(const Stream& stream) const { check(driver().eventRecord(handle_, stream.get()), "recording an event"); }

void Event::synchronize() const { check(driver().eventSynchronize(handle_), "waiting for an event"); }

float Event::elapsedMsSince(const Event& start) const {
  float elapsedMs = 0;
  check(driver().eventElapsedTime(&elapsedMs, start.handle_, handle_), "reading the time between two events");
  return elapsedMs;
}

}  // namespace ladder::cuda
