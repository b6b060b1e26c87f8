// A block of warpgroup.cuh: what its constants follow from a configuration, where everything lies in shared memory, and which
// rows are its own. lib/compiler/kernels/matmul/warpgroup.ts mirrors the sizes; the generated text asserts that both agree.
#pragma once
#include "core/ring.cuh"
#include "core/wgmma.cuh"
#include "matmul/operator.cuh"

namespace ladder {

template <class C>
struct WarpgroupBlock {
  using T = FormatTraits<C::kWeight>;
  using S = DenseShape<C>;

  // Names that thin_store.cuh asks for: warps along n and k, 16-row tiles of each, and who has which.
  static constexpr int kWarpsN = C::kGroupsN * 4, kWarpsK = C::kGroupsK, kWarps = kWarpsN * kWarpsK, kThreads = kWarps * 32;
  static constexpr int kPassTiles = C::kPassPairs * 2;
  static constexpr int atMost(int limit, int value) { return value < limit ? value : limit; }
  static constexpr int kWarpTiles = (kPassTiles + kWarpsN - 1) / kWarpsN;
  /// Tiles of each of its warps that the last warpgroup along n is spared, there being no rows left; but for one, with which it
  /// takes part in barriers.
  static constexpr int kIdleTiles = atMost(kWarpTiles - 1, (C::kGroupsN * kWarpTiles) - (kPassTiles + 3) / 4);
  __device__ __forceinline__ static constexpr int tileOf(int warpN, int i) { return (warpN / 4 * kWarpTiles + i) * 4 + warpN % 4; }

  /// wgmma takes 8, 16, 32 or 64 tokens here; those past m are multiplied and dropped.
  static constexpr int kTokenTiles = C::kM <= 8 ? 1 : C::kM <= 16 ? 2 : C::kM <= 32 ? 4 : 8;
  static constexpr int kTokens = kTokenTiles * 8;
  /// A step of a warp: units of a tile, and blocks of tokens (wgmma.cuh) that these are multiplied by, four products each.
  static constexpr int kStepUnits = T::kIsMx ? 2 : 1, kStepBlocks = T::kIsMx ? 1 : T::kSteps / 2;
  /// Bytes of a token's activation in shared memory: MX is BF16 there.
  static constexpr int kTokenBytes = T::kIsMx ? 2 : T::kActivationBytes;
  static_assert(kStepUnits * T::kUnitK * kTokenBytes == kStepBlocks * kWgmmaRowBytes && (T::kIsNibble || T::kIsInt1 || T::kIsMx));
  /// Scales of groups multiply sums; those of MX, weights.
  static constexpr bool kScaledSums = S::kScaled && !T::kIsMx;
  static_assert(!kScaledSums || kStepBlocks == 1);
  /// What sums lack, but for scales of rows and tokens.
  static constexpr float kSumScale = T::kIsMx ? 1 << MxBf16<C::kWeight>::kLift : T::kProductScale;
  /// A warpgroup of producers: one warp of weights, the others of tokens. It lends the consumers registers.
  static constexpr int kTokenWarps = 3;
  static constexpr int kGroupsInBlock = C::kGroupsN * C::kGroupsK + 1;
  static constexpr int kBlockThreads = kGroupsInBlock * 128;
  static constexpr int multipleOf8(int registers, int limit) { return registers < limit ? registers / 8 * 8 : limit; }
  static constexpr int kEntryRegisters = multipleOf8(65536 / kBlockThreads, 248);
  static constexpr int kProducerRegisters = atMost(kEntryRegisters, T::kIsMx ? 104 : 56);
  static constexpr int kConsumerRegisters =
      multipleOf8((kEntryRegisters * kGroupsInBlock - kProducerRegisters) / (kGroupsInBlock - 1), 240);

  /// Blocks that share k, groups of them, and units of k per block.
  static constexpr int kSplit = kHopper ? C::kCluster : 1;
  static constexpr int kGroups = C::kBlocks / kSplit;
  static constexpr int kBlockUnits = S::kUnits / kSplit;
  static constexpr int kStagesPerPass = kBlockUnits / C::kStageUnits;
  static_assert(C::kM <= 64 && C::kBlocks % C::kCluster == 0 && S::kUnits % (C::kCluster * C::kStageUnits) == 0);
  static_assert(C::kStageUnits % (C::kGroupsK * kStepUnits) == 0 && C::kStageUnits % S::kUnitsPerScale == 0 &&
                (C::kGroupsK & (C::kGroupsK - 1)) == 0);
  static_assert(C::kNorm == Norm::kNone && C::kQuantisedInput == (T::kActivationBytes == 1));

