// Norm and per-token quantisation as norm/activation.cuh has them, written in panels (matmul/wide/wide_block.cuh): kRows rows per block,
// so that the 16-byte pieces of neighbouring rows, which lie together, are written together: two rows fill a sector of memory, and more
// rows in a block leave fewer blocks to overlap reading and writing (bench/NOTES.md).
//
//   thread t has row t mod kRows and every (kThreads/kRows)-th vector of 8 channels of it
//
// x float16 [kM, kK], gain and beta float16 [kK]; y float16 [kK/64][⌈kM/8⌉][8 pieces][8 rows][8], or bytes [kK/128][…][16];
// scale float [kM]. Rows past kM up to a multiple of 8 are written as rows of zeros would be. FP32 throughout.
// Divisibility: kK by the channels of a panel. Architectures: sm_80 and up. Tests: `ladder verify`, test/gpu/wide-kernels.test.ts.
#pragma once
#include "norm/activation.cuh"

namespace ladder {

/// Values of rows meet here, of each warp.
using RowScratch = float[kMaxWarps][8];

/// Over the threads that share a row; all of them get it. Each call has a scratch of its own.
template <int kThreads, int kRows, class F>
__device__ __forceinline__ float rowReduce(float value, RowScratch& scratch, F combine, float neutral) {
#pragma unroll
  for (int offset = 16; offset >= kRows; offset /= 2) value = combine(value, __shfl_xor_sync(0xffffffffu, value, offset));
  const int row = threadIdx.x % kRows;
  if (threadIdx.x % 32 < kRows) scratch[threadIdx.x / 32][row] = value;
  __syncthreads();
  value = neutral;
#pragma unroll 4
  for (int warp = 0; warp < kThreads / 32; ++warp) value = combine(value, scratch[warp][row]);
  return value;
}

/// Eight channels, asked for where they are used: asked for together, those of a row take more registers than there are.
__device__ __forceinline__ uint4 loadInPlace(const void* channels, int vector) {
  uint4 v;
  asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(static_cast<const uint4*>(channels) + vector));
  return v;
}

/// C: kM, kK, kRows, kThreads, kNorm, kFormat, kEps. Launched with ⌈kM/8⌉·8/kRows blocks of kThreads.
template <class C>
__device__ __forceinline__ void panelKernel(const void* x, const void* gain, const void* beta, void* y, void* scale) {
  using T = ActivationTraits<C::kFormat>;
  constexpr int kVectors = C::kK / 8, kColumns = C::kThreads / C::kRows, kPerThread = (kVectors + kColumns - 1) / kColumns;
  constexpr int kElementBytes = C::kFormat == ActivationFormat::kFp16 ? 2 : 1, kPanelVectors = 16 / kElementBytes;
  constexpr bool kHasBeta = C::kNorm == NormKind::kLayer;
  static_assert(!T::kIsMx && kVectors % kPanelVectors == 0 && C::kThreads % 32 == 0 && 8 % C::kRows == 0);

  __shared__ RowScratch scratch[3];
  launchDependents();
  waitForPrerequisites();

  const int row = blockIdx.x * C::kRows + threadIdx.x % C::kRows;
  const auto vectorOf = [](int i) { return static_cast<int>(threadIdx.x) / C::kRows + i * kColumns; };
  const auto owns = [&](int i) { return kVectors % kColumns == 0 || vectorOf(i) < kVectors; };
  const uint4* from = static_cast<const uint4*>(x) + static_cast<size_t>(row) * kVectors;
  const auto load = [&](int i) { return row < C::kM && owns(i) ? loadInPlace(from, vectorOf(i)) : make_uint4(0, 0, 0, 0); };
  // What 64 registers do not hold comes from L2 each time.
  constexpr int kMost = C::kFormat == ActivationFormat::kFp16 ? 6 : 8, kHeld = kPerThread < kMost ? kPerThread : kMost;
  uint4 held[kHeld];
#pragma unroll
  for (int i = 0; i < kHeld; ++i) held[i] = load(i);
  const auto packed = [&](int i) { return i < kHeld ? held[i] : load(i); };

  // Statistics.
  float mean = 0.0f, inverse = 1.0f;
  if constexpr (C::kNorm == NormKind::kLayer) {
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      float v[8];
      unpackHalves(packed(i), v);
#pragma unroll
      for (int e = 0; e < 8; ++e) sum += v[e];
    }
    mean = rowReduce<C::kThreads, C::kRows>(sum, scratch[0], Add{}, 0.0f) * (1.0f / C::kK);
  }
  if constexpr (C::kNorm != NormKind::kNone) {
    float squares = 0.0f;
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      if (!owns(i)) continue;
      float v[8];
      unpackHalves(packed(i), v);
#pragma unroll
      for (int e = 0; e < 8; ++e) squares = fmaf(v[e] - mean, v[e] - mean, squares);
    }
    inverse = rsqrtf(rowReduce<C::kThreads, C::kRows>(squares, scratch[1], Add{}, 0.0f) * (1.0f / C::kK) + C::kEps);
  }
  const auto normalise = [&](int i, float (&h)[8]) {
    unpackHalves(packed(i), h);
    if constexpr (C::kNorm != NormKind::kNone) {
      float g[8], b[8] = {};
      unpackHalves(loadInPlace(gain, vectorOf(i)), g);
      if constexpr (kHasBeta) unpackHalves(loadInPlace(beta, vectorOf(i)), b);
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        h[e] = (h[e] - mean) * inverse * g[e];
        if constexpr (kHasBeta) h[e] += b[e];
      }
    }
  };

  // Largest magnitude of the token.
  float quantum = 1.0f;
  if constexpr (C::kFormat != ActivationFormat::kFp16) {
    float amax = 0.0f;
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      if (!owns(i)) continue;
      float h[8];
      normalise(i, h);
      amax = fmaxf(amax, largestMagnitude(h));
    }
    quantum = tokenScale<C::kFormat>(rowReduce<C::kThreads, C::kRows>(amax, scratch[2], Max{}, 0.0f));
    if (threadIdx.x < C::kRows && row < C::kM) static_cast<float*>(scale)[row] = quantum;
  }

  // Store.
  constexpr size_t kPanelBytes = (C::kM + 7) / 8 * size_t(1024);
  uint8_t* const to = static_cast<uint8_t*>(y) + static_cast<size_t>(row / 8) * 1024 + row % 8 * 16;
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    if (!owns(i)) continue;
    const int vector = vectorOf(i), inPanel = vector % kPanelVectors;
    uint8_t* const at =
        to + vector / kPanelVectors * kPanelBytes + inPanel * kElementBytes / 2 * 128 + (kElementBytes == 1 ? inPanel % 2 * 8 : 0);
    float h[8];
    normalise(i, h);
    if constexpr (C::kFormat == ActivationFormat::kFp16) *reinterpret_cast<uint4*>(at) = packHalves(h);
    else *reinterpret_cast<uint2*>(at) = quantise<C::kFormat>(h, quantum);
  }
}

}  // namespace ladder
