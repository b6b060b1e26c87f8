// PTX instructions that CUDA C++ has no name for, wrapped once: barriers in shared memory, asynchronous copies, clusters,
// programmatic dependent launch, mma.sync. Two targets: sm_90a (bulk copies, clusters, dependent launch) and sm_80, where
// copies are cp.async and the rest falls away. Ordering and phases are the caller's business (core/ring.cuh).
// Follows the PTX ISA 8.x, sections on mbarrier, cp.async(.bulk), griddepcontrol and mma.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

namespace ladder {

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
constexpr bool kHopper = true;
#else
constexpr bool kHopper = false;
#endif

__device__ __forceinline__ uint32_t sharedAddress(const void* pointer) { return static_cast<uint32_t>(__cvta_generic_to_shared(pointer)); }

/// What this thread wrote to shared memory, or knows to be written, comes before what bulk copies and wgmma do there later.
__device__ __forceinline__ void fenceAsyncProxy() {
#if __CUDA_ARCH__ >= 900
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

// ---- Barriers in shared memory -------------------------------------------------------------------------------------

__device__ __forceinline__ void barrierInit(uint32_t barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

/// Makes initialised barriers visible to the asynchronous copies (and, on Hopper, to the other blocks of the cluster).
__device__ __forceinline__ void fenceBarrierInit() {
#if __CUDA_ARCH__ >= 900
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  fenceAsyncProxy();
#endif
}

__device__ __forceinline__ void barrierArrive(uint32_t barrier) {
  asm volatile("{\n.reg .b64 state;\nmbarrier.arrive.shared.b64 state, [%0];\n}" ::"r"(barrier) : "memory");
}

/// Waits until the phase with this parity is complete.
__device__ __forceinline__ void barrierWait(uint32_t barrier, uint32_t parity) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "{\n.reg .pred done;\n"
      "retry:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra finished;\nbra retry;\nfinished:\n}" ::"r"(barrier), "r"(parity) : "memory");
#else
  asm volatile(
      "{\n.reg .pred done;\n"
      "retry:\nmbarrier.test_wait.parity.shared.b64 done, [%0], %1;\n"
      "@done bra finished;\nbra retry;\nfinished:\n}" ::"r"(barrier), "r"(parity) : "memory");
#endif
}

#if __CUDA_ARCH__ >= 900
/// Arrives, and announces bytes that bulk copies will bring.
__device__ __forceinline__ void barrierArriveExpect(uint32_t barrier, uint32_t bytes) {
  asm volatile("{\n.reg .b64 state;\nmbarrier.arrive.expect_tx.shared::cta.b64 state, [%0], %1;\n}" ::"r"(barrier), "r"(bytes) : "memory");
}
#endif

/// Synchronises `threads` threads (a multiple of 32) of the block; barrier 0 is __syncthreads'.
__device__ __forceinline__ void namedBarrier(uint32_t index, uint32_t threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(index), "r"(threads) : "memory");
}

// ---- Asynchronous copies into shared memory -------------------------------------------------------------------------

#if __CUDA_ARCH__ >= 900
/// One thread's bulk copy; both addresses and `bytes` are multiples of 16. Weights are read once, so they leave L2 first.
__device__ __forceinline__ void bulkCopyStreaming(uint32_t shared, const void* global, uint32_t bytes, uint32_t barrier) {
  // The descriptor that createpolicy.fractional.L2::evict_first.b64 with fraction 1.0 returns.
  constexpr uint64_t kEvictFirst = 0x12F0000000000000ull;
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::"r"(shared),
               "l"(global), "r"(bytes), "r"(barrier), "l"(kEvictFirst)
               : "memory");
}

__device__ __forceinline__ void bulkPrefetchL2(const void* global, uint32_t bytes) {
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(global), "r"(bytes) : "memory");
}
#endif

__device__ __forceinline__ void copyAsync16(uint32_t shared, const void* global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(global) : "memory");
}

/// copyAsync16 of what is read in order, little at a time: all 128 bytes around it come to L2.
__device__ __forceinline__ void copyAsync16InOrder(uint32_t shared, const void* global) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(shared), "l"(global) : "memory");
}

/// The barrier gets this thread's arrival when all its earlier copyAsync16 have landed.
__device__ __forceinline__ void copyAsyncArrive(uint32_t barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(barrier) : "memory");
}

// ---- Shared memory ----------------------------------------------------------------------------------------------------

__device__ __forceinline__ uint4 loadShared16(uint32_t address) {
  uint4 v;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(address));
  return v;
}

__device__ __forceinline__ void storeShared16(uint32_t address, uint4 v) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
}

