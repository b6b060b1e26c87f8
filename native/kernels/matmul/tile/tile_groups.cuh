// tile.cuh's products by wgmma, on sm_90a: the same operands, ring, feed and epilogue; a warpgroup sums 64 rows × all outputs of a tile.
// Two blocks share a multiprocessor, so that one multiplies while the other waits, copies or stores.
//
// Weights below 8 bits are decoded by the threads that load them, on their way into the stage. FP8's sums, which the tensor cores
// truncate, go to FP32 every 256 of k.
//
// MX becomes BF16, scales and all, in shared memory beside the ring: half of a panel (64 of k) at a time, in two buffers, so that
// threads expand one half while the tensor cores multiply the other. A piece of 16 codes becomes two of 8 numbers; of each four codes the
// even ones come first, in both operands, so that each product has its partner. Or, with kByBlocks, codes are multiplied as FP8, and the sums
// of each block of 32 are added times both its scales: no passage through shared memory, but two instructions for each block of each sum.
//
// Tuning: as tile.cuh, with kWarpRows = 16, kWarpOutputs = kTileOutputs (32, 64, 128, 192 or 256), kTileRows a multiple of 64.
#pragma once
#include "matmul/tile/tile_feed.cuh"
#include "matmul/tile/tile_store.cuh"
#include "matmul/tile/tile_wgmma.cuh"

namespace ladder {

template <class C>
struct TileGroups {
  using L = TileBlock<C>;
  using Store = TileStore<C>;
  using Sums = typename Store::Sums;
  static_assert(C::kWgmma && C::kWarpRows == 16 && C::kWarpOutputs == C::kTileOutputs && C::kTileRows % 64 == 0);
  static_assert(L::kExpanded || L::kStageBytes % 1024 == 0);

  static constexpr int kSharedBytes = L::kSharedBytes;
  static constexpr int kBlockThreads = L::kBlockThreads;

  __device__ static void run(const TileArguments& p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    extern __shared__ __align__(1024) uint8_t shared[];
    multiply(p, sharedAddress(shared));
#endif
  }

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
 private:
  static constexpr TileOperand kOperand = tileOperandOf<L, C::kByBlocks>();
  /// Panels after which FP8's sums are promoted; where there are no more, they need not be.
  static constexpr int kSpan = L::kSpan;
  static constexpr bool kPromoted = L::kFolded || (L::kFp8 && L::kAllPanels > kSpan);
  using Parts = typename Store::Parts;

  /// Where a panel is, of a tile's panels that this block sums.
  struct Place {
    int panel, panels, first;
    __device__ __forceinline__ bool isSecond() const { return L::kSecond && first + panel >= L::kPanels; }
    __device__ __forceinline__ int ofProduct() const { return first + panel - (isSecond() ? L::kPanels : 0); }
    /// Whether it is the first, or the last one, whose sums are promoted together.
    __device__ __forceinline__ bool begins() const {
      return panel == 0 || (kPromoted && ((L::kFp8 && ofProduct() % kSpan == 0) || (L::kFolded && ofProduct() == 0)));
    }
    __device__ __forceinline__ bool ends() const {
      return panel == panels - 1 || (L::kFp8 && ofProduct() % kSpan == kSpan - 1) || (L::kFolded && first + panel == L::kPanels - 1);
    }
    /// Whether this block sums no more of the first product after it, of which it has summed some.
    __device__ __forceinline__ bool turns() const { return !isSecond() && (panel == panels - 1 || first + panel == L::kPanels - 1); }
  };

  __device__ __forceinline__ static void multiply(const TileArguments& p, uint32_t base) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int rank = C::kSplit > 1 ? blockIdx.x % C::kSplit : 0;
    TileFeed<C> feed(p, base, rank);
    feed.fill();
    const int first = L::firstPanel(rank), panels = L::firstPanel(rank + 1) - first;
    const float2 factors = Store::factors(p);
    uint32_t stage = base;
    for (int tile = blockIdx.x / C::kSplit; tile < L::kTiles; tile += C::kBlocks / C::kSplit) {
      const Store store{p, base + L::termsOf(tile), L::outputOf(tile)};
      typename Store::Ahead ahead;
      store.beginTile(tile, warp, 0, lane, ahead);
      Sums sums;
      if constexpr (kPromoted || C::kByBlocks) {
#pragma unroll
        for (int j = 0; j < L::kOutBlocks; ++j) {
#pragma unroll
          for (int e = 0; e < 4; ++e) sums[0][j][e] = 0;
        }
      }
      Parts parts;
      for (int panel = 0; panel < panels; ++panel) {
        if constexpr (L::kExpanded) {
          multiplyExpanded(feed, base, stage, warp, panel, sums[0]);
        } else if constexpr (C::kByBlocks) {
          multiplyBlocks(feed, base, stage, warp, lane, sums[0]);
        } else {
          const Place place{panel, panels, first};
          multiplyPanel(feed, base, stage, warp, place, sumsOf(sums, parts));
          if constexpr (kPromoted) {
            if (place.ends()) promote(store, parts, place.isSecond(), factors, lane, sums);
          } else if constexpr (L::kPacked || L::kRescaled) {
            if (place.turns()) {
              pinAll(sums[0]);
              store.turn(sums, factors, 0, lane);
            }
          }
        }
      }
      if constexpr (L::kExpanded) wgmmaWait<0>();
      if constexpr (!kPromoted && !C::kByBlocks) pinAll(sums[0]);
      store.finishTile(sums, base, tile, rank, warp, 0, lane, ahead);
    }
  }

