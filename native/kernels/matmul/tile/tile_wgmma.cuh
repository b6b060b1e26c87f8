// Warpgroup matrix products of sm_90a with both operands in shared memory: d += a · b, a 64 rows of x, b 32 to 256 outputs, 32 bytes of k.
// core/wgmma.cuh has the order of fences. In a stage of tile.cuh
//
//   x        piece p of row r at r·128 + (p ^ r % 8)·16, a multiple of 1024 in shared memory: the 128-byte swizzle
//   weights  piece p of row r at r/8·1024 + p·128 + r%8·16: core matrices, without swizzle
//
// and so does MX's panel once it is BF16, 64 of k at a time (tile_groups.cuh).
//
// Follows the PTX ISA 8.x, section on wgmma (matrix descriptor: shared memory layout and swizzling modes).
#pragma once
#include "core/wgmma.cuh"
#include "formats/decode.cuh"

namespace ladder {

/// Types of both operands; sums are FP32, of bytes INT32.
enum class TileOperand { kF16, kBf16, kE4m3, kE5m2, kS8 };

/// Those of a block of tile.cuh.
template <class L, bool kByBlocks = false>
__host__ __device__ constexpr TileOperand tileOperandOf() {
  if (L::kInteger) return TileOperand::kS8;
  if (L::kXBytes == 2) return TileOperand::kF16;
  if (L::kMx && !kByBlocks) return TileOperand::kBf16;
  return L::T::kIsE4m3 ? TileOperand::kE4m3 : TileOperand::kE5m2;
}

/// 16 codes of a block of MX as BF16, times the block's multiplier: two pieces of 8 numbers, which go where `to` says; of each four codes the
/// even ones come first.
template <WeightFormat F, typename To>
__device__ __forceinline__ void expandPiece(const uint4& codes, uint32_t multiplier, const To& to) {
  using Mx = MxBf16<F>;
  const uint32_t words[4] = {codes.x, codes.y, codes.z, codes.w};
  uint32_t numbers[8];
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    numbers[2 * j] = Mx::multiply(Mx::even(words[j]), multiplier);
    numbers[2 * j + 1] = Mx::multiply(Mx::odd(words[j]), multiplier);
  }
#pragma unroll
  for (int j = 0; j < 2; ++j) storeShared16(to(j), make_uint4(numbers[4 * j], numbers[4 * j + 1], numbers[4 * j + 2], numbers[4 * j + 3]));
}

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// Lower halves of the descriptors, the same in all lanes; what a step along k adds.
__device__ __forceinline__ uint32_t tileRowsDescriptor(uint32_t shared) { return wgmmaDescriptor(shared); }
__device__ __forceinline__ uint32_t tileWeightsDescriptor(uint32_t shared) { return uniform((128u >> 4) << 16 | (shared & 0x3ffff) >> 4); }
constexpr uint32_t kTileWeightsDescriptor = 1024u >> 4, kTileRowsStep = 32 >> 4, kTileWeightsStep = 256 >> 4;

// clang-format off
#define LADDER_D1(type, j) "+" type(d[j][0]), "+" type(d[j][1]), "+" type(d[j][2]), "+" type(d[j][3])
#define LADDER_D4(type, j) LADDER_D1(type, j), LADDER_D1(type, j + 1), LADDER_D1(type, j + 2), LADDER_D1(type, j + 3)
#define LADDER_D8(type, j) LADDER_D4(type, j), LADDER_D4(type, j + 4)
#define LADDER_D16(type, j) LADDER_D8(type, j), LADDER_D8(type, j + 8)
#define LADDER_R0 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15"
#define LADDER_R16 LADDER_R0 ",%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define LADDER_R32 LADDER_R16 ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define LADDER_R48 LADDER_R32 ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95"
#define LADDER_R64 LADDER_R48 ",%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"
#define LADDER_SHARED(n, kind, sums, a, ha, b, hb, p, tail)                                                                             \
  "{\n.reg .pred add;\n.reg .b64 rows, outputs;\nsetp.ne.b32 add, " p ", 0;\nmov.b64 rows, {" a ", " ha "};\nmov.b64 outputs, {" b ", " hb "};\n" \
  "wgmma.mma_async.sync.aligned.m64n" n kind " {" sums "}, rows, outputs, add" tail ";\n}"