  // Shared memory, in this order.
  static constexpr int align(int bytes, int to = 128) { return (bytes + to - 1) / to * to; }
  static constexpr int kPairBytes = 2 * T::kUnitBytes;  // of one unit
  static constexpr int kTokenBlockBytes = kTokens * kWgmmaRowBytes;
  static constexpr int kTokensAt = 0;  // in the stage
  static constexpr int kStageBlocks = C::kStageUnits / kStepUnits * kStepBlocks;
  static constexpr int kWeightsAt = kTokensAt + kStageBlocks * kTokenBlockBytes;
  static constexpr int kScalesAt = kWeightsAt + C::kPassPairs * C::kStageUnits * kPairBytes;
  static constexpr int kStageScaleBytes = C::kStageUnits * S::kScaleBytesPerUnit;  // of a tile
  static constexpr int kStageBytes = align(kScalesAt + kPassTiles * kStageScaleBytes, 1024);
  static constexpr int kTableAt = C::kStages * kStageBytes;
  static constexpr int kTreeAt = kTableAt + (C::kWeight == WeightFormat::kNf4 ? kNf4TableBytes : 0);
  /// One fragment: a tile's sums for 8 tokens, 16 bytes per lane.
  static constexpr int kFragmentBytes = 512;
  static constexpr int kTreeBytes = C::kGroupsK / 2 * kWarpsN * kTokenTiles * kFragmentBytes;
  static constexpr bool kHasTerms = C::kBias || !S::kScaled;
  static constexpr bool kHasTokenScales = C::kQuantisedInput && !T::kIsMx;
  static constexpr int kPairs = (S::kTiles + 1) / 2;
  static constexpr int kMaxTiles = 2 * ((kPairs * C::kCluster + C::kBlocks - 1) / C::kBlocks);
  static constexpr int kTermsAt = kTreeAt + kTreeBytes;
  static constexpr int kTokenScalesAt = kTermsAt + (kHasTerms ? kMaxTiles * 128 : 0);
  static constexpr int kBarriersAt = kTokenScalesAt + (kHasTokenScales ? align(kTokens * 4) : 0);
  static constexpr int kReadyAt = kBarriersAt + RingBarriers<C::kStages>::kBytes;  // sums of all blocks have arrived
  static constexpr int kFreeAt = kReadyAt + 8;                                     // all blocks have read their rings
  static constexpr int kSharedBytes = kFreeAt + 8;
  /// Sums of other blocks come to where the ring was: clusters take one pass.
  static constexpr bool kExchangeInRing = true;
  static constexpr int kExchangeAt = 0;
  static constexpr int kOwnedTiles = (kPassTiles + C::kCluster - 1) / C::kCluster;
  static_assert(C::kCluster == 1 || (C::kCluster * kOwnedTiles * kTokenTiles * kFragmentBytes <= kTableAt && kMaxTiles <= kPassTiles));

  uint8_t* const shared;
  const uint32_t base;
  const RingBarriers<C::kStages> barriers;
  /// Position in the cluster, and which cluster.
  const int rank, group;
  /// This group's rows: pairs of 16-row tiles; the last pair of all may be half.
  const int firstPair, pairs, firstTile, tiles, passes;

  static constexpr int kPerGroup = kPairs / kGroups, kExtra = kPairs % kGroups;

  __device__ __forceinline__ explicit WarpgroupBlock(uint8_t* memory)
      : shared(memory), base(sharedAddress(memory)), barriers{base + kBarriersAt}, rank(blockIdx.x % kSplit), group(blockIdx.x / kSplit),
        firstPair(group * kPerGroup + min(group, kExtra)), pairs(kPerGroup + (group < kExtra)), firstTile(firstPair * 2),
        tiles(min(pairs * 2, S::kTiles - firstTile)), passes((pairs + C::kPassPairs - 1) / C::kPassPairs) {}

  __device__ __forceinline__ int passPairs(int pass) const { return min(C::kPassPairs, pairs - pass * C::kPassPairs); }
  __device__ __forceinline__ int passTiles(int pass) const { return min(kPassTiles, tiles - pass * kPassTiles); }
};

}  // namespace ladder
