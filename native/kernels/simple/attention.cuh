// Attention of any length and head size, all keys or (causal) those up to the query's: lib/operators/attention.ts. One block per (row, head); keys come in chunks of one per
// thread, with a running maximum (online softmax), so that no length needs more memory. FP32 throughout.
//
//   qkv float16 [batch·seq, (heads + 2·kvHeads)·headDim]     y float16 [batch·seq, heads·headDim]
//
// C: kSeq, kHeads, kKvHeads, kHeadDim, kInterleaved, kRope, kAlibi, kCausal, kLog2Base. Grid: batch·seq × heads. Architectures: all.
// Tests: test/gpu/simple-kernels.test.ts.
#pragma once
#include <cuda_fp16.h>
#include <math_constants.h>

#include "attention/position.cuh"
#include "core/ptx.cuh"
#include "core/reduce.cuh"

namespace ladder {

constexpr int kAttentionThreads = 128;

template <class C>
__device__ __forceinline__ void simpleAttention(const void* qkv, void* y) {
  constexpr int kDim = C::kHeadDim, kHalf = kDim / 2, kWidth = (C::kHeads + 2 * C::kKvHeads) * kDim;
  constexpr int kOwn = (kDim + kAttentionThreads - 1) / kAttentionThreads;
  __shared__ float query[kDim], probabilities[kAttentionThreads], scratch[2][kMaxWarps];
  __shared__ Frequency frequencies[C::kRope ? kHalf : 1];
  launchDependents();
  waitForPrerequisites();
  const int row = blockIdx.x, head = blockIdx.y, t = threadIdx.x, firstRow = row / C::kSeq * C::kSeq;
  const auto column = [&](int part) {
    if (C::kInterleaved) return (3 * head + part) * kDim;
    return part == 0 ? head * kDim : (C::kHeads + (part - 1) * C::kKvHeads + head / (C::kHeads / C::kKvHeads)) * kDim;
  };
  const auto at = [&](int token, int part, int d) {
    return __half2float(static_cast<const __half*>(qkv)[static_cast<size_t>(token) * kWidth + column(part) + d]);
  };
  if constexpr (C::kRope) {
    for (int pair = t; pair < kHalf; pair += kAttentionThreads) frequencies[pair] = rotaryFrequency(pair, kDim, C::kLog2Base);
    __syncthreads();
    for (int pair = t; pair < kHalf; pair += kAttentionThreads) {
      float low = at(row, 0, pair), high = at(row, 0, pair + kHalf);
      rotate(low, high, row - firstRow, frequencies[pair]);
      query[pair] = low, query[pair + kHalf] = high;
    }
  } else {
    for (int d = t; d < kDim; d += kAttentionThreads) query[d] = at(row, 0, d);
  }
  __syncthreads();

  const float scale = rsqrtf(static_cast<float>(kDim));
  const float slope = C::kAlibi ? alibiSlope<C::kHeads>(head) : 0.0f;
  const int keys = C::kCausal ? row - firstRow + 1 : C::kSeq;
  float largest = -CUDART_INF_F, sum = 0.0f, out[kOwn] = {};
  for (int first = 0; first < keys; first += kAttentionThreads) {
    const int key = first + t;
    float score = -CUDART_INF_F;
    if (key < keys) {
      float dot = 0.0f;
      if constexpr (C::kRope) {
        for (int pair = 0; pair < kHalf; ++pair) {
          float low = at(firstRow + key, 1, pair), high = at(firstRow + key, 1, pair + kHalf);
          rotate(low, high, key, frequencies[pair]);
          dot = fmaf(query[pair], low, fmaf(query[pair + kHalf], high, dot));
        }
      } else {
        for (int d = 0; d < kDim; ++d) dot = fmaf(query[d], at(firstRow + key, 1, d), dot);
      }
      score = fmaf(dot, scale, slope * key);
    }
    const float before = largest;
    largest = fmaxf(largest, blockReduce<kAttentionThreads>(score, scratch[0], Max{}, -CUDART_INF_F));
    const float factor = expf(before - largest), probability = expf(score - largest);
    probabilities[t] = probability;
    sum = sum * factor + blockReduce<kAttentionThreads>(probability, scratch[1], Add{}, 0.0f);
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      const int d = t + i * kAttentionThreads;
      out[i] *= factor;
      if (d >= kDim) continue;
      for (int j = 0; j < min(kAttentionThreads, keys - first); ++j)
        out[i] = fmaf(probabilities[j], at(firstRow + first + j, 2, d), out[i]);
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    const int d = t + i * kAttentionThreads;
    if (d < kDim) static_cast<__half*>(y)[(static_cast<size_t>(row) * C::kHeads + head) * kDim + d] = __float2half_rn(out[i] / sum);
  }
}

}  // namespace ladder
