// Norm and per-token quantisation of activations, alone or fused: lib/operators/norm.ts and
// quantise.ts. For products of several tokens, where every block would otherwise repeat them (matmul/vector/prologue.cuh).
//
//   h = x · rsqrt(mean(x²) + eps) · gain                         rms
//   h = (x − mean) · rsqrt(var + eps) · gain + beta              layer
//   h = x                                                        none (quantise only)
//   y = half(h), or codes and a scale per token (MX: E8M0 per 32)
//
// x float16 [m, kK], gain and beta float16 [kK], y float16 or bytes [m, kK], scale float [m] or bytes [m, kK/32].
// One block per token; a row stays in registers between its one read and its one write. FP32 throughout.
// Divisibility: kK by 8, by 32 for MX. Architectures: sm_80 and up. Tests: `ladder verify`, test/gpu/small-kernels.test.ts.
#pragma once
#include "core/ptx.cuh"
#include "core/reduce.cuh"
#include "formats/quantise.cuh"

namespace ladder {

enum class NormKind { kNone, kRms, kLayer };

/// C: kK, kThreads, kNorm, kFormat, kEps. Launched with m blocks of kThreads; `gain`, `beta` and `scale` are null where unused.
template <class C>
__device__ __forceinline__ void activationKernel(const void* x, const void* gain, const void* beta, void* y, void* scale) {
  using T = ActivationTraits<C::kFormat>;
  constexpr int kVectors = C::kK / 8;
  constexpr int kPerThread = (kVectors + C::kThreads - 1) / C::kThreads;
  constexpr bool kHasNorm = C::kNorm != NormKind::kNone;
  constexpr bool kHasBeta = C::kNorm == NormKind::kLayer;
  static_assert(C::kK % (T::kIsMx ? 32 : 8) == 0);
  static_assert(C::kThreads % 32 == 0 && kPerThread <= 8, "a row must fit into the block's registers");
  // Short rows have registers to spare for the parameters, which no earlier kernel writes: they are read before the wait.
  constexpr bool kHoldParameters = kHasNorm && kPerThread <= 2;

  __shared__ float scratch[3][kMaxWarps];
  launchDependents();
  const auto owns = [](int i) { return kVectors % C::kThreads == 0 || static_cast<int>(threadIdx.x) + i * C::kThreads < kVectors; };
  const auto vectorOf = [](int i) { return static_cast<int>(threadIdx.x) + i * C::kThreads; };
  uint4 heldGain[kHoldParameters ? kPerThread : 1], heldBeta[kHoldParameters ? kPerThread : 1];
  if constexpr (kHoldParameters) {
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      if (!owns(i)) continue;
      heldGain[i] = __ldg(static_cast<const uint4*>(gain) + vectorOf(i));
      if constexpr (kHasBeta) heldBeta[i] = __ldg(static_cast<const uint4*>(beta) + vectorOf(i));
    }
  }
  waitForPrerequisites();

  // Load. Lanes past the row's end hold zeros, which no sum and no maximum notices.
  const uint4* row = static_cast<const uint4*>(x) + static_cast<size_t>(blockIdx.x) * kVectors;
  uint4 packed[kPerThread];
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) packed[i] = owns(i) ? __ldcg(row + vectorOf(i)) : make_uint4(0, 0, 0, 0);

  // Statistics.
  float mean = 0.0f;
  float inverse = 1.0f;
  if constexpr (C::kNorm == NormKind::kLayer) {
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      float v[8];
      unpackHalves(packed[i], v);
#pragma unroll
      for (int e = 0; e < 8; ++e) sum += v[e];
    }
    mean = blockReduce<C::kThreads>(sum, scratch[0], Add{}, 0.0f) * (1.0f / C::kK);
  }
  if constexpr (kHasNorm) {
    float squares = 0.0f;
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      if (!owns(i)) continue;
      float v[8];
      unpackHalves(packed[i], v);
#pragma unroll
      for (int e = 0; e < 8; ++e) squares = fmaf(v[e] - mean, v[e] - mean, squares);
    }
    inverse = rsqrtf(blockReduce<C::kThreads>(squares, scratch[1], Add{}, 0.0f) * (1.0f / C::kK) + C::kEps);
  }

  const auto normalise = [&](int i, float (&h)[8]) {
    unpackHalves(packed[i], h);
    if constexpr (kHasNorm) {
      float g[8], b[8] = {};
      unpackHalves(kHoldParameters ? heldGain[kHoldParameters ? i : 0] : __ldg(static_cast<const uint4*>(gain) + vectorOf(i)), g);
      if constexpr (kHasBeta)
        unpackHalves(kHoldParameters ? heldBeta[kHoldParameters ? i : 0] : __ldg(static_cast<const uint4*>(beta) + vectorOf(i)), b);
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        h[e] = (h[e] - mean) * inverse * g[e];
        if constexpr (kHasBeta) h[e] += b[e];
      }
    }
  };

  // Largest magnitude of the token.
  float quantum = 1.0f;
  if constexpr (C::kFormat != ActivationFormat::kFp16 && !T::kIsMx) {
    float amax = 0.0f;
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      if (!owns(i)) continue;
      float h[8];
      normalise(i, h);
      amax = fmaxf(amax, largestMagnitude(h));
    }
    quantum = tokenScale<C::kFormat>(blockReduce<C::kThreads>(amax, scratch[2], Max{}, 0.0f));
    if (threadIdx.x == 0) static_cast<float*>(scale)[blockIdx.x] = quantum;
  }

  // Store.
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    if (!owns(i)) continue;
    const size_t vector = static_cast<size_t>(blockIdx.x) * kVectors + vectorOf(i);
    float h[8];
    normalise(i, h);
    if constexpr (C::kFormat == ActivationFormat::kFp16) {
      static_cast<uint4*>(y)[vector] = packHalves(h);
    } else if constexpr (T::kIsMx) {
      uint32_t code;
      static_cast<uint2*>(y)[vector] = quantiseMx<C::kFormat>(h, code);
      if (vector % 4 == 0) static_cast<uint8_t*>(scale)[vector / 4] = static_cast<uint8_t>(code);
    } else {
      static_cast<uint2*>(y)[vector] = quantise<C::kFormat>(h, quantum);
    }
  }
}

}  // namespace ladder
