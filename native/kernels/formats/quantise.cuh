// Vectors of eight activations: binary16 to FP32 and back, and to the codes of the quantised formats.
// Rules: lib/operators/quantise.ts (scale = amax / largest code, codes rounded to nearest even, saturating);
// MX: OCP Microscaling v1.0, section 6.3. All arithmetic is IEEE FP32, so that codes equal the reference's.
#pragma once
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <stdint.h>

#include "core/reduce.cuh"
#include "formats/records.cuh"

namespace ladder {

template <ActivationFormat F>
struct ActivationTraits : ActivationRecord<F> {
  static constexpr bool kIsE4m3 = ActivationRecord<F>::kMantissaBits == 3;
};

__device__ __forceinline__ void unpackHalves(uint4 packed, float (&values)[8]) {
  const uint32_t words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 pair = __half22float2(*reinterpret_cast<const __half2*>(&words[i]));
    values[2 * i] = pair.x;
    values[2 * i + 1] = pair.y;
  }
}

__device__ __forceinline__ uint4 packHalves(const float (&values)[8]) {
  uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const __half2 pair = __floats2half2_rn(values[2 * i], values[2 * i + 1]);
    words[i] = *reinterpret_cast<const uint32_t*>(&pair);
  }
  return make_uint4(words[0], words[1], words[2], words[3]);
}

__device__ __forceinline__ float largestMagnitude(const float (&values)[8]) {
  float largest = 0.0f;
#pragma unroll
  for (int i = 0; i < 8; ++i) largest = fmaxf(largest, fabsf(values[i]));
  return largest;
}

/// Eight FP8 codes, low byte first; nearest even, saturating.
template <bool kIsE4m3>
__device__ __forceinline__ uint2 encodeFp8(const float (&values)[8]) {
  constexpr __nv_fp8_interpretation_t kKind = kIsE4m3 ? __NV_E4M3 : __NV_E5M2;
  uint32_t pairs[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) pairs[i] = __nv_cvt_float2_to_fp8x2(make_float2(values[2 * i], values[2 * i + 1]), __NV_SATFINITE, kKind);
  return make_uint2(pairs[0] | pairs[1] << 16, pairs[2] | pairs[3] << 16);
}

/// Eight signed bytes, low byte first; |values| is at most the largest code but for rounding of the quotient.
__device__ __forceinline__ uint2 encodeInteger(const float (&values)[8]) {
  uint32_t words[2] = {};
#pragma unroll
  for (int i = 0; i < 8; ++i) words[i / 4] |= (static_cast<uint32_t>(__float2int_rn(values[i])) & 0xffu) << (i % 4 * 8);
  return make_uint2(words[0], words[1]);
}

/// Scale of a token whose largest magnitude is `amax`; 1 where it would be 0.
template <ActivationFormat F>
__device__ __forceinline__ float tokenScale(float amax) {
  const float scale = __fdiv_rn(amax, ActivationTraits<F>::kLargest);
  return scale == 0.0f ? 1.0f : scale;
}

/// Codes of eight values of a token.
template <ActivationFormat F>
__device__ __forceinline__ uint2 quantise(float (&values)[8], float scale) {
#pragma unroll
  for (int i = 0; i < 8; ++i) values[i] = __fdiv_rn(values[i], scale);
  if constexpr (ActivationTraits<F>::kIsInteger) return encodeInteger(values);
  else return encodeFp8<ActivationTraits<F>::kIsE4m3>(values);
}

/// Codes of eight values of an MX block of 32, which four neighbouring lanes hold (all of them call); `scaleCode` is its E8M0.
template <ActivationFormat F>
__device__ __forceinline__ uint2 quantiseMx(float (&values)[8], uint32_t& scaleCode) {
  const uint32_t quad = 0xfu << (threadIdx.x % 32 / 4 * 4);
  const float amax = warpReduce<4>(largestMagnitude(values), Max{}, quad);
  // The exponent field is floor(log2 amax) + 127; a subnormal's is 0, which clamps to the same code.
  const int code = static_cast<int>(__float_as_uint(amax) >> 23) - ActivationTraits<F>::kEmax;
  scaleCode = amax == 0.0f ? 127 : min(max(code, 0), 254);
  // 2^(127 − code); for code 254 a subnormal.
  const float inverse = __uint_as_float(scaleCode == 254 ? 0x00400000u : (254 - scaleCode) << 23);
#pragma unroll
  for (int i = 0; i < 8; ++i) values[i] *= inverse;
  return encodeFp8<ActivationTraits<F>::kIsE4m3>(values);
}

}  // namespace ladder
