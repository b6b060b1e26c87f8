// Scratch memory of operators (TVMBackendAllocWorkspace). A pool belongs to one executor, and to one thread at a time.
// Blocks are kept until the pool ends: a repeated inference gets the same addresses, which a captured CUDA graph relies on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace ladder::tvm_abi {

/// Of every block, bytes.
constexpr size_t kPoolAlignment = 256;

class WorkspacePool {
 public:
  WorkspacePool();
  ~WorkspacePool();
  WorkspacePool(const WorkspacePool&) = delete;
  WorkspacePool& operator=(const WorkspacePool&) = delete;

  /// The smallest free block that fits, or a new one, aligned to kPoolAlignment.
  /// @throws Error OUT_OF_MEMORY, UNSUPPORTED for other devices than CPU and CUDA
  void* allocate(int deviceType, int deviceId, uint64_t bytes);
  /// @throws Error INTERNAL for memory that is not in use
  void release(int deviceType, int deviceId, void* memory);

 private:
  struct Block;
  std::vector<std::unique_ptr<Block>> blocks_;
};

/// The pool that operators on this thread use: the scope's, or the thread's own.
WorkspacePool& workspacePool();

/// Makes `pool` this thread's while it lives.
class WorkspaceScope {
 public:
  explicit WorkspaceScope(WorkspacePool* pool);
  ~WorkspaceScope();
  WorkspaceScope(const WorkspaceScope&) = delete;
  WorkspaceScope& operator=(const WorkspaceScope&) = delete;

 private:
  WorkspacePool* previous_;
};

}  // namespace ladder::tvm_abi
