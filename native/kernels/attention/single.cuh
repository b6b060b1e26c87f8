// Attention over a single token per sequence: one warp per (sequence, head), everything in registers.
//
//   s = rope(q) · rope(k) / √d + slope · position,   p = exp(s − max s) / Σ exp(s − max s),   y = p · v
//
// With one key the softmax is 1 whatever s is; it is computed all the same, as is the rotation by position 0, so that the
// kernel costs what its operator costs. qkv float16 [batch, (heads + 2·kvHeads)·headDim], y float16 [batch, heads·headDim].
// headDim 64, 128 or 256. Architectures: sm_80 and up. Tests: `ladder verify`, test/gpu/small-kernels.test.ts.
#pragma once
#include "attention/operator.cuh"
#include "core/ptx.cuh"
#include "core/reduce.cuh"

namespace ladder {

/// C also has kBatch and kWarps: launched with ceil(batch·heads / kWarps) blocks of 32·kWarps.
template <class C>
__device__ __forceinline__ void attentionSingleKernel(const void* qkv, void* y) {
  using S = AttentionShape<C>;
  static_assert(C::kSeq == 1);
  launchDependents();
  const int lane = threadIdx.x % 32;
  const int item = blockIdx.x * C::kWarps + threadIdx.x / 32;
  Frequency frequencies[S::kPairs];
  if constexpr (C::kPosition == Position::kRope) laneFrequencies<C>(frequencies, lane);
  waitForPrerequisites();
  if (item >= C::kBatch * C::kHeads) return;

  const int head = item % C::kHeads;
  const __half* row = static_cast<const __half*>(qkv) + static_cast<size_t>(item / C::kHeads) * S::kRowWidth;
  const auto rawQuery = RawSlice<S::kPairs>::load(row + S::column(Part::kQuery, head), lane);
  const auto rawKey = RawSlice<S::kPairs>::load(row + S::column(Part::kKey, head), lane);
  const auto rawValue = RawSlice<S::kPairs>::load(row + S::column(Part::kValue, head), lane);
  HeadSlice<S::kPairs> query = rawQuery.unpack();
  HeadSlice<S::kPairs> key = rawKey.unpack();
  HeadSlice<S::kPairs> value = rawValue.unpack();

  // The token's index in its sequence, kept from the compiler, which would drop the rotation.
  int position;
  asm volatile("mov.u32 %0, 0;" : "=r"(position));
  if constexpr (C::kPosition == Position::kRope) {
    rotateSlice(query, position, frequencies);
    rotateSlice(key, position, frequencies);
  }
  float score = 0.0f;
#pragma unroll
  for (int i = 0; i < S::kPairs; ++i) score = fmaf(query.low[i], key.low[i], fmaf(query.high[i], key.high[i], score));
  score = warpReduce(score, Add{}) * rsqrtf(static_cast<float>(C::kHeadDim));
  if constexpr (C::kPosition == Position::kAlibi) score += alibiSlope<C::kHeads>(head) * static_cast<float>(position);
  const float largest = score;
  const float weight = expf(score - largest);
  const float probability = weight / weight;
#pragma unroll
  for (int i = 0; i < S::kPairs; ++i) {
    value.low[i] *= probability;
    value.high[i] *= probability;
  }
  storeSlice(static_cast<__half*>(y) + static_cast<size_t>(item) * C::kHeadDim, lane, value);
}

}  // namespace ladder
