// Attention in tiles on sm_80 and later, and what compute_80 PTX holds: mma.sync, cp.async. Design: Dao 2023 (FlashAttention-2). A block
// takes one tile of 128 queries, a warp 16 of them; one block of keys and one of values are in shared memory, each
// fetched while the other one is multiplied.
//
//   wait for k(j); fetch v(j); s = q · k(j)ᵀ; wait for v(j); fetch k(j+1); weigh s (the softmax); o = o · factor + p · v(j)
//
// Shared memory: [keys] [values] [queries]; blocks of kKeys rows of a head's parts, in core matrices, of which ldmatrix reads eight rows
// without a conflict; queries as the lanes need them, 16 bytes per lane and step of 16 channels.
// Grid: kCount blocks. Test: test/gpu/flash-attention.test.ts.
#pragma once
#include "attention/flash/rows.cuh"
#include "attention/flash/shape.cuh"
#include "core/ptx.cuh"

namespace ladder {

template <class C>
struct FlashMma {
  using S = FlashShape<C>;
  static constexpr int kWarps = 8, kThreads = 32 * kWarps, kQueries = 16 * kWarps, kKeys = 128;
  static constexpr int kBlockBytes = kKeys * S::kDim * 2;
  static constexpr int kWarpQueryBytes = S::kDim / 16 * 512;
  static constexpr int kSharedBytes = 2 * kBlockBytes + kWarps * kWarpQueryBytes;
  using Tiles = FlashTiles<C, kQueries, kKeys>;
  static_assert(kBlockBytes / 16 % kThreads == 0);
};

/// copyAsync16, or 16 zeros.
__device__ __forceinline__ void copyAsync16OrZero(uint32_t shared, const void* global, bool copy) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(global), "r"(copy ? 16 : 0) : "memory");
}
__device__ __forceinline__ void copyAsyncWaitAll() { asm volatile("cp.async.wait_all;" ::: "memory"); }

/// loadMatrices, each matrix transposed.
__device__ __forceinline__ void loadMatricesTransposed(uint32_t row, uint32_t (&r)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(row));
}

