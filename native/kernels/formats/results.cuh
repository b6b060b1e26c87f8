// How a kernel's results are stored as its last step, eight of a row at a time: as float16, as codes of an activation format, or both.
// Codes have one scale, a parameter, or those of MX blocks of 32, which four neighbouring lanes hold. Operator: lib/operators/quantise.ts;
// a quotient is the product with the scale's reciprocal, so that a code next to a tie may be one step off.
//
// C: kHalves, kCodes (kFp16: none), kLeastCode, kMostCode (of integers). Tests: test/gpu/tile-kernels.test.ts, test/gpu/image-kernels.test.ts.
#pragma once
#include "formats/quantise.cuh"

namespace ladder {

/// Absent ones are null.
struct ResultArguments {
  __half* y;  ///< [rows, columns]
  uint8_t* codes;  ///< [rows, columns]
  void* codeScales;  ///< what codes are to be multiplied by: one FP32, or E8M0 [rows, columns / 32]
  const float* codeScale;  ///< the one, given
};

template <class C>
struct Results {
  static constexpr bool kQuantised = C::kCodes != ActivationFormat::kFp16;
  using T = ActivationTraits<C::kCodes>;
  static constexpr bool kStatic = kQuantised && !T::kIsMx;

  /// 1 / scale, of a static one.
  __device__ __forceinline__ static float inverse(const ResultArguments& p) {
    if constexpr (kStatic) return __frcp_rn(*p.codeScale);
    return 1.0f;
  }

  /// The scale, once per kernel, where earlier kernels' work is awaited.
  __device__ __forceinline__ static void storeScale(const ResultArguments& p) {
    if constexpr (kStatic) {
      if (blockIdx.x == 0 && threadIdx.x == 0) *static_cast<float*>(p.codeScales) = *p.codeScale;
    }
  }

  /// Codes of two numbers by a static scale, low byte first.
  __device__ __forceinline__ static uint32_t encode(float2 pair, float inverse) {
    const float low = pair.x * inverse, high = pair.y * inverse;
    if constexpr (T::kIsInteger) {
      const auto code = [](float value) {
        return static_cast<uint32_t>(min(max(__float2int_rn(value), C::kLeastCode), C::kMostCode)) & 0xffu;
      };
      return code(low) | code(high) << 8;
    } else {
      return __nv_cvt_float2_to_fp8x2(make_float2(low, high), __NV_SATFINITE, T::kIsE4m3 ? __NV_E4M3 : __NV_E5M2);
    }
  }

  /// Of eight. @param blockScale of MX
  __device__ __forceinline__ static uint2 encode(float (&values)[8], float inverse, uint32_t& blockScale) {
    if constexpr (T::kIsMx) {
      return quantiseMx<C::kCodes>(values, blockScale);
    } else {
      uint32_t words[2] = {};
#pragma unroll
      for (int i = 0; i < 4; ++i) words[i / 2] |= encode(make_float2(values[2 * i], values[2 * i + 1]), inverse) << (i % 2 * 16);
      return make_uint2(words[0], words[1]);
    }
  }

  /// Eight results of a row of kColumns; those past its end are dropped. What is stored as float16 is what is quantised.
  template <int kColumns>
  __device__ __forceinline__ static void store(const ResultArguments& p, int64_t row, int column, float (&values)[8], float inverse) {
    if (column >= kColumns) return;
    if constexpr (C::kHalves) {
      const uint4 halves = packHalves(values);
      storeHalves<kColumns>(p.y + row * kColumns + column, column, halves);
      if constexpr (kQuantised) unpackHalves(halves, values);
    }
    if constexpr (kQuantised) {
      static_assert(!T::kIsMx || kColumns % 32 == 0);
      uint32_t blockScale = 0;
      const uint2 eight = encode(values, inverse, blockScale);
      uint8_t* const to = p.codes + row * kColumns + column;
      if constexpr (kColumns % 8 == 0) {
        *reinterpret_cast<uint2*>(to) = eight;
      } else {
#pragma unroll
        for (int e = 0; e < 8; ++e)
          if (column + e < kColumns) to[e] = (e < 4 ? eight.x : eight.y) >> (e % 4 * 8);
      }
      if constexpr (T::kIsMx) {
        if (column % 32 == 0) static_cast<uint8_t*>(p.codeScales)[(row * kColumns + column) / 32] = blockScale;
      }
    }
  }

 private:
  template <int kColumns>
  __device__ __forceinline__ static void storeHalves(__half* to, int column, uint4 eight) {
    if constexpr (kColumns % 8 == 0) {
      *reinterpret_cast<uint4*>(to) = eight;
    } else {
      const uint32_t words[4] = {eight.x, eight.y, eight.z, eight.w};
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        if constexpr (kColumns % 2 == 0) {
          if (column + 2 * e < kColumns) reinterpret_cast<uint32_t*>(to)[e] = words[e];
        } else {
          if (column + 2 * e < kColumns) to[2 * e] = __ushort_as_half(words[e] & 0xffff);
          if (column + 2 * e + 1 < kColumns) to[2 * e + 1] = __ushort_as_half(words[e] >> 16);
        }
      }
    }
  }
};

}  // namespace ladder
