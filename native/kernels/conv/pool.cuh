// Pooling over images whose pixels are rows [images · height · width, channels] of float16: lib/operators/images.ts.
//
// maxPoolKernel: y[place, c] = the largest of x[pixel, c] under the place's window. A thread has eight channels of a place; what windows
// share comes from the L1 cache. C: kImages, kHeight, kWidth, kOutHeight, kOutWidth, kKernel, kStride, kPadding, kChannels (a multiple of 8),
// and what formats/results.cuh asks for. Grid: kBlocks blocks of kThreads.
//
// meanRowsKernel: y[image, c] = the mean over the image's rows, summed in FP32. A block has 64 channels of an image: 8 vectors × 32 threads
// that share out the rows. C: kImages, kRows, kChannels (a multiple of 64). Grid: kBlocks blocks of kThreads.
//
// Architectures: sm_80 and up. Tests: test/gpu/image-kernels.test.ts.
#pragma once
#include "core/ptx.cuh"
#include "formats/results.cuh"

namespace ladder {

template <class C>
struct MaxPool {
  static constexpr int kThreads = 256, kVectors = C::kChannels / 8;
  static constexpr int64_t kItems = static_cast<int64_t>(C::kImages) * C::kOutHeight * C::kOutWidth * kVectors;
  static constexpr int64_t kBlocks = (kItems + kThreads - 1) / kThreads;
  static_assert(C::kChannels % 8 == 0);
};

template <class C>
__device__ __forceinline__ void maxPoolKernel(const __half* x, const ResultArguments& result) {
  using P = MaxPool<C>;
  const float inverse = Results<C>::inverse(result);
  launchDependents();
  waitForPrerequisites();
  const int64_t item = static_cast<int64_t>(blockIdx.x) * P::kThreads + threadIdx.x;
  if (item >= P::kItems) return;
  const int vector = static_cast<int>(item % P::kVectors);
  const int64_t place = item / P::kVectors;
  const int within = static_cast<int>(place % (C::kOutHeight * C::kOutWidth));
  const int top = within / C::kOutWidth * C::kStride - C::kPadding, left = within % C::kOutWidth * C::kStride - C::kPadding;
  const uint4* const image =
      reinterpret_cast<const uint4*>(x) + place / (C::kOutHeight * C::kOutWidth) * (C::kHeight * C::kWidth * P::kVectors) + vector;
  constexpr uint32_t kLeast = 0xfc00fc00u;  // −∞
  uint4 taps[C::kKernel * C::kKernel];
#pragma unroll
  for (int tap = 0; tap < C::kKernel * C::kKernel; ++tap) {
    const int row = top + tap / C::kKernel, column = left + tap % C::kKernel;
    const bool isThere = static_cast<uint32_t>(row) < C::kHeight && static_cast<uint32_t>(column) < C::kWidth;
    taps[tap] = isThere ? image[(row * C::kWidth + column) * P::kVectors] : make_uint4(kLeast, kLeast, kLeast, kLeast);
  }
  const auto larger = [](uint32_t& most, uint32_t other) {
    const __half2 both = __hmax2(*reinterpret_cast<__half2*>(&most), *reinterpret_cast<__half2*>(&other));
    most = *reinterpret_cast<const uint32_t*>(&both);
  };
#pragma unroll
  for (int tap = 1; tap < C::kKernel * C::kKernel; ++tap) {
    larger(taps[0].x, taps[tap].x), larger(taps[0].y, taps[tap].y), larger(taps[0].z, taps[tap].z), larger(taps[0].w, taps[tap].w);
  }
  float values[8];
  unpackHalves(taps[0], values);
  Results<C>::template store<C::kChannels>(result, place, vector * 8, values, inverse);
}

template <class C>
struct MeanRows {
  static constexpr int kThreads = 256, kVectors = 8, kShares = kThreads / kVectors;
  static constexpr int kBlockChannels = kVectors * 8, kImageBlocks = C::kChannels / kBlockChannels, kBlocks = C::kImages * kImageBlocks;
  static_assert(C::kChannels % kBlockChannels == 0);
};

template <class C>
__device__ __forceinline__ void meanRowsKernel(const __half* x, __half* y) {
  using M = MeanRows<C>;
  __shared__ float sums[M::kThreads / 32][M::kBlockChannels];
  launchDependents();
  waitForPrerequisites();
  const int vector = threadIdx.x % M::kVectors, share = threadIdx.x / M::kVectors;
  const int image = blockIdx.x / M::kImageBlocks, first = blockIdx.x % M::kImageBlocks * M::kBlockChannels;
  float sum[8] = {};
  for (int row = share; row < C::kRows; row += M::kShares) {
    float values[8];
    unpackHalves(*reinterpret_cast<const uint4*>(x + (static_cast<int64_t>(image) * C::kRows + row) * C::kChannels + first + vector * 8),
                 values);
#pragma unroll
    for (int e = 0; e < 8; ++e) sum[e] += values[e];
  }
#pragma unroll
  for (int e = 0; e < 8; ++e) {
    sum[e] += __shfl_xor_sync(0xffffffffu, sum[e], 8);
    sum[e] += __shfl_xor_sync(0xffffffffu, sum[e], 16);
    if (threadIdx.x % 32 < M::kVectors) sums[threadIdx.x / 32][vector * 8 + e] = sum[e];
  }
  __syncthreads();
  if (threadIdx.x >= M::kBlockChannels) return;
  float total = 0.0f;
#pragma unroll
  for (int warp = 0; warp < M::kThreads / 32; ++warp) total += sums[warp][threadIdx.x];
  y[static_cast<int64_t>(image) * C::kChannels + first + threadIdx.x] = __float2half_rn(total / C::kRows);
}

}  // namespace ladder
