// The numeric formats on the host: codes to values and back, rounding to nearest even.
// The TypeScript twin is lib/compiler/formats.ts; exhaustive tests hold the two together. Storage order is layout.h's business.
// Follows IEEE 754 binary16, OCP FP8 v1.0 and OCP MX v1.0; NF4: QLoRA (Dettmers et al. 2023), Appendix E.
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

/// A floating-point format of at most 16 bits: sign, exponent, mantissa from the top.
template <int MantissaBits, int Bias, uint32_t SignBit, uint32_t MaxCode, uint32_t OverflowCode, uint32_t NanCode>
struct SmallFloat {
  static uint32_t encode(float value) {
    uint32_t bits = bitsOf(value);
    const uint32_t sign = bits >> 31 ? SignBit : 0;
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) return NanCode;
    uint32_t code;
    if (bits < static_cast<uint32_t>(128 - Bias) << 23) {
      // Below the smallest normal number: adding 2^(24 - Bias - MantissaBits) makes the FP32 adder round at the last
      // subnormal bit, and leaves the code in the sum's mantissa.
      const float shifter = floatOf(static_cast<uint32_t>(127 + 24 - Bias - MantissaBits) << 23);
      code = bitsOf(floatOf(bits) + shifter) - bitsOf(shifter);
    } else {
      constexpr int kShift = 23 - MantissaBits;
      const uint32_t rounded = bits + ((1u << (kShift - 1)) - 1) + ((bits >> kShift) & 1);
      code = (rounded >> kShift) - (static_cast<uint32_t>(127 - Bias) << MantissaBits);
    }
    return sign | (code > MaxCode ? OverflowCode : code);
  }

  /// Finite codes only.
  static float decode(uint32_t code) {
    const uint32_t magnitude = code & (SignBit - 1);
    const uint32_t sign = code & SignBit ? 0x80000000u : 0;
    if (magnitude >> MantissaBits == 0) {
      const float unit = floatOf(static_cast<uint32_t>(127 + 1 - Bias - MantissaBits) << 23);
      return floatOf(sign | bitsOf(static_cast<float>(magnitude) * unit));
    }
    return floatOf(sign | ((magnitude << (23 - MantissaBits)) + (static_cast<uint32_t>(127 - Bias) << 23)));
  }
};

using HalfFormat = SmallFloat<10, 15, 0x8000, 0x7bff, 0x7c00, 0x7e00>;
using E4m3Format = SmallFloat<3, 7, 0x80, 0x7e, 0x7e, 0x7f>;
using E5m2Format = SmallFloat<2, 15, 0x80, 0x7b, 0x7b, 0x7f>;

/// Nearest binary16; overflow gives infinity.
inline uint16_t floatToHalf(float value) { return static_cast<uint16_t>(HalfFormat::encode(value)); }

inline float halfToFloat(uint16_t code) {
  if ((code & 0x7c00) == 0x7c00) {
    return floatOf((code & 0x8000u) << 16 | 0x7f800000u | static_cast<uint32_t>(code & 0x3ff) << 13);
  }
  return HalfFormat::decode(code);
}

inline uint16_t floatToBfloat(float value) {
  const uint32_t bits = bitsOf(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fc0;
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

/// Saturating; NaN gives 0x7f.
inline uint8_t floatToE4m3(float value) { return static_cast<uint8_t>(E4m3Format::encode(value)); }
inline uint8_t floatToE5m2(float value) { return static_cast<uint8_t>(E5m2Format::encode(value)); }

inline float e4m3ToFloat(uint8_t code) {
  return (code & 0x7f) == 0x7f ? std::numeric_limits<float>::quiet_NaN() : E4m3Format::decode(code);
}

/// E5M2 is the upper byte of binary16.
inline float e5m2ToFloat(uint8_t code) { return halfToFloat(static_cast<uint16_t>(code << 8)); }

/// 2^(code - 127); 255 is NaN.
inline float e8m0ToFloat(uint8_t code) {
  if (code == 255) return std::numeric_limits<float>::quiet_NaN();
  return code == 0 ? floatOf(0x00400000u) : floatOf(static_cast<uint32_t>(code) << 23);
}

/// Exponent of the largest power of two not above |value|; `value` is finite and not 0.
inline int floorLog2(float value) { return std::ilogb(value); }

/// Code i means kNf4[i].
inline constexpr float kNf4[16] = {
    -1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f, -0.28444138169288635f, -0.18477343022823334f,
    -0.09105003625154495f, 0.0f, 0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f,
    0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f};

/// Nearest integer, ties to even, whatever the rounding mode; exact for |value| < 2^22, larger values pass unchanged.
inline float roundHalfEven(float value) {
  if (!(std::fabs(value) < 4194304.0f)) return value;
  const float truncated = std::floor(value);
  const float rest = value - truncated;
  if (rest != 0.5f) return rest < 0.5f ? truncated : truncated + 1.0f;
  return std::fmod(truncated, 2.0f) == 0.0f ? truncated : truncated + 1.0f;
}

}  // namespace ladder::reference
