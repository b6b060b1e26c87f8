// Codes of any format to FP32 and back, by what lib/formats/codes.ts says of them; the simple kernels' only arithmetic on codes.
// Encoding is IEEE FP32 with ties to even, so that codes equal the reference's. Tests: test/gpu/simple-kernels.test.ts.
#pragma once
#include <cuda_fp16.h>
#include <stdint.h>

namespace ladder {

/// A small float: sign, exponent, mantissa from the top. Finite codes only.
template <int kMantissaBits, int kBias>
__device__ __forceinline__ float decodeFloat(uint32_t code, uint32_t signBit) {
  const uint32_t magnitude = code & (signBit - 1), exponent = magnitude >> kMantissaBits,
                 mantissa = magnitude & ((1u << kMantissaBits) - 1);
  const float value =
      exponent == 0 ? ldexpf(static_cast<float>(mantissa), 1 - kBias - kMantissaBits)
                    : ldexpf(static_cast<float>((1u << kMantissaBits) + mantissa), static_cast<int>(exponent) - kBias - kMantissaBits);
  return code & signBit ? -value : value;
}

/// Nearest code; beyond the largest finite one it saturates.
template <int kMantissaBits, int kBias, uint32_t kMaxCode>
__device__ __forceinline__ uint32_t encodeFloat(float value, uint32_t signBit) {
  const uint32_t sign = value < 0.0f ? signBit : 0;
  const float magnitude = fabsf(value);
  if (magnitude == 0.0f) return sign;
  if (isinf(magnitude)) return sign | kMaxCode;
  // Subnormals share the exponent of the smallest normal number; a carry out of the mantissa moves on to the next exponent by itself.
  const int exponent = max(ilogbf(magnitude), 1 - kBias);
  const int mantissa = __float2int_rn(ldexpf(magnitude, kMantissaBits - exponent));
  const uint32_t code = static_cast<uint32_t>(((exponent + kBias - 1) << kMantissaBits) + mantissa);
  return sign | min(code, kMaxCode);
}

/// Two's complement of kBits.
template <int kBits>
__device__ __forceinline__ float decodeInteger(uint32_t code) {
  return static_cast<float>(static_cast<int32_t>(code << (32 - kBits)) >> (32 - kBits));
}

__device__ __forceinline__ uint32_t encodeInteger(float value, int least, int most) {
  return static_cast<uint32_t>(min(max(__float2int_rn(value), least), most));
}

/// Code `index` of codes of kBits that fill bytes from the low bits up.
template <int kBits>
__device__ __forceinline__ uint32_t loadCode(const uint8_t* codes, int64_t index) {
  static_assert(kBits == 1 || kBits == 2 || kBits == 4 || kBits == 8);
  return codes[index * kBits / 8] >> (index * kBits % 8) & ((1u << kBits) - 1);
}

/// E8M0: 2^(code − 127). Code 0 is the subnormal 2^-127; 255 (NaN) does not occur.
__device__ __forceinline__ float scaleE8m0(uint32_t code) { return __uint_as_float(max(code << 23, 0x00400000u)); }

}  // namespace ladder
