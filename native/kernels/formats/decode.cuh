// How stored weights become the A operand of mma.sync or wgmma (16 rows × k of each warp), and activations mma.sync's B
// operand (k × 8 tokens).
// Each weight tile is 16 rows; a *unit* is what one warp reads of a tile at once, 16 bytes (FP16: 32) per lane, in the very
// order in which the lanes use it: no shuffles. A unit is consumed in *steps* of two mma, for which each lane reads one
// contiguous run of activations. Any order of k is right for mma as long as both operands agree on it.
// The layouts' description as data: lib/compiler/kernels/matmul/layouts.ts; formats: OCP FP8 v1.0, OCP MX v1.0, QLoRA appendix E.
//
//   lane = 4·g + t (g = 0…7, t = 0…3) holds rows g and g+8 of the tile, and of a step's k the run t
//
//   format  bits  unit k  bytes   steps  a lane's 32-bit words (row g, row h = g+8)
//   fp16      16      32   1024       1  g: k 0…7, h: k 0…7
//   int4       4      64    512       2  g k 0…7 | h k 0…7 | g k 32…39 | h k 32…39, nibbles k 0 2 4 6 1 3 5 7 from the low end
//   nf4        4      64    512       2  the same, nibbles k 0 1 2 3 4 5 6 7
//   fp8, mx    8      32    512       1  g k 0…3 | g k 4…7 | h k 0…3 | h k 4…7
//   int1       1     256    512       4  g k 0…127 | h | g k 128…255 | h; bit 8q + 4r + i is k = 64r + 4i + q
//
// wgmma reads activations from shared memory, where their k is in order; so for warpgroup.cuh a lane holds, instead of runs,
//
//   int4       of each 16 of k: 2t, 2t+1, 2t+8, 2t+9; nibbles k 0 8 16 24 1 9 17 25 (+ 2t) from the low end
//   nf4        the same, nibbles k 0 1 8 9 16 17 24 25 (+ 2t)
//   int1       of each 16 of k: 4t … 4t+3; bit 8q + 4r + i is k = 64r + 16i + 4t + q
//   mx         of each 16 of k: 2t, 2t+8, 2t+1, 2t+9, from the low byte up; words g k 0…15 | h | g k 16…31 | h
//
// and tiles lie in pairs: unit 0 of both, then unit 1 of both, …
#pragma once
#include "core/ptx.cuh"
#include "formats/records.cuh"

