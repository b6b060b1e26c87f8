// Norm and quantisation of rows that a warp holds in registers, several side by side, since each step waits for the one before: the
// arithmetic of activation.cuh, for rows so short that a block of threads would mostly wait.
#pragma once
#include "norm/activation.cuh"

namespace ladder {

/// kRows rows of kK numbers (k % 8 = 0, at most 2048), vector i · 32 + lane of eight in lane `lane`; past a row's end numbers are 0.
template <int kK, int kRows, NormKind kNorm, ActivationFormat kFormat>
struct WarpRows {
  static constexpr int kVectors = kK / 8, kLaneVectors = (kVectors + 31) / 32;
  static constexpr bool kNormed = kNorm != NormKind::kNone, kShifted = kNorm == NormKind::kLayer;
  using Values = float[kRows][kLaneVectors][8];
  using A = ActivationTraits<kFormat>;
  static_assert(kK % 8 == 0 && !A::kIsMx);

  __device__ __forceinline__ static bool has(int i) { return kVectors % 32 == 0 || static_cast<int>(threadIdx.x % 32) + i * 32 < kVectors; }

  template <class F>
  __device__ __forceinline__ static void reduce(float (&values)[kRows], F f) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
      float others[kRows];
#pragma unroll
      for (int r = 0; r < kRows; ++r) others[r] = __shfl_xor_sync(0xffffffffu, values[r], distance);
#pragma unroll
      for (int r = 0; r < kRows; ++r) values[r] = f(values[r], others[r]);
    }
  }

  /// @param parameters vector i of this lane's gains (0) and shifts (1)
  template <class Parameters>
  __device__ __forceinline__ static void norm(Values& values, float eps, Parameters parameters) {
    float mean[kRows] = {}, squares[kRows] = {};
    if constexpr (kShifted) {
#pragma unroll
      for (int r = 0; r < kRows; ++r)
#pragma unroll
        for (int i = 0; i < kLaneVectors; ++i)
#pragma unroll
          for (int e = 0; e < 8; ++e) mean[r] += values[r][i][e];
      reduce(mean, Add{});
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      mean[r] *= 1.0f / kK;
#pragma unroll
      for (int i = 0; i < kLaneVectors; ++i) {
        if (!has(i)) continue;
#pragma unroll
        for (int e = 0; e < 8; ++e) squares[r] = fmaf(values[r][i][e] - mean[r], values[r][i][e] - mean[r], squares[r]);
      }
    }
    reduce(squares, Add{});
#pragma unroll
    for (int r = 0; r < kRows; ++r) squares[r] = rsqrtf(squares[r] * (1.0f / kK) + eps);
#pragma unroll
    for (int i = 0; i < kLaneVectors; ++i) {
      if (!has(i)) continue;
      float gain[8], beta[8] = {};
      unpackHalves(parameters(0, i), gain);
      if constexpr (kShifted) unpackHalves(parameters(1, i), beta);
#pragma unroll
      for (int r = 0; r < kRows; ++r)
#pragma unroll
        for (int e = 0; e < 8; ++e) {
          values[r][i][e] = (values[r][i][e] - mean[r]) * squares[r] * gain[e];
          if constexpr (kShifted) values[r][i][e] += beta[e];
        }
    }
  }

  /// Scales of the rows.
  __device__ __forceinline__ static void scales(const Values& values, float (&scales)[kRows]) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      scales[r] = 0.0f;
#pragma unroll
      for (int i = 0; i < kLaneVectors; ++i) scales[r] = fmaxf(scales[r], largestMagnitude(values[r][i]));
    }
    reduce(scales, Max{});
#pragma unroll
    for (int r = 0; r < kRows; ++r) scales[r] = tokenScale<kFormat>(scales[r]);
  }

  /// Codes of eight numbers. Quotients from the scale's rounded inverse and one correction (Markstein, 1990) are those of a division,
  /// without its branches.
  __device__ __forceinline__ static uint2 encode(float (&values)[8], float scale, float inverse) {
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      const float near = values[e] * inverse;
      values[e] = fmaf(fmaf(-near, scale, values[e]), inverse, near);
    }
    if constexpr (A::kIsInteger) return encodeInteger(values);
    else return encodeFp8<A::kIsE4m3>(values);
  }
};

/// As activationKernel, a warp for kRows rows at a time. C: kM, kK, kThreads, kRows, kNorm, kFormat (not MX), kEps.
template <class C>
__device__ __forceinline__ void warpRowsKernel(const void* x, const void* gain, const void* beta, void* y, void* scale) {
  using W = WarpRows<C::kK, C::kRows, C::kNorm, C::kFormat>;
  constexpr int kWarps = C::kThreads / 32;
  const int lane = threadIdx.x % 32, first = (blockIdx.x * kWarps + threadIdx.x / 32) * C::kRows;
  launchDependents();
  // Parameters, which no earlier kernel writes, are read before the wait.
  uint4 held[2][W::kLaneVectors];
#pragma unroll
  for (int i = 0; i < W::kLaneVectors; ++i) {
    if (W::kNormed && W::has(i)) held[0][i] = __ldg(static_cast<const uint4*>(gain) + lane + i * 32);
    if (W::kShifted && W::has(i)) held[1][i] = __ldg(static_cast<const uint4*>(beta) + lane + i * 32);
  }
  waitForPrerequisites();
  if (first >= C::kM) return;

  typename W::Values values;
#pragma unroll
  for (int r = 0; r < C::kRows; ++r)
#pragma unroll
    for (int i = 0; i < W::kLaneVectors; ++i) {
      const bool exists = W::has(i) && (C::kM % C::kRows == 0 || first + r < C::kM);
      const uint4* const from = static_cast<const uint4*>(x) + static_cast<size_t>(first + r) * W::kVectors + lane + i * 32;
      unpackHalves(exists ? __ldcg(from) : make_uint4(0, 0, 0, 0), values[r][i]);
    }
  if constexpr (W::kNormed) W::norm(values, C::kEps, [&](int which, int i) { return held[which][i]; });
  float scales[C::kRows];
  if constexpr (C::kFormat != ActivationFormat::kFp16) W::scales(values, scales);
#pragma unroll
  for (int r = 0; r < C::kRows; ++r) {
    if (C::kM % C::kRows != 0 && first + r >= C::kM) break;
    const size_t row = static_cast<size_t>(first + r) * W::kVectors;
    if constexpr (C::kFormat != ActivationFormat::kFp16) {
      if (lane == 0) static_cast<float*>(scale)[first + r] = scales[r];
      const float inverse = __frcp_rn(scales[r]);
#pragma unroll
      for (int i = 0; i < W::kLaneVectors; ++i)
        if (W::has(i)) static_cast<uint2*>(y)[row + lane + i * 32] = W::encode(values[r][i], scales[r], inverse);
    } else {
#pragma unroll
      for (int i = 0; i < W::kLaneVectors; ++i)
        if (W::has(i)) static_cast<uint4*>(y)[row + lane + i * 32] = packHalves(values[r][i]);
    }
  }
}

}  // namespace ladder
