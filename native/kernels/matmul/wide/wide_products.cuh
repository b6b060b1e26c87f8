// Warpgroup matrix products of sm_90a with 128 or 256 tokens: d += a · b, a (64 rows × k) in registers or shared memory, b
// (k × tokens) in shared memory. core/wgmma.cuh has those of few tokens, and the order of fences. Operands in shared memory are
// stretches of panels (wide_block.cuh): core matrices of 8 rows × 16 bytes, each 128 contiguous bytes, without swizzle:
//
//   bytes k 16p … 16p + 15 of row r at r/8·1024 + p·128 + r%8·16
//
// Follows the PTX ISA 8.x, section on wgmma (matrix descriptor; no swizzling: leading dimension offset 128, stride 1024).
#pragma once
#include "core/wgmma.cuh"

namespace ladder {

/// Lower half of the descriptor of a stretch of a panel; one product along k, 32 bytes, further: + kPanelStep. The same in all lanes.
__device__ __forceinline__ uint32_t panelDescriptor(uint32_t shared) { return uniform((128u >> 4) << 16 | (shared & 0x3ffff) >> 4); }
constexpr uint32_t kPanelDescriptor = 1024u >> 4, kPanelStep = 256 >> 4;

/// Types of the operands; sums are FP32, of bytes INT32.
enum class Operand { kF16, kBf16, kE4m3, kE5m2, kS8 };

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// clang-format off
#define LADDER_D1(type, j) "+" type(d[j][0]), "+" type(d[j][1]), "+" type(d[j][2]), "+" type(d[j][3])
#define LADDER_D4(type, j) LADDER_D1(type, j), LADDER_D1(type, j + 1), LADDER_D1(type, j + 2), LADDER_D1(type, j + 3)
#define LADDER_D16(type, j) LADDER_D4(type, j), LADDER_D4(type, j + 4), LADDER_D4(type, j + 8), LADDER_D4(type, j + 12)
#define LADDER_R0 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define LADDER_R32 "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define LADDER_R64 "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95"
#define LADDER_R96 "%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"
#define LADDER_SUMS64 LADDER_R0 "," LADDER_R32
#define LADDER_SUMS128 LADDER_SUMS64 "," LADDER_R64 "," LADDER_R96
#define LADDER_SHARED(n, kind, sums, a, b, h, p, tail)                                                                               \
  "{\n.reg .pred add;\n.reg .b64 rows, tokens;\nsetp.ne.b32 add, " p ", 0;\nmov.b64 rows, {" a ", " h "};\nmov.b64 tokens, {" b ", " h "};\n"   \
  "wgmma.mma_async.sync.aligned.m64n" n kind " {" sums "}, rows, tokens, add" tail ";\n}"
#define LADDER_REGISTERS(n, kind, sums, a, b, h, p, tail)                                                                            \
  "{\n.reg .pred add;\n.reg .b64 tokens;\nsetp.ne.b32 add, " p ", 0;\nmov.b64 tokens, {" b ", " h "};\n"                                     \
  "wgmma.mma_async.sync.aligned.m64n" n kind " {" sums "}, {" a "}, tokens, add" tail ";\n}"
#define LADDER_SHARED_CASES(type, kind, tail)                                                                                        \
  if constexpr (kTokenTiles == 32)                                                                                                   \
    asm volatile(LADDER_SHARED("256", kind, LADDER_SUMS128, "%128", "%129", "%130", "%131", tail)                                     \
                 : LADDER_D16(type, 0), LADDER_D16(type, 16) : "r"(a), "r"(b), "n"(kPanelDescriptor), "r"(accumulate));              \
  else                                                                                                                               \
    asm volatile(LADDER_SHARED("128", kind, LADDER_SUMS64, "%64", "%65", "%66", "%67", tail)                                          \
                 : LADDER_D16(type, 0) : "r"(a), "r"(b), "n"(kPanelDescriptor), "r"(accumulate))
#define LADDER_REGISTERS_CASES(type, kind, tail)                                                                                     \
  asm volatile(LADDER_REGISTERS("256", kind, LADDER_SUMS128, "%128,%129,%130,%131", "%132", "%133", "%134", tail)                     \
               : LADDER_D16(type, 0), LADDER_D16(type, 16)                                                                           \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b), "n"(kPanelDescriptor), "r"(accumulate))
// clang-format on

/// Both operands in shared memory, 32 bytes of k; d = a · b where `accumulate` is 0. 16 or 32 groups of 8 tokens.
template <Operand O, int kTokenTiles>
__device__ __forceinline__ void wgmmaShared(float (&d)[kTokenTiles][4], uint32_t a, uint32_t b, int accumulate) {
  static_assert(kTokenTiles == 16 || kTokenTiles == 32, "128 or 256 tokens");
  if constexpr (O == Operand::kF16) {
    LADDER_SHARED_CASES("f", "k16.f32.f16.f16", ", 1, 1, 0, 0");
  } else if constexpr (O == Operand::kE4m3) {
    LADDER_SHARED_CASES("f", "k32.f32.e4m3.e4m3", ", 1, 1");
  } else {
    static_assert(O == Operand::kE5m2);
    LADDER_SHARED_CASES("f", "k32.f32.e5m2.e5m2", ", 1, 1");
  }
}

/// a in registers, as core/wgmma.cuh has it; 256 tokens.
template <Operand O>
__device__ __forceinline__ void wgmmaRegisters(float (&d)[32][4], const uint32_t (&a)[4], uint32_t b, int accumulate) {
  if constexpr (O == Operand::kF16) {
    LADDER_REGISTERS_CASES("f", "k16.f32.f16.f16", ", 1, 1, 0");
  } else {
    static_assert(O == Operand::kBf16);
    LADDER_REGISTERS_CASES("f", "k16.f32.bf16.bf16", ", 1, 1, 0");
  }
}
template <Operand O>
__device__ __forceinline__ void wgmmaRegisters(int32_t (&d)[32][4], const uint32_t (&a)[4], uint32_t b, int accumulate) {
  static_assert(O == Operand::kS8);
  LADDER_REGISTERS_CASES("r", "k32.s32.s8.s8", "");
}

#undef LADDER_D1
#undef LADDER_D4
#undef LADDER_D16
#undef LADDER_R0
#undef LADDER_R32
#undef LADDER_R64
#undef LADDER_R96
#undef LADDER_SUMS64
#undef LADDER_SUMS128
#undef LADDER_SHARED
#undef LADDER_REGISTERS
#undef LADDER_SHARED_CASES
#undef LADDER_REGISTERS_CASES
#endif

}  // namespace ladder
