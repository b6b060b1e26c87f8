// Products of many rows in tiles, by mma.sync, cp.async and ldmatrix (sm_80 and later): y[m, n] = apply(x · dequantise(W)ᵀ), where row m
// of x is a row of a matrix, or what a convolution's kernel sees at a place of an image: an implicit product.
//
//   x        [images, height, width, channels] in rows, FP16 or codes of a byte; a dense product is one image per row, of one place;
//            with kPatches [images, channels, height, width] FP16, a row being a patch of (channel, line, column), the kernel's size
//   W        [n / 8][k / panel], each chunk 8 rows of a panel of 128 bytes of x; k = (kernel row, kernel column, channel), padded:
//              FP16, FP8, MX  [8 pieces][8 rows][16 bytes], as ldmatrix reads them
//              INT4           [4 steps][lane][4 bytes]: k 4t + byte in the low nibbles, 16 more in the high ones; lane = 4·row + t
//              INT1           [lane][4 bytes]: bit 2·step + half of byte q is k 32·step + 16·half + 4t + q
//            with kPairs chunks of gates and of what they gate take turns
//   x2, W2   of a second product whose results are added to the first's, as a projected residual's: of each row one place, every kStride-th
//            along both sides of images of Second::kHeight × kWidth (kStride 1: row after row), with weights, scales and a bias of its own
//   scales   per row of W [n]; MX [n / 8][k / 128][8][4] E8M0
//   y        [m, outputs] in rows, FP16 or codes or both (formats/results.cuh); residual FP16
//
// A warp sums 16 · kRowBlocks rows × 8 · kOutBlocks outputs: x is A, weights are B. A step is 32 bytes of x; the next one's operands are
// loaded while this one multiplies. FP8 has no tensor core of its own before sm_89, and mma.sync's is made of FP16's on sm_90: both
// operands become FP16, exactly, and sums are FP32. MX becomes BF16, scales and all. Integers of 4 bits are multiplied as 16 times what
// they are, which needs no sign extension. Every sum has a fixed order.
//
//   stage:  | x | weights | scales of MX |      (tile_block.cuh; filled by tile_feed.cuh)
//
// Configuration: kWeight, kN, kImages, kHeight, kWidth, kChannels, kKernelY, kKernelX, kStrideY, kStrideX, kPaddingY, kPaddingX, kOutHeight,
// kOutWidth; kPatches, kScaled (a scale per row of W), kRowScales or kOneScale (of x), kBias, kPairs, kResidual, kTokens (a further row before
// those of each image, and positions as the residual: embed_tokens of lib/operators/tokens.ts), Second (kChannels, kHeight, kWidth, kStride,
// kBias, kMost: of integers the largest product; of one product NoSecond: with a second one neither kPairs, kRowScales nor kResidual, and rows of
// both x of whole 16 bytes), and apply(value, paired value, residual), and what results.cuh asks for. n is padded to chunks, MX needs
// channels % 32 = 0, kPairs n % 16 = 0.
// Tuning: kTileRows, kTileOutputs, kWarpRows, kWarpOutputs, kStages, kBlocks, kSplit (blocks of a cluster that share out k; sm_90).
#pragma once
#include "matmul/tile/tile_feed.cuh"
#include "matmul/tile/tile_store.cuh"
#include "matmul/tile/tile_warp.cuh"

namespace ladder {

template <class C>
struct Tile {
  using L = TileBlock<C>;
  using Sums = typename TileStore<C>::Sums;
  using Parts = typename TileStore<C>::Parts;

  static constexpr int kSharedBytes = L::kSharedBytes;
  static constexpr int kBlockThreads = L::kBlockThreads;
  using Warp = TileWarp<C>;
  using Operands = typename Warp::Operands;
  static constexpr int kSteps = Warp::kSteps;
  static_assert(!C::kWgmma);

  const uint32_t base;
  const int warpM, warpN, lane;

  __device__ static void run(const TileArguments& p) {
    extern __shared__ __align__(1024) uint8_t shared[];
    const int warp = threadIdx.x / 32;
    Tile{sharedAddress(shared), warp / L::kWarpsN, warp % L::kWarpsN, static_cast<int>(threadIdx.x % 32)}.multiply(p);
  }

