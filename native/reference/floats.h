// Single floating-point numbers on the host: FP32's bits, binary16, bfloat16 and E8M0, rounding to nearest even.
// Codes whose shape is data are codes.h's; the TypeScript twin is lib/formats/codes.ts, and tests hold the two together.
// Follows IEEE 754 binary16 and OCP MX v1.0.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace ladder::reference {

inline uint32_t bitsOf(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}

inline float floatOf(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

/// Code of |value|'s magnitude among numbers of that mantissa and bias, before any overflow: a carry moves on into the
/// exponent. `bits` are FP32's without the sign, and no NaN. Exact for biases of at most 127.
[[gnu::always_inline]] inline uint32_t encodeMagnitude(uint32_t bits, int mantissaBits, int bias) {
  if (bits < static_cast<uint32_t>(128 - bias) << 23) {
    // Below the smallest normal number: adding 2^(24 - bias - mantissaBits) makes the FP32 adder round at the last
    // subnormal bit, and leaves the code in the sum's mantissa.
    const float shifter = floatOf(static_cast<uint32_t>(127 + 24 - bias - mantissaBits) << 23);
    return bitsOf(floatOf(bits) + shifter) - bitsOf(shifter);
  }
  const int shift = 23 - mantissaBits;
  // Ties go to the even significand, whose last bit is the one that is not stored where there is no mantissa.
  const uint32_t odd = mantissaBits == 0 ? 1 : (bits >> shift) & 1;
  const uint32_t rounded = bits + ((1u << (shift - 1)) - 1) + odd;
  return (rounded >> shift) - (static_cast<uint32_t>(127 - bias) << mantissaBits);
}

/// Nearest binary16; overflow gives infinity.
inline uint16_t floatToHalf(float value) {
  const uint32_t bits = bitsOf(value) & 0x7fffffffu;
  if (bits > 0x7f800000u) return 0x7e00;
  const uint32_t code = encodeMagnitude(bits, 10, 15);
  return static_cast<uint16_t>(bitsOf(value) >> 16 & 0x8000u) | static_cast<uint16_t>(code > 0x7bff ? 0x7c00 : code);
}

inline float halfToFloat(uint16_t code) {
  const uint32_t sign = (code & 0x8000u) << 16;
  const uint32_t magnitude = code & 0x7fffu;
  if (magnitude >= 0x7c00) return floatOf(sign | 0x7f800000u | (magnitude & 0x3ff) << 13);
  if (magnitude < 0x400) return floatOf(sign | bitsOf(static_cast<float>(magnitude) * 0x1p-24f));
  return floatOf(sign | ((magnitude << 13) + (112u << 23)));
}

inline uint16_t floatToBfloat(float value) {
  const uint32_t bits = bitsOf(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fc0;
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

/// 2^(code - 127); 255 is NaN.
inline float e8m0ToFloat(uint8_t code) {
  if (code == 255) return std::numeric_limits<float>::quiet_NaN();
  return code == 0 ? floatOf(0x00400000u) : floatOf(static_cast<uint32_t>(code) << 23);
}

/// Exponent of the largest power of two not above |value|; `value` is finite and not 0.
inline int floorLog2(float value) { return std::ilogb(value); }

/// Nearest integer, ties to even, whatever the rounding mode; exact for |value| < 2^22, larger values pass unchanged.
inline float roundHalfEven(float value) {
  if (!(std::fabs(value) < 4194304.0f)) return value;
  const float truncated = std::floor(value);
  const float rest = value - truncated;
  if (rest != 0.5f) return rest < 0.5f ? truncated : truncated + 1.0f;
  return std::fmod(truncated, 2.0f) == 0.0f ? truncated : truncated + 1.0f;
}

}  // namespace ladder::reference
