// Convolutions of few channels by wgmma, on sm_90a: an odd kernel, stride 1, images that keep their size. What lies under a tile and around
// it comes to shared memory once for all taps, and weights once for all tiles of a block.
//
// Positions count an image's places line after line, with a column of zeros behind each line and a line of zeros behind each image (as many
// as the kernel reaches to one side), so that a tap is the same distance everywhere: its operand is the slab from another row on.
//
//   pitch = width + reach, position = (image · (height + reach) + y) · pitch + x
//   slab  rows of 128 bytes, positions from reach · (pitch + 1) before the tile's first to as many behind its last; pieces of 16 bytes
//         XOR row & 7, which is wgmma's 128-byte swizzle from any row on
//
// Sums of positions that are no places are dropped. A block's two teams of warpgroups have tiles and slabs of their own: while one team's
// sums are stored the other multiplies. Of a team's two slabs one is filled while the other is multiplied.
//
// Operands, weights, results, configuration: as tile_groups.cuh. FP8's sums go to FP32 every 256 of k. MX becomes BF16 on its way into the
// slab, in the order of tile_groups.cuh. Tuning: kTileRows (of a team) a multiple of 64; all outputs in a tile, 32 or 64; kBlocks.
#pragma once
#include "matmul/tile/tile_feed.cuh"
#include "matmul/tile/tile_store.cuh"
#include "matmul/tile/tile_wgmma.cuh"

namespace ladder {

/// A tile's rows where they are positions.
template <class C>
struct SlabRows {
  static constexpr int kReach = C::kKernelX / 2, kPitch = C::kWidth + kReach, kImagePositions = (C::kHeight + kReach) * kPitch;
  static constexpr int kPositions = C::kImages * kImagePositions;
  static constexpr bool kAreRows = false;

  /// The row of x and y at a position, which may be outside; −1: none.
  __device__ __forceinline__ static int of(int position) {
    const uint32_t image = static_cast<uint32_t>(position) / kImagePositions, within = static_cast<uint32_t>(position) % kImagePositions;
    const uint32_t y = within / kPitch, x = within % kPitch;
    return image < C::kImages && y < C::kHeight && x < C::kWidth ? static_cast<int>((image * C::kHeight + y) * C::kWidth + x) : -1;
  }
};

template <class C>
struct TileSlab {
  using L = TileBlock<C>;
  using Rows = SlabRows<C>;
  using Mx = MxBf16<C::kWeight>;
  using Store = TileStore<C, Rows>;
  using Sums = typename Store::Sums;
  static_assert(C::kWgmma && !L::kSecond && C::kSplit == 1 && C::kWarpRows == 16 && C::kWarpOutputs == C::kTileOutputs);
  static_assert(C::kTileRows % 64 == 0 && C::kTileOutputs == C::kN && !C::kPairs && !C::kResidual && !C::kRowScales);
  static_assert(C::kKernelX == C::kKernelY && C::kKernelX % 2 == 1 && C::kPaddingX == Rows::kReach && C::kPaddingY == Rows::kReach &&
                C::kStrideX == 1 && C::kStrideY == 1);

  /// Of operands, as they are multiplied: a place's channels, in steps of 32 bytes.
  static constexpr int kPlaceBytes = C::kChannels * (L::kXBytes == 2 || L::kMx ? 2 : 1), kTapSteps = kPlaceBytes / 32;
  static constexpr int kSteps = L::kTaps * kTapSteps;
  static_assert(kPlaceBytes <= 128 && kPlaceBytes % 32 == 0 && L::kRowBytes % 16 == 0);
  /// Rows around a tile; and of a slab.
  static constexpr int kAround = Rows::kReach * (Rows::kPitch + 1), kSlabRows = C::kTileRows + 2 * kAround;
  static constexpr int kSlabBytes = (kSlabRows * 128 + 1023) / 1024 * 1024;
  static constexpr int kTiles = (Rows::kPositions + C::kTileRows - 1) / C::kTileRows;