/// Matrices of 8 rows × 16 bytes, as B of mma.sync has them: lane l names row l % 8 of matrix l / 8.
__device__ __forceinline__ void loadMatrices(uint32_t row, uint32_t (&r)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(row));
}

__device__ __forceinline__ void loadMatrices(uint32_t row, uint32_t (&r)[2]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(row));
}

__device__ __forceinline__ uint2 loadShared8(uint32_t address) {
  uint2 v;
  asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "r"(address));
  return v;
}

__device__ __forceinline__ uint32_t loadShared4(uint32_t address) {
  uint32_t v;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(v) : "r"(address));
  return v;
}

__device__ __forceinline__ uint32_t loadShared2(uint32_t address) {
  uint16_t v;
  asm volatile("ld.shared.u16 %0, [%1];" : "=h"(v) : "r"(address));
  return v;
}

__device__ __forceinline__ uint32_t loadShared1(uint32_t address) {
  uint32_t v;
  asm volatile("ld.shared.u8 %0, [%1];" : "=r"(v) : "r"(address));
  return v;
}

__device__ __forceinline__ void prefetchL2(const void* global) { asm volatile("prefetch.global.L2 [%0];" ::"l"(global)); }

// ---- Programmatic dependent launch: without the launch attribute both are no-ops ------------------------------------

/// Until here nothing that another kernel wrote may be read: the kernels before are complete, and their writes visible.
__device__ __forceinline__ void waitForPrerequisites() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// The next kernel's blocks may start (they wait by themselves before they read what this one writes).
__device__ __forceinline__ void launchDependents() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// ---- Clusters: without them a cluster is one block --------------------------------------------------------------------

#if __CUDA_ARCH__ >= 900
/// All threads of all blocks of the cluster. Barriers initialised and fenced before are visible after; for more it is too weak.
__device__ __forceinline__ void clusterBarrier() {
  asm volatile("barrier.cluster.arrive.relaxed.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
}

/// Address of the same variable in another block of the cluster.
__device__ __forceinline__ uint32_t remoteAddress(uint32_t shared, uint32_t rank) {
  uint32_t remote;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(shared), "r"(rank));
  return remote;
}

/// 16 bytes to another block's shared memory; its barrier counts them when they are there, which no fence need wait for.
__device__ __forceinline__ void storeRemote16(uint32_t remote, uint4 v, uint32_t remoteBarrier) {
  asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(remote), "r"(v.x),
               "r"(v.y), "r"(v.z), "r"(v.w), "r"(remoteBarrier)
               : "memory");
}

/// Tells another block that this thread has read something (into registers). Orders no writes.
__device__ __forceinline__ void barrierArriveRemote(uint32_t remoteBarrier) {
  asm volatile("mbarrier.arrive.relaxed.cluster.shared::cluster.b64 _, [%0];" ::"r"(remoteBarrier) : "memory");
}

/// barrierWait that also sees what other blocks of the cluster wrote before they arrived.
__device__ __forceinline__ void barrierWaitCluster(uint32_t barrier, uint32_t parity) {
  asm volatile(
      "{\n.reg .pred done;\n"
      "retry:\nmbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], %1;\n"
      "@done bra finished;\nbra retry;\nfinished:\n}" ::"r"(barrier), "r"(parity) : "memory");
}
#endif

// ---- Tensor cores: d += a · b, a is 16 × k (row), b is k × 8 (column) ---------------------------------------------------

/// k = 16, FP16 operands, FP32 accumulators.
__device__ __forceinline__ void mmaFp16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// k = 16, BF16 operands, FP32 accumulators.
__device__ __forceinline__ void mmaBf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// k = 32, signed bytes, INT32 accumulators.
__device__ __forceinline__ void mmaS8(int32_t (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// k = 256 bits: counts the ones of a AND b.
__device__ __forceinline__ void mmaAndPopcount(int32_t (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.and.popc {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// ---- Integer --------------------------------------------------------------------------------------------------------------

/// The value of lane 0, which the compiler then knows to be the same in all lanes.
__device__ __forceinline__ uint32_t uniform(uint32_t v) { return __shfl_sync(0xffffffffu, v, 0); }

/// Any function of three words, bit by bit.
template <uint8_t kTable>
__device__ __forceinline__ uint32_t lop3(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t d;
  asm("lop3.b32 %0, %1, %2, %3, %4;" : "=r"(d) : "r"(a), "r"(b), "r"(c), "n"(kTable));
  return d;
}
constexpr uint8_t kAndOr = (0xf0 & 0xcc) | 0xaa;   // (a & b) | c
constexpr uint8_t kAndXor = (0xf0 & 0xcc) ^ 0xaa;  // (a & b) ^ c

}  // namespace ladder