namespace ladder {

template <WeightFormat F>
struct FormatTraits {
  using Record = WeightRecord<F>;
  static constexpr bool kIsMx = Record::kIsMx;
  static constexpr bool kIsFp8 = Record::kBits == 8;
  static constexpr bool kIsE4m3 = kIsFp8 && Record::kMantissaBits == 3;
  static constexpr bool kIsInt1 = Record::kBits == 1;
  static constexpr bool kIsNibble = Record::kBits == 4;
  /// k of a unit, bytes of a unit, steps of a unit.
  static constexpr int kUnitK = kIsInt1 ? 256 : kIsNibble ? 64 : 32;
  static constexpr int kUnitBytes = F == WeightFormat::kFp16 ? 1024 : 512;
  static constexpr int kSteps = kIsInt1 ? 4 : kIsNibble ? 2 : 1;
  /// 32-bit words of a unit that one lane holds.
  static constexpr int kWords = kUnitBytes / 128;
  /// Activations as they lie in shared memory: bytes of one, and bytes of a lane's run in a step (16, FP8: 8).
  static constexpr int kActivationBytes = kIsFp8 || kIsInt1 ? 1 : 2;
  static constexpr int kRunBytes = kUnitK / kSteps / 4 * kActivationBytes;
  /// What products are to be multiplied by: decodeFp8 leaves a factor out, in both operands, and a weight of INT1 is ∓64.
  static constexpr float kProductScale = kIsInt1 ? -1.0f / 64 : kIsE4m3 && !kHopper ? 65536.0f : 1.0f;
};

/// FP32 sums, or INT32 ones for INT1 × INT8.
template <WeightFormat F> struct AccumulatorOf { using Type = float; };
template <> struct AccumulatorOf<WeightFormat::kInt1> { using Type = int32_t; };
template <WeightFormat F> using Accumulator = typename AccumulatorOf<F>::Type;

// ---- NF4: a byte (two weights) to half2 through a table in shared memory, one copy per bank: no conflicts -----------------
// entry(byte, lane) at byte·128 + lane·4. Looking codes up by byte permutations instead, for half of the weights, was slower.

constexpr int kNf4TableBytes = 256 * 128;

__device__ __forceinline__ uint32_t nf4Half(uint32_t code) {
  float value = tableValue<WeightFormat::kNf4>(0);
#pragma unroll
  for (int i = 1; i < 16; ++i) value = code == i ? tableValue<WeightFormat::kNf4>(i) : value;
  return __half_as_ushort(__float2half_rn(value));
}

/// Filled by `warps` warps together; the caller synchronises.
__device__ __forceinline__ void fillNf4Table(uint32_t table, int warp, int warps, int lane) {
  for (int first = warp * 32; first < 256; first += warps * 32) {
    const uint32_t byte = first + lane;
    const uint32_t pair = nf4Half(byte & 15) | nf4Half(byte >> 4) << 16;
    for (int i = 0; i < 32; ++i) {
      const uint32_t v = __shfl_sync(0xffffffffu, pair, i);
      asm volatile("st.shared.u32 [%0], %1;" ::"r"(table + (first + i) * 128 + lane * 4), "r"(v) : "memory");
    }
  }
}

// ---- Weights ------------------------------------------------------------------------------------------------------------

/// Reads a lane's words of a unit.
template <WeightFormat F>
__device__ __forceinline__ void loadUnit(uint32_t unit, int lane, uint32_t (&words)[FormatTraits<F>::kWords]) {
#pragma unroll
  for (int i = 0; i < FormatTraits<F>::kWords; i += 4) {
    const uint4 v = loadShared16(unit + i * 128 + lane * 16);
    words[i] = v.x, words[i + 1] = v.y, words[i + 2] = v.z, words[i + 3] = v.w;
  }
}

/// The eight nibbles of a word as half2, two's complement: (0,4) (1,5) (2,6) (3,7).
/// 0x6400 is 1024 in half, where a step of the last mantissa bit is 1: nibble ^ 8 in the low bits gives 1024 + value + 8;
/// four bits higher it gives 1024 + 16·(value + 8). One lop3 per pair, and an exact subtraction or multiply-add.
__device__ __forceinline__ void decodeInt4(uint32_t word, uint32_t (&pairs)[4]) {
  const __half2 kLow = __half2half2(__ushort_as_half(0x6408));       // 1032
  const __half2 kSixteenth = __half2half2(__ushort_as_half(0x2c00));  // 1/16
  const __half2 kHigh = __half2half2(__ushort_as_half(0xd480));       // −72
  const uint32_t upper = word >> 8;
  const uint32_t raw[4] = {lop3<kAndXor>(word, 0x000f000f, 0x64086408), lop3<kAndXor>(word, 0x00f000f0, 0x64806480),
                           lop3<kAndXor>(upper, 0x000f000f, 0x64086408), lop3<kAndXor>(upper, 0x00f000f0, 0x64806480)};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const __half2 h = *reinterpret_cast<const __half2*>(&raw[i]);
    const __half2 value = i & 1 ? __hfma2(h, kSixteenth, kHigh) : __hsub2(h, kLow);
    pairs[i] = *reinterpret_cast<const uint32_t*>(&value);
  }
}

/// Four FP8 codes to two half2, in an order that is the same for weights and activations. E5M2 is the upper byte of a half.
/// E4M3 has an instruction on sm_90; elsewhere its bits move down by one, which leaves value · 2^-8 (subnormals included:
/// the formats' mantissas nest).
template <bool kIsE4m3>
__device__ __forceinline__ void decodeFp8(uint32_t word, uint32_t& even, uint32_t& odd) {
  if constexpr (!kIsE4m3) {
    even = __byte_perm(word, 0, 0x2404);
    odd = word & 0xff00ff00u;
  } else if constexpr (kHopper) {
    asm("{\n.reg .b16 low, high;\nmov.b32 {low, high}, %2;\ncvt.rn.f16x2.e4m3x2 %0, low;\ncvt.rn.f16x2.e4m3x2 %1, high;\n}"
        : "=r"(even), "=r"(odd)
        : "r"(word));
  } else {
    even = (word << 8 & 0x80008000u) | (word << 7 & 0x3f803f80u);
    odd = (word & 0x80008000u) | (word >> 1 & 0x3f803f80u);
  }
}

/// The two A operands of a step.
template <WeightFormat F>
__device__ __forceinline__ void decodeStep(const uint32_t (&w)[FormatTraits<F>::kWords], int step, uint32_t table, uint32_t (&a)[2][4]) {
  using T = FormatTraits<F>;
  if constexpr (F == WeightFormat::kFp16) {
    a[0][0] = w[0], a[0][1] = w[4], a[0][2] = w[1], a[0][3] = w[5];
    a[1][0] = w[2], a[1][1] = w[6], a[1][2] = w[3], a[1][3] = w[7];
  } else if constexpr (T::kIsNibble) {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const uint32_t word = w[step * 2 + row];
      uint32_t pairs[4];
      if constexpr (F == WeightFormat::kInt4) {
        decodeInt4(word, pairs);
      } else {
#pragma unroll
        for (int i = 0; i < 4; ++i) pairs[i] = loadShared4(table + __byte_perm(word, 0, 0x4440 + i) * 128);
      }
      a[0][row] = pairs[0], a[0][2 + row] = pairs[1], a[1][row] = pairs[2], a[1][2 + row] = pairs[3];
    }
  } else if constexpr (T::kIsFp8) {
    decodeFp8<T::kIsE4m3>(w[0], a[0][0], a[0][2]);
    decodeFp8<T::kIsE4m3>(w[2], a[0][1], a[0][3]);
    decodeFp8<T::kIsE4m3>(w[1], a[1][0], a[1][2]);
    decodeFp8<T::kIsE4m3>(w[3], a[1][1], a[1][3]);
  } else {
    // Bits to bytes: 0 (−1) to 64, 1 (+1) to −64, |Σ| ≤ 64 · 127 · k fits INT32 for k < 2^18. Left shifts, unlike right ones,
    // need not be done by the ALU, which has the masks to do.
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int shift = 7 - (step % 2 * 4 + i);
#pragma unroll
      for (int row = 0; row < 2; ++row) a[i / 2][i % 2 * 2 + row] = lop3<kAndXor>(w[step / 2 * 2 + row] << shift, 0x80808080u, 0x40404040u);
    }
  }
}

