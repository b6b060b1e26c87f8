// A block of thin.cuh: what its constants follow from a configuration, where everything lies in shared memory, and which tiles
// are its own. lib/compiler/kernels/matmul/thin.ts mirrors the sizes; the generated text asserts that both agree.
#pragma once
#include "core/ring.cuh"
#include "matmul/operator.cuh"

namespace ladder {

template <class C>
struct ThinBlock {
  using T = FormatTraits<C::kWeight>;
  using S = DenseShape<C>;

  // Names that thin_store.cuh asks for: warps along n and k, tiles of each, and who has which.
  static constexpr int kWarpsN = C::kWarpsN, kWarpsK = C::kWarpsK, kWarpTiles = C::kWarpTiles;
  __device__ __forceinline__ static constexpr int tileOf(int warpN, int i) { return warpN * kWarpTiles + i; }
  static constexpr bool kExchangeInRing = false;
  /// What sums lack, but for scales of rows and tokens.
  static constexpr float kSumScale = T::kProductScale;

  static constexpr int kWarps = C::kWarpsN * C::kWarpsK;  // consumers
  static constexpr int kThreads = kWarps * 32;
  static constexpr int kTokenTiles = (C::kM + 7) / 8;
  static constexpr int kTokens = kTokenTiles * 8;
  static constexpr int kPassTiles = C::kWarpsN * C::kWarpTiles;
  static constexpr int kUnitsPerWarp = C::kStageUnits / C::kWarpsK;
  /// Blocks that share k, groups of them, and units of k per block.
  static constexpr int kSplit = kHopper ? C::kCluster : 1;
  static constexpr int kGroups = C::kBlocks / kSplit;
  static constexpr int kBlockUnits = S::kUnits / kSplit;
  static constexpr int kStagesPerPass = (kBlockUnits + C::kStageUnits - 1) / C::kStageUnits;
  static_assert(C::kM <= 64 && C::kBlocks % C::kCluster == 0 && S::kUnits % C::kCluster == 0);
  static_assert(C::kStageUnits % C::kWarpsK == 0 && !S::kScaled && !T::kIsNibble && !T::kIsInt1);
  static_assert((C::kWarpsK & (C::kWarpsK - 1)) == 0 && C::kNorm == Norm::kNone && C::kQuantisedInput == (T::kActivationBytes == 1));

  // Shared memory, in this order.
  static constexpr int align(int bytes) { return (bytes + 127) / 128 * 128; }
  /// A token's activations in a stage, padded so that the lanes of a load fall into different banks.
  static constexpr int kRowBytes = C::kStageUnits * T::kUnitK * T::kActivationBytes;
  static constexpr int kRowStride = kRowBytes / 128 * 128 + (T::kRunBytes == 16 ? 64 : kRowBytes % 128 <= 32 ? 32 : 96);
  static_assert(kRowStride >= kRowBytes);
  static constexpr int kTokensAt = kPassTiles * C::kStageUnits * T::kUnitBytes;  // in the stage
  static constexpr int kStageBytes = align(kTokensAt + kTokens * kRowStride);
  /// One fragment: a tile's sums for 8 tokens, 16 bytes per lane.
  static constexpr int kFragmentBytes = 512;
  static constexpr int kTreeAt = C::kStages * kStageBytes;
  static constexpr int kTreeBytes = C::kWarpsK / 2 * C::kWarpsN * kTokenTiles * kFragmentBytes;
  static constexpr int kOwnedTiles = (kPassTiles + C::kCluster - 1) / C::kCluster;
  /// What the epilogue needs of each of the group's rows and of each token, fetched before the product ends.
  static constexpr bool kHasTerms = C::kBias || C::kWeight != WeightFormat::kFp16;
  static constexpr bool kHasTokenScales = C::kQuantisedInput;
  static constexpr int kMaxTiles = (S::kTiles * C::kCluster + C::kBlocks - 1) / C::kBlocks;
  static constexpr int kTermsAt = kTreeAt + kTreeBytes;
  static constexpr int kTokenScalesAt = kTermsAt + (kHasTerms ? kMaxTiles * 128 : 0);
  static constexpr int kExchangeAt = kTokenScalesAt + (kHasTokenScales ? align(kTokens * 4) : 0);
  static constexpr int kExchangeBytes = C::kCluster > 1 ? C::kCluster * kOwnedTiles * kTokenTiles * kFragmentBytes : 0;
  static constexpr int kBarriersAt = kExchangeAt + kExchangeBytes;
  static constexpr int kReadyAt = kBarriersAt + RingBarriers<C::kStages>::kBytes;  // sums of all blocks have arrived
  static constexpr int kFreeAt = kReadyAt + 8;                                     // all blocks have read theirs
  static constexpr int kSharedBytes = kFreeAt + 8;
  static constexpr int kBlockThreads = kThreads + 64;

  uint8_t* const shared;
  const uint32_t base;
  const RingBarriers<C::kStages> barriers;
  /// Position in the cluster, and which cluster.
  const int rank, group;
  /// This group's tiles.
  const int firstTile, tiles, passes;

  static constexpr int kPerGroup = S::kTiles / kGroups, kExtra = S::kTiles % kGroups;

  __device__ __forceinline__ explicit ThinBlock(uint8_t* memory)
      : shared(memory), base(sharedAddress(memory)), barriers{base + kBarriersAt}, rank(blockIdx.x % kSplit), group(blockIdx.x / kSplit),
        firstTile(group * kPerGroup + min(group, kExtra)), tiles(kPerGroup + (group < kExtra)),
        passes((tiles + kPassTiles - 1) / kPassTiles) {}

  __device__ __forceinline__ int passTiles(int pass) const { return min(kPassTiles, tiles - pass * kPassTiles); }
  __device__ __forceinline__ static int stageUnits(int stage) { return min(C::kStageUnits, kBlockUnits - stage * C::kStageUnits); }
};

}  // namespace ladder
