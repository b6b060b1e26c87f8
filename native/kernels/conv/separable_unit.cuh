// What separable.cuh and separable_cluster.cuh have in common, whatever a block's share of a unit is: operands, bands, places in shared
// memory, codes, what follows a product's sums, and how results are stored. separable.cuh has the formula and C.
#pragma once
#include "core/ptx.cuh"
#include "formats/results.cuh"

namespace ladder {

/// Absent operands are null.
struct SeparableArguments {
  const __half* x;
  const float* xScale;  ///< by which x becomes codes
  const uint8_t* expand;
  const __half *expandScale, *expandBias, *depth, *depthBias;
  const float* midScale;  ///< by which d does
  const uint8_t* project;
  const __half *projectScale, *projectBias, *other;
  ResultArguments result;
};

template <class C>
struct SeparableUnit {
  static constexpr bool kFp8 = C::kWeight != WeightFormat::kFp16;
  static constexpr __nv_fp8_interpretation_t kKind = C::kWeight == WeightFormat::kFp8E4m3 ? __NV_E4M3 : __NV_E5M2;
  static_assert(C::kIn % 2 == 0 && C::kMid % 2 == 0 && C::kOut % 2 == 0 && C::kXPitch % 2 == 0 && C::kXFirst % 2 == 0);
  static_assert(C::kExpand || C::kIn == C::kMid);

  // Pixels that kRows output rows read, and their places; bands of an image's rows.
  static constexpr int kInRows = (C::kRows - 1) * C::kStride + 3, kPixels = kInRows * C::kWidth, kPlaces = C::kRows * C::kOutWidth;
  __host__ __device__ static constexpr int steps(int k) { return (k + 31) / 32; }
  __host__ __device__ static constexpr int pitch(int k) { return (steps(k) + 1) / 2 * 128; }
  static constexpr int kBands = (C::kOutHeight + C::kRows - 1) / C::kRows;

  /// kRows output rows of an image, or what is left of them: the first one, and the first pixel row under it.
  struct Band {
    const int image, firstRow, top;
    __device__ __forceinline__ explicit Band(uint32_t number)
        : image(number / kBands), firstRow(number % kBands * C::kRows), top(firstRow * C::kStride - 1) {}
    __device__ __forceinline__ int firstPixel() const { return (image * C::kHeight + top) * C::kWidth; }
    __device__ __forceinline__ int firstPlace() const { return (image * C::kOutHeight + firstRow) * C::kOutWidth; }
    __device__ __forceinline__ int places() const { return min(C::kRows, C::kOutHeight - firstRow) * C::kOutWidth; }
    __device__ __forceinline__ bool isInside(int row) const { return static_cast<uint32_t>(top + row) < C::kHeight; }
  };

  // ---- Memory -------------------------------------------------------------------------------------------------------------

  /// Byte of a row in shared memory.
  __device__ __forceinline__ static uint32_t at(int row, int byte, int pitch) {
    const int swizzle = (row & 1) << 2 | row >> 1 & 3;
    return row * pitch + ((byte / 16 ^ swizzle) * 16 | byte % 16);
  }

  __device__ __forceinline__ static void storeWord(uint32_t address, uint32_t word) {
    asm volatile("st.shared.u32 [%0], %1;" ::"r"(address), "r"(word) : "memory");
  }
  __device__ __forceinline__ static void storeTwo(uint32_t address, uint2 words) {
    asm volatile("st.shared.v2.u32 [%0], {%1, %2};" ::"r"(address), "r"(words.x), "r"(words.y) : "memory");
  }
  __device__ __forceinline__ static uint32_t bits(__half2 pair) { return *reinterpret_cast<const uint32_t*>(&pair); }

  // ---- Codes --------------------------------------------------------------------------------------------------------------

  /// The codes that two numbers become, as float16.
  __device__ __forceinline__ static uint32_t rounded(float2 pair, float inverse) {
    const __nv_fp8x2_storage_t codes = __nv_cvt_float2_to_fp8x2(make_float2(pair.x * inverse, pair.y * inverse), __NV_SATFINITE, kKind);
    return decoded(codes);
  }
  __device__ __forceinline__ static uint32_t decoded(uint32_t codes) {
    const __half2_raw pair = __nv_cvt_fp8x2_to_halfraw2(static_cast<__nv_fp8x2_storage_t>(codes & 0xffff), kKind);
    return pair.x | static_cast<uint32_t>(pair.y) << 16;
  }

  // ---- What follows a product's sums ----------------------------------------------------------------------------------------

  /// Two neighbouring results' scales and biases.
  struct Terms { __half2 scale, bias; };
  __device__ __forceinline__ static Terms termsOf(const __half* scale, const __half* bias, int n) {
    Terms terms{};
    if constexpr (kFp8) terms.scale = *reinterpret_cast<const __half2*>(scale + n);
    terms.bias = *reinterpret_cast<const __half2*>(bias + n);
    return terms;
  }
  __device__ __forceinline__ static float2 resultsOf(const float* sums, const Terms& terms, float xScale) {
    const float2 bias = __half22float2(terms.bias);
    if constexpr (!kFp8) return make_float2(sums[0] + bias.x, sums[1] + bias.y);
    const float2 scale = __half22float2(terms.scale);
    return make_float2(sums[0] * (scale.x * xScale) + bias.x, sums[1] * (scale.y * xScale) + bias.y);
  }

  /// The results, to rows from `first` on, of which there are `rows`.
  struct Projected {
    static constexpr int kColumns = C::kOut;
    const SeparableArguments& p;
    const int first, rows;
    /// Of the results' scale.
    const float inverse;
    __device__ __forceinline__ Terms terms(int n) const { return termsOf(p.projectScale, p.projectBias, n); }
    __device__ __forceinline__ float xScale() const { return kFp8 ? *p.midScale : 1.0f; }
    __device__ __forceinline__ uint32_t ahead(int row, int n) const {
      if (C::kPlace < 0 || row >= rows) return 0;
      return *reinterpret_cast<const uint32_t*>(p.other + static_cast<int64_t>(first + row) * C::kOtherPitch + C::kOtherFirst + n);
    }
    __device__ __forceinline__ void finish(int row, int n, float2 value, uint32_t word) const {
      if (row >= rows) return;
      const float2 own = make_float2(C::last(value.x), C::last(value.y));
      const int64_t at = static_cast<int64_t>(first + row) * C::kOut + n;
      if constexpr (C::kPlace < 0) {
        if constexpr (C::kHalves) *reinterpret_cast<__half2*>(p.result.y + at) = __floats2half2_rn(own.x, own.y);
        if constexpr (Results<C>::kQuantised) *reinterpret_cast<uint16_t*>(p.result.codes + at) = Results<C>::encode(own, inverse);
      } else {
        const float2 other = __half22float2(*reinterpret_cast<const __half2*>(&word));
        const float2 even = C::kPlace == 0 ? own : other, odd = C::kPlace == 0 ? other : own;
        if constexpr (C::kHalves) {
          *reinterpret_cast<uint2*>(p.result.y + 2 * at) =
              make_uint2(bits(__floats2half2_rn(even.x, odd.x)), bits(__floats2half2_rn(even.y, odd.y)));
        }
        if constexpr (Results<C>::kQuantised) {
          *reinterpret_cast<uint32_t*>(p.result.codes + 2 * at) =
              Results<C>::encode(make_float2(even.x, odd.x), inverse) | Results<C>::encode(make_float2(even.y, odd.y), inverse) << 16;
        }
      }
    }
  };
};

}  // namespace ladder