  static constexpr int kTeams = 2, kTeamThreads = C::kTileRows * 2, kBlockThreads = kTeams * kTeamThreads;
  /// Weights as tile_groups.cuh's panels of 128 bytes, all of them; slabs; places where warps turn their sums; scales and biases.
  static constexpr int kPanelBytes = C::kTileOutputs * 128, kOperandPanels = (kSteps + 3) / 4;
  static constexpr int kSlabsAt = kOperandPanels * kPanelBytes, kTurnsAt = kSlabsAt + 2 * kTeams * kSlabBytes;
  static constexpr int kTermsAt = kTurnsAt + kBlockThreads / 32 * L::kTurnBytes, kSharedBytes = kTermsAt + L::kTermBytes;

  __device__ static void run(const TileArguments& p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    extern __shared__ __align__(1024) uint8_t shared[];
    TileSlab{p, sharedAddress(shared), static_cast<int>(threadIdx.x) / kTeamThreads, static_cast<int>(threadIdx.x) % kTeamThreads}
        .multiply();
#endif
  }

  const TileArguments& p;
  const uint32_t base;
  const int team, thread;

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
 private:
  static constexpr TileOperand kOperand = tileOperandOf<L>();
  /// Steps after which FP8's sums are promoted: 256 of k.
  static constexpr int kSpanSteps = L::kFp8 ? 8 : kSteps, kSpans = (kSteps + kSpanSteps - 1) / kSpanSteps;

  __device__ __forceinline__ void multiply() const {
    const int warp = thread / 32, lane = thread % 32;
    loadWeights();
    L::template copyTerms<kBlockThreads>(p, base + kTermsAt, 0);
    launchDependents();
    waitForPrerequisites();
    const uint32_t slabs = base + kSlabsAt + team * 2 * kSlabBytes;
    const Store store{p, base + kTermsAt, 0};
    const uint32_t turn = base + kTurnsAt + threadIdx.x / 32 * L::kTurnBytes;
    int tile = blockIdx.x * kTeams + team, now = 0;
    Codes codes;
    fetch(tile, slabs, codes);
    place(slabs, codes);
    commitCopies();
    waitForCopies<0>();
    __syncthreads();
    for (; tile < kTiles; tile += C::kBlocks * kTeams, now = kSlabBytes - now) {
      // The team's copies are there, and its products of the other slab are done.
      waitForCopies<0>();
      fenceAsyncProxy();
      namedBarrier(1 + team, kTeamThreads);
      const uint32_t next = slabs + kSlabBytes - now;
      fetch(tile + C::kBlocks * kTeams, next, codes);
      commitCopies();
      Sums sums;
      multiplySlab(slabs + now + warp / 4 * 8192, sums[0], [&] { place(next, codes); });
      store.run(sums, turn, tile * C::kTileRows + warp * 16, 0, lane);
    }
  }

  /// All taps of 64 rows. @param meanwhile what is done while the first products are under way
  template <typename Meanwhile>
  __device__ __forceinline__ void multiplySlab(uint32_t slab, typename L::Sum (&sums)[L::kOutBlocks][4], const Meanwhile& meanwhile) const {
    const uint32_t a = tileRowsDescriptor(slab), b = tileWeightsDescriptor(base);
#pragma unroll
    for (int span = 0; span < kSpans; ++span) {
      typename L::Part part[L::kOutBlocks][4];
      auto& d = span == 0 ? sums : part;
      wgmmaFence();
#pragma unroll
      for (int i = span * kSpanSteps; i < kSteps && i < (span + 1) * kSpanSteps; ++i) {
        const int tap = i / kTapSteps, row = tap / C::kKernelX * Rows::kPitch + tap % C::kKernelX;
        tileWgmma<kOperand>(d, a + (row * 128 >> 4) + i % kTapSteps * kTileRowsStep,
                            b + (i / 4 * kPanelBytes >> 4) + i % 4 * kTileWeightsStep, i > span * kSpanSteps);
      }
      wgmmaCommit();
      if (span == 0) meanwhile();
      wgmmaWait<0>();
#pragma unroll
      for (int j = 0; j < L::kOutBlocks; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          pin(d[j][e]);
          if (span > 0) sums[j][e] += d[j][e];
        }
      }
    }
  }

  // ---- Slabs --------------------------------------------------------------------------------------------------------------