 private:
  __device__ __forceinline__ void multiply(const TileArguments& p) const {
    const int rank = C::kSplit > 1 ? blockIdx.x % C::kSplit : 0;
    TileFeed<C> feed(p, base, rank);
    feed.fill();

    Operands operands[2];
    uint32_t stage = base;
    waitForCopies<C::kStages - 2>();
    __syncthreads();
    load<0>(stage, operands[0]);
    feed.template copy<0, kSteps>();

    const int firstPanel = L::firstPanel(rank), panels = L::firstPanel(rank + 1) - firstPanel;
    const float2 factors = TileStore<C>::factors(p);
    for (int tile = blockIdx.x / C::kSplit; tile < L::kTiles; tile += C::kBlocks / C::kSplit) {
      const TileStore<C> store{p, base + L::termsOf(tile), L::outputOf(tile)};
      typename TileStore<C>::Ahead ahead;
      store.beginTile(tile, warpM, warpN, lane, ahead);
      Sums sums = {};
      Parts parts = {};
      for (int panel = 0; panel < panels; ++panel) {
        auto& now = sumsOf(sums, parts);
        step<0>(stage, feed, operands, now);
        step<1>(stage, feed, operands, now);
        step<2>(stage, feed, operands, now);
        // All threads have read this stage, which the feed fills anew, and the next one is there.
        const uint32_t read = stage;
        stage = stage == base + (C::kStages - 1) * L::kStageBytes ? base : stage + L::kStageBytes;
        waitForCopies<C::kStages - 2>();
        __syncthreads();
        feed.advance(read);
        step<3>(stage, feed, operands, now);  // after the last tile, what it reads ahead is not used
        if constexpr (L::kFolded) {
          const int ofAll = firstPanel + panel;
          if (ofAll == L::kPanels - 1 || panel == panels - 1) {
            store.fold(parts, ofAll >= L::kPanels, factors, warpN, lane, sums);
            clear(parts);
          }
        } else if constexpr (L::kPacked || L::kRescaled) {
          if (firstPanel + panel == L::kPanels - 1) store.turn(sums, factors, warpN, lane);
        }
      }
      store.finishTile(sums, base, tile, rank, warpM, warpN, lane, ahead);
    }
  }

  /// Where products are summed.
  __device__ __forceinline__ static auto& sumsOf(Sums& sums, Parts& parts) {
    if constexpr (L::kFolded) return parts;
    else return sums;
  }

  __device__ __forceinline__ static void clear(Parts& parts) {
#pragma unroll
    for (int i = 0; i < L::kRowBlocks; ++i) {
#pragma unroll
      for (int j = 0; j < L::kOutBlocks; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) parts[i][j][e] = 0;
      }
    }
  }

  /// sums += the products of a step, while the next one's operands are loaded (from `stage`) and copies go out.
  template <int kStep>
  __device__ __forceinline__ void step(uint32_t stage, TileFeed<C>& feed, Operands (&operands)[2], Parts& sums) const {
    constexpr int kNext = (kStep + 1) % kSteps;
    load<kNext>(stage, operands[kNext % 2]);
    feed.template copy<kNext, kSteps>();
    Warp::multiply(operands[kStep % 2], kStep, sums);
  }

  template <int kStep>
  __device__ __forceinline__ void load(uint32_t stage, Operands& operands) const {
    Warp::template load<L::kChunkBytes>(stage + warpM * C::kWarpRows * 128, stage + L::kWeightsAt + warpN * L::kOutBlocks * L::kChunkBytes,
                                        kStep, lane, operands);
    if constexpr (L::kMx)
      Warp::loadScales(stage + L::kXScalesAt + warpM * C::kWarpRows * 4, stage + L::kScalesAt + warpN * C::kWarpOutputs * 4, kStep, lane,
                       operands);
  }
};

/// By kBlocks blocks of kBlockThreads threads with kSharedBytes of shared memory, in clusters of kSplit.
template <class C>
__device__ __forceinline__ void tileProduct(const TileArguments& p) {
  Tile<C>::run(p);
}

}  // namespace ladder