#define LADDER_OPERANDS "r"(a), "n"(kWgmmaDescriptor), "r"(b), "n"(kTileWeightsDescriptor), "r"(accumulate)
#define LADDER_CASES(type, kind, tail)                                                                                                  \
  if constexpr (kOutBlocks == 32)                                                                                                       \
    asm volatile(LADDER_SHARED("256", kind, LADDER_R64, "%128", "%129", "%130", "%131", "%132", tail) : LADDER_D16(type, 0), LADDER_D16(type, 16) : LADDER_OPERANDS); \
  else if constexpr (kOutBlocks == 24)                                                                                                  \
    asm volatile(LADDER_SHARED("192", kind, LADDER_R48, "%96", "%97", "%98", "%99", "%100", tail) : LADDER_D16(type, 0), LADDER_D8(type, 16) : LADDER_OPERANDS); \
  else if constexpr (kOutBlocks == 16)                                                                                                  \
    asm volatile(LADDER_SHARED("128", kind, LADDER_R32, "%64", "%65", "%66", "%67", "%68", tail) : LADDER_D16(type, 0) : LADDER_OPERANDS); \
  else if constexpr (kOutBlocks == 8)                                                                                                   \
    asm volatile(LADDER_SHARED("64", kind, LADDER_R16, "%32", "%33", "%34", "%35", "%36", tail) : LADDER_D8(type, 0) : LADDER_OPERANDS);  \
  else                                                                                                                                  \
    asm volatile(LADDER_SHARED("32", kind, LADDER_R0, "%16", "%17", "%18", "%19", "%20", tail) : LADDER_D4(type, 0) : LADDER_OPERANDS)
// clang-format on

/// d = a · b where `accumulate` is 0.
template <TileOperand O, int kOutBlocks>
__device__ __forceinline__ void tileWgmma(float (&d)[kOutBlocks][4], uint32_t a, uint32_t b, int accumulate) {
  static_assert(kOutBlocks == 4 || kOutBlocks == 8 || kOutBlocks == 16 || kOutBlocks == 24 || kOutBlocks == 32,
                "32, 64, 128, 192 or 256 outputs");
  if constexpr (O == TileOperand::kF16) {
    LADDER_CASES("f", "k16.f32.f16.f16", ", 1, 1, 0, 0");
  } else if constexpr (O == TileOperand::kBf16) {
    LADDER_CASES("f", "k16.f32.bf16.bf16", ", 1, 1, 0, 0");
  } else if constexpr (O == TileOperand::kE4m3) {
    LADDER_CASES("f", "k32.f32.e4m3.e4m3", ", 1, 1");
  } else {
    static_assert(O == TileOperand::kE5m2);
    LADDER_CASES("f", "k32.f32.e5m2.e5m2", ", 1, 1");
  }
}
template <TileOperand O, int kOutBlocks>
__device__ __forceinline__ void tileWgmma(int32_t (&d)[kOutBlocks][4], uint32_t a, uint32_t b, int accumulate) {
  static_assert(O == TileOperand::kS8);
  LADDER_CASES("r", "k32.s32.s8.s8", "");
}

#undef LADDER_D1
#undef LADDER_D4
#undef LADDER_D8
#undef LADDER_D16
#undef LADDER_R0
#undef LADDER_R16
#undef LADDER_R32
#undef LADDER_R48
#undef LADDER_R64
#undef LADDER_SHARED
#undef LADDER_OPERANDS
#undef LADDER_CASES
#endif

}  // namespace ladder