// ---- MX as BF16, with its scales: for wgmma, whose sums cannot be scaled every 32 of k -------------------------------------
// A code's exponent and mantissa become the same bits of a BF16, subnormals included: value · 2^(bias − 127), bias 15 (E5M2) or
// 7 (E4M3). One exact multiplication by a power of two makes up for that and applies the block's scale. Codes of infinity and NaN
// do not occur.

template <WeightFormat F>
struct MxBf16 {
  static constexpr bool kIsE4m3 = FormatTraits<F>::kIsE4m3;
  static constexpr int kBias = kIsE4m3 ? 120 : 112;     // of 127
  static constexpr int kUp = kIsE4m3 ? 4 : 5;           // from a byte's low seven bits to a half word's
  static constexpr uint32_t kMask = kIsE4m3 ? 0x07f007f0u : 0x0fe00fe0u;
  /// Weights lack this power of two, so that their multipliers are finite for scales up to 2^27 (E5M2: 2^35).
  static constexpr int kLift = 20;

  /// The multiplier of an E8M0 code, twice.
  __device__ __forceinline__ static uint32_t multiplier(uint32_t code, int lift) { return min(code + kBias - lift, 254u) * 0x00800080u; }

  __device__ __forceinline__ static uint32_t multiply(uint32_t a, uint32_t b) {
    uint32_t d;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(0x80008000u));
    return d;
  }

  /// Bytes 0 and 2 of a word, and bytes 1 and 3.
  __device__ __forceinline__ static uint32_t even(uint32_t word) { return lop3<kAndOr>(word << kUp, kMask, word << 8 & 0x80008000u); }
  __device__ __forceinline__ static uint32_t odd(uint32_t word) { return lop3<kAndOr>(word >> (8 - kUp), kMask, word & 0x80008000u); }

  /// The A operands of a unit's two steps. `scales`: codes of rows g and h, from the low byte up.
  __device__ __forceinline__ static void decode(const uint32_t* words, uint32_t scales, uint32_t (&a)[2][4]) {
    const uint32_t row[2] = {multiplier(scales & 0xff, kLift), multiplier(scales >> 8, kLift)};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      a[i / 2][i % 2] = multiply(even(words[i]), row[i % 2]);
      a[i / 2][2 + i % 2] = multiply(odd(words[i]), row[i % 2]);
    }
  }

  /// Four activations in the order of k.
  __device__ __forceinline__ static uint2 activations(uint32_t codes, uint32_t multiplier) {
    const uint32_t low = __byte_perm(codes, 0, 0x1404), high = __byte_perm(codes, 0, 0x3424);
    return make_uint2(multiply(odd(low), multiplier), multiply(odd(high), multiplier));
  }
};

// ---- Activations --------------------------------------------------------------------------------------------------------

/// The B operands of a step's two mma, from a lane's run: FP16 or INT8 as they are, FP8 decoded like the weights.
template <WeightFormat F>
__device__ __forceinline__ void loadActivations(uint32_t run, uint32_t (&b)[4]) {
  using T = FormatTraits<F>;
  if constexpr (T::kIsFp8) {
    const uint2 v = loadShared8(run);
    decodeFp8<T::kIsE4m3>(v.x, b[0], b[1]);
    decodeFp8<T::kIsE4m3>(v.y, b[2], b[3]);
  } else {
    const uint4 v = loadShared16(run);
    b[0] = v.x, b[1] = v.y, b[2] = v.z, b[3] = v.w;
  }
}

template <WeightFormat F>
__device__ __forceinline__ void multiply(Accumulator<F> (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  if constexpr (FormatTraits<F>::kIsInt1) mmaS8(d, a, b0, b1);
  else mmaFp16(d, a, b0, b1);
}

/// E8M0: 2^(code − 127), as FP32 bits. Code 0 is the subnormal 2^-127; 255 (NaN) does not occur.
__device__ __forceinline__ float e8m0(uint32_t code) { return __uint_as_float(max(code << 23, 0x00400000u)); }

}  // namespace ladder