/// Launched with blocks of FlashMma<C>::kThreads and kSharedBytes of shared memory.
template <class C>
__device__ __forceinline__ void flashMmaKernel(const void* qkv, const void* workspace, void* y) {
  using S = FlashShape<C>;
  using L = FlashMma<C>;
  using Rows = FlashRows<C>;
  constexpr int kTiles = L::kKeys / 8;
  extern __shared__ __align__(1024) uint8_t memory[];
  launchDependents();
  waitForPrerequisites();
  const FlashTile tile = L::Tiles::at(blockIdx.x);
  if (L::Tiles::isEmpty(tile)) return;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const uint32_t keysAt = sharedAddress(memory), valuesAt = keysAt + L::kBlockBytes;
  const uint32_t queriesAt = valuesAt + L::kBlockBytes + warp * L::kWarpQueryBytes + lane * 16;
  const uint8_t* keys = S::keys(qkv, workspace, tile.head / S::kShared);
  const uint8_t* values = S::values(qkv, workspace, tile.head / S::kShared);
  const auto fetch = [&](auto parts, uint32_t shared, const uint8_t* head, int block) {
    using Parts = decltype(parts);
    constexpr int kPartBytes = L::kKeys / 8 * Parts::kGroupBytes;
    const int firstRow = tile.firstKey + block * L::kKeys;
    const int bytes = ((tile.endRow + 7) / 8 - firstRow / 8) * Parts::kGroupBytes;
#pragma unroll
    for (int i = 0; i < L::kBlockBytes / 16 / L::kThreads; ++i) {
      const int at = (i * L::kThreads + threadIdx.x) * 16, inPart = at % kPartBytes;
      const bool inside = inPart < bytes;
      const int64_t from = inside ? static_cast<int64_t>(firstRow / 8) * Parts::kGroupBytes + inPart : 0;
      copyAsync16OrZero(shared + at, head + at / kPartBytes * Parts::kStrideBytes + from, inside);
    }
  };
  fetch(typename S::Keys{}, keysAt, keys, 0);

  // Queries: through registers, turned, to where this lane finds them again.
  const Rows rows(tile, tile.firstQuery + warp * 16, lane);
  {
    uint32_t q[Rows::kSteps][4];
    rows.load(q, qkv, tile.head, lane);
    if constexpr (S::kRope) {
      typename Rows::Angles angles;
      rows.loadAngles(angles, workspace, tile.firstRow, lane);
      Rows::turn(q, angles);
    }
#pragma unroll
    for (int step = 0; step < Rows::kSteps; ++step)
      storeShared16(queriesAt + step * 512, make_uint4(q[step][0], q[step][1], q[step][2], q[step][3]));
  }

  FlashSoftmax<C> softmax(tile.head);
  float o[S::kDim / 8][4] = {};
  const int lastKey = (C::kCausal ? min(tile.endRow, tile.firstQuery + L::kQueries) : tile.endRow) - 1;
  // Lane l names a row of 16 bytes: keys of two groups × two pieces; tokens of two groups × two pieces, groups first.
  using Keys = typename S::Keys;
  using Values = typename S::Values;
  const uint32_t keyRow = keysAt + lane / 16 * Keys::kGroupBytes + lane / 8 % 2 * 128 + lane % 8 * 16;
  const uint32_t valueRow = valuesAt + lane / 8 % 2 * Values::kGroupBytes + lane / 16 * 128 + lane % 8 * 16;
  // Where a piece of the block's first rows lies.
  const auto pieceAt = [](auto parts, int piece) {
    using Parts = decltype(parts);
    return piece / Parts::kPartPieces * (L::kKeys / 8 * Parts::kGroupBytes) + piece % Parts::kPartPieces * 128;
  };

  for (int block = 0; block < tile.keyBlocks; ++block) {
    copyAsyncWaitAll();
    __syncthreads();
    fetch(typename S::Values{}, valuesAt, values, block);

    float s[kTiles][4] = {};
#pragma unroll
    for (int step = 0; step < Rows::kSteps; ++step) {
      const uint4 four = loadShared16(queriesAt + step * 512);
      const uint32_t q[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
      for (int i = 0; i < kTiles / 2; ++i) {
        uint32_t k[4];
        loadMatrices(keyRow + pieceAt(Keys{}, 2 * step) + i * 2 * Keys::kGroupBytes, k);
        mmaFp16(s[2 * i], q, k[0], k[1]);
        mmaFp16(s[2 * i + 1], q, k[2], k[3]);
      }
    }
    copyAsyncWaitAll();
    __syncthreads();
    if (block + 1 < tile.keyBlocks) fetch(typename S::Keys{}, keysAt, keys, block + 1);

    const int firstKey = tile.firstKey + block * L::kKeys;
    if (rows.template masks<L::kKeys>(tile, firstKey)) rows.mask(s, tile, firstKey, lane);
    float factor[2];
    softmax.weigh(s, firstKey - lastKey, lane, factor);
    rescale(o, factor);
#pragma unroll
    for (int step = 0; step < kTiles / 2; ++step) {
      uint32_t p[4];
      packWeights(p, s[2 * step], s[2 * step + 1]);
#pragma unroll
      for (int i = 0; i < S::kPieces / 2; ++i) {
        uint32_t v[4];
        loadMatricesTransposed(valueRow + pieceAt(Values{}, 2 * i) + step * 2 * Values::kGroupBytes, v);
        mmaFp16(o[2 * i], p, v[0], v[1]);
        mmaFp16(o[2 * i + 1], p, v[2], v[3]);
      }
    }
  }
  float inverse[2];
  softmax.finish(inverse);
  rows.store(y, o, inverse, tile, lane);
}

}  // namespace ladder