  /// A panel's products, and what comes into the ring after it.
  __device__ __forceinline__ static void multiplyPanel(TileFeed<C>& feed, uint32_t base, uint32_t& stage, int warp, const Place& place,
                                                       typename L::Part (&sums)[L::kOutBlocks][4]) {
    // Everybody's copies of this stage are there, and everybody's products of the one before are done.
    waitForCopies<C::kStages - 2>();
    fenceAsyncProxy();
    __syncthreads();
    const uint32_t a = tileRowsDescriptor(stage + warp / 4 * 8192), b = tileWeightsDescriptor(stage + L::kWeightsAt);
    wgmmaFence();
#pragma unroll
    for (int step = 0; step < 4; ++step)
      tileWgmma<kOperand>(sums, a + step * kTileRowsStep, b + step * kTileWeightsStep, step > 0 || !place.begins());
    wgmmaCommit();
    feedNext(feed, base, stage);
    wgmmaWait<0>();
  }

  /// Copies into the stage before this one, and on to the next.
  __device__ __forceinline__ static void feedNext(TileFeed<C>& feed, uint32_t base, uint32_t& stage) {
    feed.template copy<0, 1>();
    feed.advance(stage);
    stage = stage == base + (C::kStages - 1) * L::kStageBytes ? base : stage + L::kStageBytes;
  }

