// Products of attention by tiles on sm_90a (core/wgmma.cuh says how warpgroups multiply): operands in panels (flash/shape.cuh), whose
// core matrices wgmma takes as they are, without a swizzle.
//
//   scores  64 queries × 128 keys: A queries in registers, B keys as stored (channels are k)
//   values  64 queries × 64, 96 or 128 channels: A weights in registers, B values transposed by the instruction (tokens are k)
#pragma once
#include "core/wgmma.cuh"

namespace ladder {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// One thread's bulk copy of what others read, too; both addresses and `bytes` are multiples of 16.
__device__ __forceinline__ void bulkCopyShared(uint32_t shared, const void* global, uint32_t bytes, uint32_t barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(shared), "l"(global),
               "r"(bytes), "r"(barrier)
               : "memory");
}

/// Descriptor of core matrices without swizzle: lower half for an address (the same in all lanes), upper half a constant.
template <uint32_t kLeading>
__device__ __forceinline__ uint32_t panelDescriptor(uint32_t shared) {
  return uniform((shared & 0x3ffff) >> 4 | kLeading >> 4 << 16);
}
/// From 8 channels to the next: the lower half's stride where channels are k (keys), the upper one's where rows are (values).
constexpr uint32_t kPieceStride = 128;

// clang-format off
#define LADDER_F(j) "+f"(d[j][0]), "+f"(d[j][1]), "+f"(d[j][2]), "+f"(d[j][3])
#define LADDER_F4(j) LADDER_F(j), LADDER_F(j + 1), LADDER_F(j + 2), LADDER_F(j + 3)
#define LADDER_F8(j) LADDER_F4(j), LADDER_F4(j + 4)
#define LADDER_F16 LADDER_F8(0), LADDER_F8(8)
#define LADDER_N64 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define LADDER_N96 LADDER_N64 ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47"
#define LADDER_N128 LADDER_N96 ",%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
// clang-format on

/// s = q · kᵀ (kFirst) or s += q · kᵀ, 16 channels, 128 keys; kGroupBytes from 8 keys to the next.
template <bool kFirst, int kGroupBytes>
__device__ __forceinline__ void multiplyKeys(float (&d)[16][4], const uint32_t (&a)[4], uint32_t keys) {
  asm volatile(
      "{\n.reg .b64 b;\n.reg .pred add;\nsetp.ne.b32 add, %70, 0;\nmov.b64 b, {%68, %69};\nwgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {" LADDER_N128
      "}, {%64,%65,%66,%67}, b, add, 1, 1, 0;\n}"
      : LADDER_F16
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(keys), "n"(kGroupBytes >> 4), "n"(kFirst ? 0 : 1));
}

/// d += p · v, 16 tokens.
template <int kChannels>
__device__ __forceinline__ void multiplyValues(float (*d)[4], const uint32_t (&a)[4], uint32_t values) {
  if constexpr (kChannels == 64) {
    asm volatile("{\n.reg .b64 b;\nmov.b64 b, {%36, %37};\nwgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {" LADDER_N64
                 "}, {%32,%33,%34,%35}, b, 1, 1, 1, 1;\n}"
                 : LADDER_F8(0)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(values), "n"(kPieceStride >> 4));
  } else if constexpr (kChannels == 96) {
    asm volatile("{\n.reg .b64 b;\nmov.b64 b, {%52, %53};\nwgmma.mma_async.sync.aligned.m64n96k16.f32.f16.f16 {" LADDER_N96
                 "}, {%48,%49,%50,%51}, b, 1, 1, 1, 1;\n}"
                 : LADDER_F8(0), LADDER_F4(8)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(values), "n"(kPieceStride >> 4));
  } else {
    static_assert(kChannels == 128, "64, 96 or 128 channels");
    asm volatile("{\n.reg .b64 b;\nmov.b64 b, {%68, %69};\nwgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {" LADDER_N128
                 "}, {%64,%65,%66,%67}, b, 1, 1, 1, 1;\n}"
                 : LADDER_F16
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(values), "n"(kPieceStride >> 4));
  }
}

#undef LADDER_F
#undef LADDER_F4
#undef LADDER_F8
#undef LADDER_F16
#undef LADDER_N64
#undef LADDER_N96
#undef LADDER_N128

template <int kCount, int kWidth, class R>
__device__ __forceinline__ void pinAll(R (&registers)[kCount][kWidth]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
#pragma unroll
    for (int j = 0; j < kWidth; ++j) pin(registers[i][j]);
  }
}

/// Arrives at a named barrier for which others wait.
__device__ __forceinline__ void namedBarrierArrive(uint32_t index, uint32_t threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(index), "r"(threads) : "memory");
}
#endif

}  // namespace ladder
