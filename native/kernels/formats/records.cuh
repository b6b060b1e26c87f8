// Generated from lib/formats by lib/formats/cpp.ts, and held against it by test/unit/formats-records.test.ts: do not edit.
#pragma once

namespace ladder {

/// How weights are stored.
enum class WeightFormat { kFp16, kInt4, kNf4, kFp8E5m2, kFp8E4m3, kMxE5m2, kMxE4m3, kInt1 };
/// What activations are multiplied as.
enum class ActivationFormat { kFp16, kInt4, kFp8E5m2, kFp8E4m3, kMxfp8E5m2, kMxfp8E4m3, kInt8 };

/// Bits of a code; mantissa bits of a floating-point one, else 0; whether blocks of weights share a power of two.
template <int bits, int mantissaBits, bool isMx>
struct WeightRecordOf {
  static constexpr int kBits = bits, kMantissaBits = mantissaBits;
  static constexpr bool kIsMx = isMx;
};
template <WeightFormat F> struct WeightRecord;
template <> struct WeightRecord<WeightFormat::kFp16> : WeightRecordOf<16, 10, false> {};
template <> struct WeightRecord<WeightFormat::kInt4> : WeightRecordOf<4, 0, false> {};
template <> struct WeightRecord<WeightFormat::kNf4> : WeightRecordOf<4, 0, false> {};
template <> struct WeightRecord<WeightFormat::kFp8E5m2> : WeightRecordOf<8, 2, false> {};
template <> struct WeightRecord<WeightFormat::kFp8E4m3> : WeightRecordOf<8, 3, false> {};
template <> struct WeightRecord<WeightFormat::kMxE5m2> : WeightRecordOf<8, 2, true> {};
template <> struct WeightRecord<WeightFormat::kMxE4m3> : WeightRecordOf<8, 3, true> {};
template <> struct WeightRecord<WeightFormat::kInt1> : WeightRecordOf<1, 0, false> {};

/// Mantissa bits of a floating-point code, else 0; the value that a token's largest magnitude becomes; the exponent of the largest
/// power of two, where blocks share one; whether they do; whether codes are whole numbers.
template <int mantissaBits, int largest, int emax, bool isMx, bool isInteger>
struct ActivationRecordOf {
  static constexpr int kMantissaBits = mantissaBits, kEmax = emax;
  static constexpr float kLargest = largest;
  static constexpr bool kIsMx = isMx, kIsInteger = isInteger;
};
template <ActivationFormat F> struct ActivationRecord;
template <> struct ActivationRecord<ActivationFormat::kFp16> : ActivationRecordOf<10, 1, 0, false, false> {};
template <> struct ActivationRecord<ActivationFormat::kInt4> : ActivationRecordOf<0, 7, 0, false, true> {};
template <> struct ActivationRecord<ActivationFormat::kFp8E5m2> : ActivationRecordOf<2, 57344, 0, false, false> {};
template <> struct ActivationRecord<ActivationFormat::kFp8E4m3> : ActivationRecordOf<3, 448, 0, false, false> {};
template <> struct ActivationRecord<ActivationFormat::kMxfp8E5m2> : ActivationRecordOf<2, 1, 15, true, false> {};
template <> struct ActivationRecord<ActivationFormat::kMxfp8E4m3> : ActivationRecordOf<3, 1, 8, true, false> {};
template <> struct ActivationRecord<ActivationFormat::kInt8> : ActivationRecordOf<0, 127, 0, false, true> {};

/// Value of a code, before its scale, of formats that are tables.
template <WeightFormat F>
__device__ __forceinline__ float tableValue(int code);
template <>
__device__ __forceinline__ float tableValue<WeightFormat::kNf4>(int code) {
  constexpr float kValues[16] = {-1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f,
                                      -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0.0f,
                                      0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f,
                                      0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f};
  return kValues[code];
}

}  // namespace ladder
