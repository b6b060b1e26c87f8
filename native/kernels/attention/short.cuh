// Attention over 2 … 64 tokens: one block per (sequence, head), keys and values of the sequence in shared memory.
//
//   scores  a warp takes one query; lane j has keys j and j+32: s = rope(q) · rope(k_j) / √d + slope · j
//   softmax over the warp's 32 or 64 scores, FP32
//   output  a lane has its dimensions of every value: y = Σ p_j · v_j, p_j broadcast from lane j mod 32
//
// Shared memory: keys float [kSeq][kHeadDim + 4] (rotated; rows are 4 words apart in the banks, so that 8 lanes' 16-byte reads
// of 8 rows meet no conflict), values half [kSeq][kHeadDim], one query float [kHeadDim] per warp.
// qkv float16 [batch·kSeq, (heads + 2·kvHeads)·headDim], y float16 [batch·kSeq, heads·headDim]. headDim 64, 128 or 256.
// Architectures: sm_80 and up. Tests: `ladder verify`, test/gpu/small-kernels.test.ts.
#pragma once
#include "attention/operator.cuh"
#include "core/ptx.cuh"
#include "core/reduce.cuh"

namespace ladder {

template <class C>
struct ShortAttention {
  static constexpr int kKeyPitch = C::kHeadDim + 4;
  static constexpr int kKeyBytes = C::kSeq * kKeyPitch * 4;
  static constexpr int kValueBytes = C::kSeq * C::kHeadDim * 2;
  static constexpr int kSharedBytes = kKeyBytes + kValueBytes + C::kWarps * C::kHeadDim * 4;
};

/// C also has kCausal and kWarps: launched with batch·heads blocks of 32·kWarps and ShortAttention<C>::kSharedBytes of shared memory.
template <class C>
__device__ __forceinline__ void attentionShortKernel(const void* qkv, void* y) {
  using S = AttentionShape<C>;
  using Layout = ShortAttention<C>;
  static_assert(C::kSeq <= 64);
  constexpr int kPairs = S::kPairs;
  constexpr int kScores = (C::kSeq + 31) / 32;  // per lane
  extern __shared__ __align__(16) uint8_t shared[];
  float* keys = reinterpret_cast<float*>(shared);
  __half* values = reinterpret_cast<__half*>(shared + Layout::kKeyBytes);

  launchDependents();
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  float* query = reinterpret_cast<float*>(shared + Layout::kKeyBytes + Layout::kValueBytes) + warp * C::kHeadDim;
  Frequency frequencies[kPairs];
  if constexpr (C::kPosition == Position::kRope) laneFrequencies<C>(frequencies, lane);
  waitForPrerequisites();

  const int head = blockIdx.x % C::kHeads;
  const size_t firstRow = static_cast<size_t>(blockIdx.x / C::kHeads) * C::kSeq;
  const auto rowOf = [&](int token) { return static_cast<const __half*>(qkv) + (firstRow + token) * S::kRowWidth; };
  const auto rotated = [&](Part part, int token) {
    HeadSlice<kPairs> slice = RawSlice<kPairs>::load(rowOf(token) + S::column(part, head), lane).unpack();
    if constexpr (C::kPosition == Position::kRope) rotateSlice(slice, token, frequencies);
    return slice;
  };
  const auto storeFloats = [&](float* target, const HeadSlice<kPairs>& slice) {
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      target[lane * kPairs + i] = slice.low[i];
      target[C::kHeadDim / 2 + lane * kPairs + i] = slice.high[i];
    }
  };

  // Keys and values of the sequence, a token per warp at a time.
  for (int token = warp; token < C::kSeq; token += C::kWarps) {
    const auto value = RawSlice<kPairs>::load(rowOf(token) + S::column(Part::kValue, head), lane);
    storeFloats(keys + token * Layout::kKeyPitch, rotated(Part::kKey, token));
    auto* target = reinterpret_cast<typename RawSlice<kPairs>::Word*>(values + token * C::kHeadDim);
    target[lane] = value.low;
    target[32 + lane] = value.high;
  }
  __syncthreads();

  const float scale = rsqrtf(static_cast<float>(C::kHeadDim));
  const float slope = C::kPosition == Position::kAlibi ? alibiSlope<C::kHeads>(head) : 0.0f;
  for (int token = warp; token < C::kSeq; token += C::kWarps) {
    storeFloats(query, rotated(Part::kQuery, token));
    __syncwarp();

    // Scores.
    float scores[kScores];
    float largest = -INFINITY;
#pragma unroll
    for (int i = 0; i < kScores; ++i) {
      const int key = lane + 32 * i;
      const float4* k = reinterpret_cast<const float4*>(keys + min(key, C::kSeq - 1) * Layout::kKeyPitch);
      const float4* q = reinterpret_cast<const float4*>(query);
      float dot = 0.0f;
#pragma unroll 8
      for (int d = 0; d < C::kHeadDim / 4; ++d) {
        const float4 a = q[d];
        const float4 b = k[d];
        dot = fmaf(a.x, b.x, fmaf(a.y, b.y, fmaf(a.z, b.z, fmaf(a.w, b.w, dot))));
      }
      scores[i] = key < (C::kCausal ? token + 1 : C::kSeq) ? fmaf(slope, static_cast<float>(key), dot * scale) : -INFINITY;
      largest = fmaxf(largest, scores[i]);
    }

    // Softmax.
    largest = warpReduce(largest, Max{});
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < kScores; ++i) {
      scores[i] = expf(scores[i] - largest);
      sum += scores[i];
    }
    const float inverse = 1.0f / warpReduce(sum, Add{});

    // Output.
    HeadSlice<kPairs> out = {};
#pragma unroll
    for (int i = 0; i < kScores; ++i) {
      const int count = min(32, C::kSeq - 32 * i);
#pragma unroll 4
      for (int j = 0; j < count; ++j) {
        const float probability = __shfl_sync(0xffffffffu, scores[i], j) * inverse;
        const auto* words = reinterpret_cast<const typename RawSlice<kPairs>::Word*>(values + (32 * i + j) * C::kHeadDim);
        const HeadSlice<kPairs> value = RawSlice<kPairs>{words[lane], words[32 + lane]}.unpack();
#pragma unroll
        for (int p = 0; p < kPairs; ++p) {
          out.low[p] = fmaf(probability, value.low[p], out.low[p]);
          out.high[p] = fmaf(probability, value.high[p], out.high[p]);
        }
      }
    }
    storeSlice(static_cast<__half*>(y) + ((firstRow + token) * C::kHeads + head) * C::kHeadDim, lane, out);
    __syncwarp();
  }
}

}  // namespace ladder