  /// Pieces of 16 bytes of a place; a thread's, of MX: codes on their way, and their scales.
  static constexpr int kPlacePieces = L::kRowBytes / 16, kPieces = kSlabRows * kPlacePieces;
  static constexpr int kThreadPieces = (kPieces + kTeamThreads - 1) / kTeamThreads;
  struct Codes {
    uint4 piece[L::kMx ? kThreadPieces : 1];
    uint8_t scale[L::kMx ? kThreadPieces : 1];
  };

  /// What a tile multiplies: of MX to registers.
  __device__ __forceinline__ void fetch(int tile, uint32_t slab, Codes& codes) const {
    const uint8_t* const x = static_cast<const uint8_t*>(p.x);
#pragma unroll
    for (int i = 0; i < kThreadPieces; ++i) {
      const int item = i * kTeamThreads + thread, row = item / kPlacePieces, piece = item % kPlacePieces;
      const int place = tile < kTiles && item < kPieces ? Rows::of(tile * C::kTileRows - kAround + row) : -1;
      const uint8_t* const from = place < 0 ? x : x + static_cast<int64_t>(place) * L::kRowBytes + piece * 16;
      if constexpr (L::kMx) {
        codes.piece[i] = place < 0 ? uint4{} : *reinterpret_cast<const uint4*>(from);
        codes.scale[i] =
            place < 0 ? 0 : static_cast<const uint8_t*>(p.xScale)[static_cast<int64_t>(place) * (C::kChannels / 32) + piece / 2];
      } else if (tile < kTiles && item < kPieces) {
        copyOrZero<16>(slab + row * 128 + (piece ^ row % 8) * 16, from, place >= 0);
      }
    }
  }

  /// MX's codes as BF16.
  __device__ __forceinline__ void place(uint32_t slab, const Codes& codes) const {
    if constexpr (L::kMx) {
#pragma unroll
      for (int i = 0; i < kThreadPieces; ++i) {
        const int item = i * kTeamThreads + thread, row = item / kPlacePieces, piece = item % kPlacePieces;
        if (item < kPieces)
          expandPiece<C::kWeight>(codes.piece[i], Mx::multiplier(codes.scale[i], 0),
                                  [&](int half) { return slab + row * 128 + ((piece * 2 + half) ^ row % 8) * 16; });
      }
      fenceAsyncProxy();
    }
  }

  // ---- Weights ------------------------------------------------------------------------------------------------------------

  __device__ __forceinline__ void loadWeights() const {
    constexpr int kChunkPieces = L::kChunkBytes / 16;
    for (int i = threadIdx.x; i < L::kChunks * L::kPanels * kChunkPieces; i += kBlockThreads) {
      const int piece = i % kChunkPieces, panel = i / kChunkPieces % L::kPanels, chunk = i / kChunkPieces / L::kPanels;
      const uint32_t to = base + panel * kPanelBytes + chunk * 1024;
      const uint8_t* const from = p.weight + static_cast<size_t>(i) * 16;
      if constexpr (L::kMx) {
        // Of 128 codes there are two panels of BF16.
        const int row = piece % 8, ofK = piece / 8;
        if (panel * 2 + ofK / 4 >= kOperandPanels) continue;
        const uint32_t wide = base + (panel * 2 + ofK / 4) * kPanelBytes + chunk * 1024 + row * 16;
        const uint32_t scale = static_cast<const uint8_t*>(p.scale)[((chunk * L::kPanels + panel) * 8 + row) * 4 + ofK / 2];
        expandPiece<C::kWeight>(*reinterpret_cast<const uint4*>(from), Mx::multiplier(scale, Mx::kLift),
                                [&](int half) { return wide + (ofK % 4 * 2 + half) * 128; });
      } else if constexpr (L::kDecoded) {
        TileFeed<C>::decode(*reinterpret_cast<const uint4*>(from), to, piece);
      } else {
        copyAsync16(to + piece * 16, from);
      }
    }
    fenceAsyncProxy();
  }
#endif
};

/// By kBlocks blocks of kBlockThreads threads with kSharedBytes of shared memory.
template <class C>
__device__ __forceinline__ void tileSlabProduct(const TileArguments& p) {
  TileSlab<C>::run(p);
}

}  // namespace ladder
