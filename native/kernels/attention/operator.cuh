// What the attention kernels share: where heads lie in a row of qkv, and how a warp holds one head.
// Operator: lib/operators/attention.ts. qkv float16 [batch·seq, (heads + 2·kvHeads)·headDim].
//
// A warp holds a head as pairs that a rotary embedding turns together: lane l has dimensions l·P … l·P+P−1 of the lower half
// and the same of the upper half, P = headDim / 64:
//
//   headDim 128:  | 0 1 | 2 3 | … | 62 63 |   64 65 | 66 67 | … | 126 127 |
//          lane      0     1          31         0       1           31
#pragma once
#include <cuda_fp16.h>
#include <stdint.h>

#include "attention/position.cuh"

namespace ladder {

enum class Order { kConcatenated, kInterleaved };
enum class Position { kRope, kAlibi, kNone };
enum class Part { kQuery, kKey, kValue };

/// C: kSeq, kHeads, kKvHeads, kHeadDim, kOrder, kPosition, kLog2Base.
template <class C>
struct AttentionShape {
  static constexpr int kPairs = C::kHeadDim / 64;
  static constexpr int kRowWidth = (C::kHeads + 2 * C::kKvHeads) * C::kHeadDim;
  static constexpr int kShared = C::kHeads / C::kKvHeads;  // query heads per key head
  static_assert(C::kHeadDim == 64 || C::kHeadDim == 128 || C::kHeadDim == 256);
  static_assert(C::kHeads % C::kKvHeads == 0);
  static_assert(C::kOrder == Order::kConcatenated || C::kHeads == C::kKvHeads);

  /// First column of what query head `head` needs of a row.
  __device__ __forceinline__ static int column(Part part, int head) {
    if (C::kOrder == Order::kInterleaved) return (3 * head + static_cast<int>(part)) * C::kHeadDim;
    if (part == Part::kQuery) return head * C::kHeadDim;
    return (C::kHeads + (part == Part::kValue ? C::kKvHeads : 0) + head / kShared) * C::kHeadDim;
  }
};

/// One head in a warp: this lane's pairs.
template <int kPairs>
struct HeadSlice {
  float low[kPairs], high[kPairs];
};

/// The type that holds kPairs halves.
template <int kPairs> struct PackedHalves;
template <> struct PackedHalves<1> { using Type = uint16_t; };
template <> struct PackedHalves<2> { using Type = uint32_t; };
template <> struct PackedHalves<4> { using Type = uint2; };

/// A head as it lies in memory, so that loads can be in flight together before the first is converted.
template <int kPairs>
struct RawSlice {
  using Word = typename PackedHalves<kPairs>::Type;
  Word low, high;

  __device__ __forceinline__ static RawSlice load(const __half* head, int lane) {
    const Word* words = reinterpret_cast<const Word*>(head);
    return {__ldcg(words + lane), __ldcg(words + 32 + lane)};
  }
  __device__ __forceinline__ HeadSlice<kPairs> unpack() const {
    HeadSlice<kPairs> slice;
    const __half* lows = reinterpret_cast<const __half*>(&low);
    const __half* highs = reinterpret_cast<const __half*>(&high);
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      slice.low[i] = __half2float(lows[i]);
      slice.high[i] = __half2float(highs[i]);
    }
    return slice;
  }
};

template <int kPairs>
__device__ __forceinline__ void storeSlice(__half* head, int lane, const HeadSlice<kPairs>& slice) {
  using Word = typename PackedHalves<kPairs>::Type;
  Word words[2];
#pragma unroll
  for (int i = 0; i < kPairs; ++i) {
    reinterpret_cast<__half*>(&words[0])[i] = __float2half_rn(slice.low[i]);
    reinterpret_cast<__half*>(&words[1])[i] = __float2half_rn(slice.high[i]);
  }
  reinterpret_cast<Word*>(head)[lane] = words[0];
  reinterpret_cast<Word*>(head)[32 + lane] = words[1];
}

template <int kPairs>
__device__ __forceinline__ void rotateSlice(HeadSlice<kPairs>& slice, int position, const Frequency (&frequencies)[kPairs]) {
#pragma unroll
  for (int i = 0; i < kPairs; ++i) rotate(slice.low[i], slice.high[i], position, frequencies[i]);
}

/// The frequencies of a lane's pairs.
template <class C>
__device__ __forceinline__ void laneFrequencies(Frequency (&frequencies)[AttentionShape<C>::kPairs], int lane) {
  constexpr int kPairs = AttentionShape<C>::kPairs;
#pragma unroll
  for (int i = 0; i < kPairs; ++i) frequencies[i] = rotaryFrequency(lane * kPairs + i, C::kHeadDim, C::kLog2Base);
}

}  // namespace ladder
