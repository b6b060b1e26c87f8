// The feed of the decoding kernels: a ring of stages in shared memory, filled by one producer warp, drained by consumer
// warps. On sm_90 a stage comes by bulk copies that one lane issues; on sm_80 by cp.async of the whole warp. Either way the
// full barrier completes when all bytes are there. What a stage holds is the kernels' business (gemv.cuh, thin.cuh).
//
//   full[s]   completes when stage s is filled (a bulk producer arrives once and announces bytes, a cp.async warp 32 times)
//   empty[s]  completes when every consumer warp (or thread) has read it into registers
//
// Every thread, where a warp multiplies between reading and giving back: there __syncwarp becomes a branch for diverged warps
// alone, and racecheck does not know that one lane can speak for the others.
// The test: test/gpu, every shape; races: compute-sanitizer on bench/kernels.
#pragma once
#include "core/ptx.cuh"

namespace ladder {

template <int kStages>
struct RingBarriers {
  static constexpr int kBytes = kStages * 16;
  uint32_t base;

  __device__ __forceinline__ uint32_t full(int slot) const { return base + slot * 8; }
  __device__ __forceinline__ uint32_t empty(int slot) const { return base + (kStages + slot) * 8; }

  /// By one thread; everyone synchronises before use.
  __device__ __forceinline__ void init(int producerArrivals, int consumerArrivals) const {
    for (int slot = 0; slot < kStages; ++slot) {
      barrierInit(full(slot), producerArrivals);
      barrierInit(empty(slot), consumerArrivals);
    }
    fenceBarrierInit();
  }
};

/// Position in the ring: slot, and the parity of its current use.
template <int kStages>
struct RingCursor {
  int slot = 0;
  uint32_t parity = 0;
  __device__ __forceinline__ void advance() {
    if (++slot == kStages) slot = 0, parity ^= 1;
  }
};

/// A producer warp's copy of `bytes` (a multiple of 16): Hopper by one bulk copy of the calling lane, else by all lanes.
__device__ __forceinline__ void fetchStreaming(uint32_t shared, const uint8_t* global, int bytes, uint32_t barrier, int lane) {
#if __CUDA_ARCH__ >= 900
  bulkCopyStreaming(shared, global, bytes, barrier);
#else
  for (int i = lane * 16; i < bytes; i += 512) copyAsync16(shared + i, global + i);
#endif
}

}  // namespace ladder
