// Warpgroup matrix products of sm_90a: d += a · b by four warps together, a (64 rows × k) in registers, b (k × tokens) in shared
// memory, asynchronous. Warp w of the warpgroup holds rows 16w … 16w + 15 of a and d, as mma.sync would have them (decode.cuh).
// b lies as tokens × 128 bytes of k, the 16-byte pieces of a row swapped so that no column of them shares banks:
//
//   piece p of token t is at t·128 + (p ^ t % 8)·16        (the 128-byte swizzle; blocks of 8 tokens, 1024 bytes, aligned to that)
//
// Order: registers are written → wgmmaFence → products → wgmmaCommit → wgmmaWait before the registers are touched again.
// Follows the PTX ISA 8.x, section on wgmma (matrix descriptor: shared memory layout and swizzling modes).
#pragma once
#include "core/ptx.cuh"

namespace ladder {

/// Bytes of k that one block of b holds per token, and that one product takes.
constexpr int kWgmmaRowBytes = 128, kWgmmaStepBytes = 32;

/// Where a 16-byte piece of a token's row lies in its block.
__device__ __forceinline__ uint32_t swizzledPiece(int token, int piece) { return token * kWgmmaRowBytes + ((piece ^ (token & 7)) << 4); }

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// By all of a warpgroup: gives registers back, or takes them when others have. Counts are per thread, multiples of 8.
template <int kCount>
__device__ __forceinline__ void giveRegisters() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
}
template <int kCount>
__device__ __forceinline__ void takeRegisters() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
}

/// Lower half of the descriptor of a block of tokens at a multiple of 1024. A step along k adds kWgmmaStepBytes / 16. The same
/// in all lanes, or every product waits for a register's way into the uniform ones.
__device__ __forceinline__ uint32_t wgmmaDescriptor(uint32_t shared) {
  constexpr uint32_t kUnused = 1u << 16;
  return uniform(kUnused | (shared & 0x3ffff) >> 4);
}
/// Upper half: 1024 bytes from 8 tokens to the next, 128-byte swizzle.
constexpr uint32_t kWgmmaDescriptor = 1024u >> 4 | 1u << 30;

__device__ __forceinline__ void wgmmaFence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmmaCommit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

/// Until at most `kPending` of the committed groups are under way.
template <int kPending>
__device__ __forceinline__ void wgmmaWait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

/// The compiler keeps accesses to these registers on their side of the statements round about.
__device__ __forceinline__ void pin(uint32_t& r) { asm volatile("" : "+r"(r)::"memory"); }
__device__ __forceinline__ void pin(int32_t& r) { asm volatile("" : "+r"(r)::"memory"); }
__device__ __forceinline__ void pin(float& r) { asm volatile("" : "+f"(r)::"memory"); }

// clang-format off
#define LADDER_SUMS(type, j) "+" type(d[j][0]), "+" type(d[j][1]), "+" type(d[j][2]), "+" type(d[j][3])
#define LADDER_OPERANDS "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b), "n"(kWgmmaDescriptor), "r"(accumulate)
#define LADDER_WGMMA(n, kind, sums, a, b, high, p, tail)                                                                                    \
  "{\n.reg .pred add;\n.reg .b64 tokens;\nsetp.ne.b32 add, " p ", 0;\nmov.b64 tokens, {" b ", " high "};\nwgmma.mma_async.sync.aligned.m64n" n kind " {" sums "}, {" a "}, tokens, add" tail ";\n}"
#define LADDER_S4 "%0,%1,%2,%3"
#define LADDER_S8 LADDER_S4 ",%4,%5,%6,%7"
#define LADDER_S16 LADDER_S8 ",%8,%9,%10,%11,%12,%13,%14,%15"
#define LADDER_S32 LADDER_S16 ",%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define LADDER_WGMMA_CASES(type, kind, tail)                                                                                          \
  if constexpr (kTokenTiles == 1) {                                                                                                   \
    asm volatile(LADDER_WGMMA("8", kind, LADDER_S4, "%4,%5,%6,%7", "%8", "%9", "%10", tail) : LADDER_SUMS(type, 0) : LADDER_OPERANDS);        \
  } else if constexpr (kTokenTiles == 2) {                                                                                            \
    asm volatile(LADDER_WGMMA("16", kind, LADDER_S8, "%8,%9,%10,%11", "%12", "%13", "%14", tail)                                             \
                 : LADDER_SUMS(type, 0), LADDER_SUMS(type, 1) : LADDER_OPERANDS);                                                     \
  } else if constexpr (kTokenTiles == 4) {                                                                                            \
    asm volatile(LADDER_WGMMA("32", kind, LADDER_S16, "%16,%17,%18,%19", "%20", "%21", "%22", tail)                                          \
                 : LADDER_SUMS(type, 0), LADDER_SUMS(type, 1), LADDER_SUMS(type, 2), LADDER_SUMS(type, 3) : LADDER_OPERANDS);         \
  } else {                                                                                                                            \
    static_assert(kTokenTiles == 8, "8, 16, 32 or 64 tokens");                                                                        \
    asm volatile(LADDER_WGMMA("64", kind, LADDER_S32, "%32,%33,%34,%35", "%36", "%37", "%38", tail)                                          \
                 : LADDER_SUMS(type, 0), LADDER_SUMS(type, 1), LADDER_SUMS(type, 2), LADDER_SUMS(type, 3), LADDER_SUMS(type, 4),      \
                   LADDER_SUMS(type, 5), LADDER_SUMS(type, 6), LADDER_SUMS(type, 7) : LADDER_OPERANDS);                               \
  }
// clang-format on

/// k = 16, FP16 or BF16 operands, FP32 sums; d = a · b where `accumulate` is 0.
template <bool kBf16, int kTokenTiles>
__device__ __forceinline__ void wgmma(float (&d)[kTokenTiles][4], const uint32_t (&a)[4], uint32_t b, int accumulate) {
  if constexpr (kBf16) {
    LADDER_WGMMA_CASES("f", "k16.f32.bf16.bf16", ", 1, 1, 0")
  } else {
    LADDER_WGMMA_CASES("f", "k16.f32.f16.f16", ", 1, 1, 0")
  }
}

/// k = 32, signed bytes, INT32 sums.
template <bool, int kTokenTiles>
__device__ __forceinline__ void wgmma(int32_t (&d)[kTokenTiles][4], const uint32_t (&a)[4], uint32_t b, int accumulate) {
  LADDER_WGMMA_CASES("r", "k32.s32.s8.s8", "")
}

#undef LADDER_WGMMA_CASES
#undef LADDER_WGMMA
#undef LADDER_OPERANDS
#undef LADDER_SUMS
#undef LADDER_S4
#undef LADDER_S8
#undef LADDER_S16
#undef LADDER_S32
#endif

}  // namespace ladder
