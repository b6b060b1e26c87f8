// cp.async with zeros for what does not exist, and its groups: how kernels without bulk copies fill their stages, on every GPU from
// sm_80 on. Follows the PTX ISA 8.x, section cp.async.
#pragma once
#include "core/ptx.cuh"

namespace ladder {

/// kBytes (4, 8 or 16) to shared memory; zeros where there is nothing to copy, and `global` is any address then.
template <int kBytes>
__device__ __forceinline__ void copyOrZero(uint32_t shared, const void* global, bool exists) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
  const int bytes = exists ? kBytes : 0;
  if constexpr (kBytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(global), "r"(bytes) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared), "l"(global), "n"(kBytes), "r"(bytes) : "memory");
  }
}

/// This thread's copies since the last call are a group.
__device__ __forceinline__ void commitCopies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

/// Until at most kPending of this thread's groups are under way.
template <int kPending>
__device__ __forceinline__ void waitForCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace ladder
