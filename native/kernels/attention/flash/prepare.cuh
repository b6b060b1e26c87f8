// The first kernel of attention in tiles, where there is something to prepare (flash/shape.cuh): the table of rotations that queries
// are turned by, keys turned and moved to the workspace, values moved. One thread per row and pair of pieces (16 bytes each) that
// turn together, for several heads: the angles are computed once.
//
// Grid: ⌈m·d/16 / kPrepareThreads⌉ × any number of blocks that share the heads. Architectures: sm_80 and up. Test: test/gpu/flash-attention.test.ts.
#pragma once
#include "attention/flash/shape.cuh"
#include "core/ptx.cuh"

namespace ladder {

constexpr int kPrepareThreads = 128;

template <class C>
__device__ __forceinline__ void flashPrepareKernel(const void* qkv, void* workspace) {
  using S = FlashShape<C>;
  constexpr int kHalf = S::kPieces / 2;
  launchDependents();
  const int item = blockIdx.x * kPrepareThreads + threadIdx.x;
  // Eight rows of one pair of pieces side by side: a core matrix is contiguous.
  const int row = item / (8 * kHalf) * 8 + item % 8, piece = item / 8 % kHalf;
  const bool mine = row < S::kPaddedRows;
  float cosines[8], sines[8];
  if constexpr (S::kRope) {
    const double ratio = exp2(-2.0 / S::kDim * C::kLog2Base);
    const Frequency first = rotaryFrequency(piece * 8, S::kDim, C::kLog2Base);
    double turns = static_cast<double>(first.high) + first.low;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const float high = static_cast<float>(turns);
      cosines[i] = 1.0f, sines[i] = 0.0f;
      rotate(cosines[i], sines[i], row % C::kSeq, {high, static_cast<float>(turns - high)});
      turns *= ratio;
    }
  }
  waitForPrerequisites();
  if (!mine) return;

  if constexpr (S::kRope) {
    if (blockIdx.y == 0 && row < C::kSeq) {
      float4* table = static_cast<float4*>(workspace) + (static_cast<int64_t>(row) * S::kDim / 2 + piece * 8) / 2;
#pragma unroll
      for (int i = 0; i < 8; i += 2) table[i / 2] = make_float4(cosines[i], sines[i], cosines[i + 1], sines[i + 1]);
    }
  }
  const uint8_t* source = static_cast<const uint8_t*>(qkv);
  uint8_t* target = static_cast<uint8_t*>(workspace);
  const auto read = [&](int at) { return __ldcg(reinterpret_cast<const uint4*>(source + S::offset(row, at))); };
  const auto write = [&](int64_t part, int head, int at, uint4 value) {
    constexpr int64_t kHeadBytes = static_cast<int64_t>(S::kPaddedRows) * S::kDim * 2;
    *reinterpret_cast<uint4*>(target + part + head * kHeadBytes + row / 8 * (S::kPieces * 128) + at * 128 + row % 8 * 16) = value;
  };
#pragma unroll 2
  for (int head = blockIdx.y; head < C::kKvHeads; head += gridDim.y) {
    if constexpr (S::kMovesKeys) {
      const int first = S::firstPiece(Part::kKey, head);
      uint4 low = read(first + piece), high = read(first + kHalf + piece);
      if constexpr (S::kRope) {
        __half2* lows = reinterpret_cast<__half2*>(&low);
        __half2* highs = reinterpret_cast<__half2*>(&high);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float2 a = __half22float2(lows[i]), b = __half22float2(highs[i]);
          const float c0 = cosines[2 * i], s0 = sines[2 * i], c1 = cosines[2 * i + 1], s1 = sines[2 * i + 1];
          lows[i] = __floats2half2_rn(a.x * c0 - b.x * s0, a.y * c1 - b.y * s1);
          highs[i] = __floats2half2_rn(b.x * c0 + a.x * s0, b.y * c1 + a.y * s1);
        }
      }
      write(S::kKeysAt, head, piece, low);
      write(S::kKeysAt, head, kHalf + piece, high);
    }
    if constexpr (S::kMovesValues) {
      const int first = S::firstPiece(Part::kValue, head);
      write(S::kValuesAt, head, piece, read(first + piece));
      write(S::kValuesAt, head, kHalf + piece, read(first + kHalf + piece));
    }
  }
}

}  // namespace ladder