  __device__ __forceinline__ static void pinAll(typename L::Part (&sums)[L::kOutBlocks][4]) {
#pragma unroll
    for (int j = 0; j < L::kOutBlocks; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) pin(sums[j][e]);
    }
  }

  /// sums += a product's, or FP8's of a span.
  __device__ __forceinline__ static void promote(const Store& store, Parts& parts, bool isSecond, float2 factors, int lane, Sums& sums) {
    pinAll(parts[0]);
    if constexpr (L::kFolded) {
      store.fold(parts, isSecond, factors, 0, lane, sums);
    } else {
#pragma unroll
      for (int j = 0; j < L::kOutBlocks; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) sums[0][j][e] += parts[0][j][e];
      }
    }
  }

  /// Whether a panel of MX has a second half of 64.
  static constexpr bool kHalves = L::kK > 64 || C::Second::kChannels > 64;

  /// The same of MX by blocks, as many of them at a time as registers have room for.
  __device__ __forceinline__ static void multiplyBlocks(TileFeed<C>& feed, uint32_t base, uint32_t& stage, int warp, int lane,
                                                        typename L::Sum (&sums)[L::kOutBlocks][4]) {
    constexpr int kBlocks = kHalves ? 4 : 2, kTogether = L::kOutBlocks <= 8 ? kBlocks : L::kOutBlocks <= 16 ? 2 : 1;
    waitForCopies<C::kStages - 2>();
    fenceAsyncProxy();
    __syncthreads();
    const uint32_t a = tileRowsDescriptor(stage + warp / 4 * 8192), b = tileWeightsDescriptor(stage + L::kWeightsAt);
    const uint32_t rowScales = stage + L::kXScalesAt + (warp * 16 + lane / 4) * 4, scales = stage + L::kScalesAt + lane % 4 * 8;
    const uint32_t ofRows[2] = {loadShared4(rowScales), loadShared4(rowScales + 32)};
#pragma unroll
    for (int first = 0; first < kBlocks; first += kTogether) {
      float parts[kTogether][L::kOutBlocks][4];
      wgmmaFence();
#pragma unroll
      for (int i = 0; i < kTogether; ++i)
        tileWgmma<kOperand>(parts[i], a + (first + i) * kTileRowsStep, b + (first + i) * kTileWeightsStep, 0);
      wgmmaCommit();
      if (first == 0) feedNext(feed, base, stage);
      wgmmaWait<0>();
#pragma unroll
      for (int i = 0; i < kTogether; ++i) pinAll(parts[i]);
#pragma unroll
      for (int j = 0; j < L::kOutBlocks; ++j) {
        const uint2 ofColumns = loadShared8(scales + j * 32);
#pragma unroll
        for (int i = 0; i < kTogether; ++i) {
          const float row[2] = {powerOf(ofRows[0], first + i), powerOf(ofRows[1], first + i)};
          const float column[2] = {powerOf(ofColumns.x, first + i), powerOf(ofColumns.y, first + i)};
#pragma unroll
          for (int e = 0; e < 4; ++e) sums[j][e] += parts[i][j][e] * row[e / 2] * column[e % 2];
        }
      }
    }
  }

  /// What code `i` of four E8M0 stands for; 2⁻¹²⁷ is no normal number.
  __device__ __forceinline__ static float powerOf(uint32_t codes, int i) {
    return __uint_as_float(max((codes >> 8 * i & 0xff) << 23, 0x00400000u));
  }

  /// The same of MX as BF16. On entry the products of the panel before's second half may be under way, and are on return of this one's.
  __device__ __forceinline__ static void multiplyExpanded(TileFeed<C>& feed, uint32_t base, uint32_t& stage, int warp, int panel,
                                                          typename L::Sum (&sums)[L::kOutBlocks][4]) {
    const uint32_t buffers[2] = {base + L::kExpandedAt, base + L::kExpandedAt + L::kExpandedBytes};
    // Everybody's copies of this stage are there, and everybody's products of the first buffer are done.
    waitForCopies<C::kStages - 2>();
    __syncthreads();
    expand<0>(stage, buffers[0]);
    fenceAsyncProxy();
    wgmmaWait<0>();
    __syncthreads();
    multiplyHalf(buffers[0], warp, panel != 0, sums);
    if constexpr (kHalves) {
      expand<1>(stage, buffers[1]);
      fenceAsyncProxy();
      __syncthreads();
      multiplyHalf(buffers[1], warp, true, sums);
    }
    feedNext(feed, base, stage);
    if constexpr (kHalves) wgmmaWait<1>();
    else wgmmaWait<0>();
  }

  __device__ __forceinline__ static void multiplyHalf(uint32_t buffer, int warp, int accumulate,
                                                      typename L::Sum (&sums)[L::kOutBlocks][4]) {
    const uint32_t a = tileRowsDescriptor(buffer + warp / 4 * 8192), b = tileWeightsDescriptor(buffer + L::kTokenBytes);
    wgmmaFence();
#pragma unroll
    for (int step = 0; step < 4; ++step)
      tileWgmma<kOperand>(sums, a + step * kTileRowsStep, b + step * kTileWeightsStep, step > 0 || accumulate);
    wgmmaCommit();
  }

  /// Half of a stage's codes as BF16: pieces of rows as the 128-byte swizzle has them, of weights in core matrices. Lanes have rows beside
  /// each other, which meet no bank twice in either.
  template <int kHalf>
  __device__ __forceinline__ static void expand(uint32_t stage, uint32_t buffer) {
    expandRows<kHalf, C::kTileRows>(
        stage + L::kXScalesAt, 0, [&](int row, int piece) { return stage + row * 128 + (piece ^ row % 8) * 16; },
        [&](int row, int piece) { return buffer + row * 128 + (piece ^ row % 8) * 16; });
    const auto core = [](int row, int piece) { return row / 8 * 1024 + piece * 128 + row % 8 * 16; };
    expandRows<kHalf, C::kTileOutputs>(
        stage + L::kScalesAt, MxBf16<C::kWeight>::kLift, [&](int row, int piece) { return stage + L::kWeightsAt + core(row, piece); },
        [&](int row, int piece) { return buffer + L::kTokenBytes + core(row, piece); });
  }

  template <int kHalf, int kRows, typename From, typename To>
  __device__ __forceinline__ static void expandRows(uint32_t scales, int lift, const From& from, const To& to) {
    using Mx = MxBf16<C::kWeight>;
    constexpr int kPieces = 4 * kRows;
#pragma unroll
    for (int i = 0; i < (kPieces + kBlockThreads - 1) / kBlockThreads; ++i) {
      const int item = i * kBlockThreads + threadIdx.x, row = item % kRows, piece = item / kRows;
      if (kPieces % kBlockThreads != 0 && item >= kPieces) break;
      const uint4 codes = loadShared16(from(row, kHalf * 4 + piece));
      const uint32_t scale = Mx::multiplier(loadShared1(scales + row * 4 + kHalf * 2 + piece / 2), lift);
      expandPiece<C::kWeight>(codes, scale, [&](int half) { return to(row, piece * 2 + half); });
    }
  }

  /// Where products are summed.
  __device__ __forceinline__ static auto& sumsOf(Sums& sums, Parts& parts) {
    if constexpr (kPromoted) return parts[0];
    else return sums[0];
  }
#endif
};

/// By kBlocks blocks of kBlockThreads threads with kSharedBytes of shared memory, in clusters of kSplit.
template <class C>
__device__ __forceinline__ void tileGroupsProduct(const TileArguments& p) {
  TileGroups<C>::run(p);
}

}  // namespace ladder
