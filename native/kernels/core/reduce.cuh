// Reductions over a warp and over a block, the result in every thread. Operators are functors on two values.
// Shared memory is the caller's: kMaxWarps values per call, and a new stretch (or a barrier) for the next call.
#pragma once
#include <stdint.h>

namespace ladder {

constexpr int kMaxWarps = 32;

struct Add {
  template <class V>
  __device__ __forceinline__ V operator()(V a, V b) const {
    return a + b;
  }
};
struct Max {
  __device__ __forceinline__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

/// Over groups of kWidth neighbouring lanes; kMask names the lanes that take part.
template <int kWidth = 32, class V, class F>
__device__ __forceinline__ V warpReduce(V value, F f, uint32_t mask = 0xffffffffu) {
#pragma unroll
  for (int distance = kWidth / 2; distance > 0; distance /= 2) value = f(value, __shfl_xor_sync(mask, value, distance));
  return value;
}

/// Over kThreads threads, a multiple of 32; `identity` leaves f's other operand as it is.
template <int kThreads, class V, class F>
__device__ __forceinline__ V blockReduce(V value, V* scratch, F f, V identity) {
  static_assert(kThreads % 32 == 0 && kThreads / 32 <= kMaxWarps);
  value = warpReduce(value, f);
  if (kThreads == 32) return value;
  const int lane = threadIdx.x % 32;
  if (lane == 0) scratch[threadIdx.x / 32] = value;
  __syncthreads();
  return warpReduce(lane < kThreads / 32 ? scratch[lane] : identity, f);
}

}  // namespace ladder
