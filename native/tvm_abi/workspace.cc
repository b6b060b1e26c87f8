// Best-fit reuse of scratch blocks.
#include "workspace.h"

#include "../cuda/handles.h"
#include "../runtime/error.h"
#include "../runtime/host_buffer.h"
#include "abi.h"

namespace ladder::tvm_abi {

struct WorkspacePool::Block {
  int deviceType = 0;
  int deviceId = 0;
  uint64_t bytes = 0;
  bool used = false;
  HostBuffer host;
  cuda::DeviceBuffer device;
  void* data() const { return deviceType == kDeviceCuda ? device.data() : host.data(); }
};

namespace {

thread_local WorkspacePool* scopedPool = nullptr;

}  // namespace

WorkspacePool::WorkspacePool() = default;
WorkspacePool::~WorkspacePool() = default;

void* WorkspacePool::allocate(int deviceType, int deviceId, uint64_t bytes) {
  if (deviceType != kDeviceCpu && deviceType != kDeviceCuda) {
    throw Error("UNSUPPORTED",
                "model.so asks for scratch memory on DLPack device type " + std::to_string(deviceType) + "; expected 1 (CPU) or 2 (CUDA)");
  }
  Block* best = nullptr;
  for (const auto& block : blocks_) {
    if (block->used || block->deviceType != deviceType || block->deviceId != deviceId || block->bytes < bytes) continue;
    if (!best || block->bytes < best->bytes) best = block.get();
  }
  if (!best) {
    auto block = std::make_unique<Block>();
    block->deviceType = deviceType;
    block->deviceId = deviceId;
    block->bytes = bytes;
    if (deviceType == kDeviceCuda) {
      block->device = cuda::DeviceBuffer(bytes, "an operator's workspace");
    } else {
      block->host = HostBuffer(bytes, "an operator's workspace");
    }
    blocks_.push_back(std::move(block));
    best = blocks_.back().get();
  }
  best->used = true;
  return best->data();
}

void WorkspacePool::release(int deviceType, int deviceId, void* memory) {
  for (const auto& block : blocks_) {
    if (block->used && block->deviceType == deviceType && block->deviceId == deviceId && block->data() == memory) {
      block->used = false;
      return;
    }
  }
  throw Error("INTERNAL", "model.so freed scratch memory that it does not hold");
}

WorkspacePool& workspacePool() {
  if (scopedPool) return *scopedPool;
  thread_local WorkspacePool threadPool;
  return threadPool;
}

WorkspaceScope::WorkspaceScope(WorkspacePool* pool) : previous_(scopedPool) { scopedPool = pool; }
WorkspaceScope::~WorkspaceScope() { scopedPool = previous_; }

}  // namespace ladder::tvm_abi
