// Activations of MX formats as the numbers that they stand for, in BF16, which holds them exactly, and in panels (wide_block.cuh):
// the tensor cores of sm_90 and sm_80 know no scales of blocks.
// x codes [m, k], scales E8M0 [m, k/32]; y BF16 [k/64][⌈m/8⌉][8 pieces][8 tokens][8]; tokens past m are zeros. A thread per piece.
#pragma once
#include "formats/decode.cuh"

namespace ladder {

template <bool kIsE4m3, int kM, int kK>
__device__ __forceinline__ void expandMx(const void* x, const void* scales, void* y) {
  using Mx = MxBf16<kIsE4m3 ? WeightFormat::kMxE4m3 : WeightFormat::kMxE5m2>;
  constexpr int kVectors = kK / 8, kGroups = (kM + 7) / 8;
  launchDependents();
  waitForPrerequisites();
  // Eight tokens of a piece side by side.
  const int at = blockIdx.x * blockDim.x + threadIdx.x;
  const int vector = at / 8 % kVectors, group = at / (8 * kVectors), token = group * 8 + at % 8;
  if (group >= kGroups) return;
  uint4 numbers = make_uint4(0, 0, 0, 0);
  if (token < kM) {
    const size_t from = static_cast<size_t>(token) * kVectors + vector;
    const uint2 codes = __ldcg(static_cast<const uint2*>(x) + from);
    const uint32_t multiplier = Mx::multiplier(__ldcg(static_cast<const uint8_t*>(scales) + from / 4), 0);
    const uint2 low = Mx::activations(codes.x, multiplier), high = Mx::activations(codes.y, multiplier);
    numbers = make_uint4(low.x, low.y, high.x, high.y);
  }
  static_cast<uint4*>(y)[((static_cast<size_t>(vector / 8) * kGroups + group) * 8 + vector % 8) * 8 + at % 8] = numbers;
}

}  // namespace ladder
