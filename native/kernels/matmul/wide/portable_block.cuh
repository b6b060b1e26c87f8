// A block of portable.cuh: what its constants follow from a configuration, where everything lies in shared memory and in the
// stored operands, and which part of y is a tile. PTX that only portable*.cuh use stands here, too.
#pragma once
#include "matmul/operator.cuh"

namespace ladder {

// ---- PTX ----------------------------------------------------------------------------------------------------------------

__device__ __forceinline__ void copyAsyncCommit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

/// Until at most kPending of this thread's groups of copies are under way.
template <int kPending>
__device__ __forceinline__ void copyAsyncWait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

/// loadMatrices, each matrix transposed.
__device__ __forceinline__ void loadMatricesTransposed(uint32_t row, uint32_t (&r)[2]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(row) : "memory");
}

/// 8 × 8 of 16 bits in a fragment's order: lane 4·g + t has row g, columns 2t and 2t + 1; thereafter column g, rows 2t and 2t + 1.
__device__ __forceinline__ uint32_t transposeMatrix(uint32_t v) {
  uint32_t d;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(d) : "r"(v));
  return d;
}

__device__ __forceinline__ void storeShared4(uint32_t address, uint32_t v) {
  asm volatile("st.shared.u32 [%0], %1;" ::"r"(address), "r"(v) : "memory");
}

// ---- Block --------------------------------------------------------------------------------------------------------------

template <class C>
struct PortableBlock {
  using T = FormatTraits<C::kWeight>;

  // The operands. A panel is 128 bytes of k: of tokens, core matrices of 8 tokens × 16 bytes; a stage holds one.
  /// FP8 in both operands; weights that lie in units; activations of one byte (those of MX come as BF16).
  static constexpr bool kFp8 = T::kIsFp8 && !T::kIsMx;
  static constexpr bool kPacked = C::kWeight != WeightFormat::kFp16 && !kFp8;
  static constexpr bool kBytes = kFp8 || T::kIsInt1;
  static constexpr int kActivationBytes = kBytes ? 1 : 2;
  static_assert(T::kIsMx || C::kQuantisedInput == kBytes);
  static constexpr int kPanelK = 128 / kActivationBytes, kPanels = C::kK / kPanelK;
  static_assert(C::kK % kPanelK == 0);
  static constexpr int kTokenGroups = (C::kM + 7) / 8;
  static constexpr bool kSilu = C::kFunction == Function::kSiluMul;
  static_assert(!kSilu || C::kN % 16 == 0);
  static constexpr int kOutputs = kSilu ? C::kN / 2 : C::kN;
  static_assert(!C::kPanelOutput || kOutputs % 64 == 0);
  /// Rows of weights are stored 128 at a time, with zeros past n: bytes of these in a panel.
  static constexpr int kStoredTiles = (C::kN + 127) / 128;
  static constexpr int kStoredBytes = 128 * kPanelK * T::Record::kBits / 8;
  /// Scales along k: groups in a panel, and panels that share one.
  static constexpr bool kScaled = C::kGroup > 0;
  static_assert(!kScaled || (T::kIsMx && C::kGroup == 32) || (T::kIsNibble && (C::kGroup == 32 || C::kGroup % 64 == 0)));
  static_assert(kScaled || !T::kIsMx);
  static constexpr int kPanelGroups = !kScaled ? 0 : T::kIsMx || C::kGroup > kPanelK ? 1 : kPanelK / C::kGroup;
  static constexpr int kGroupPanels = T::kIsMx || C::kGroup < kPanelK ? 1 : C::kGroup / kPanelK;
  /// Of 16 rows, in a group (MX: in both of a panel's).
  static constexpr int kScaleBytes = 32;
  /// What sums lack, but for scales of rows and tokens.
  static constexpr float kSumScale = T::kIsMx ? 1 << MxBf16<C::kWeight>::kLift : T::kProductScale;

  // Tiles of y, and of a block's warps.
  static_assert(C::kTileRows == 64 || (C::kTileRows % 128 == 0 && kStoredTiles * 128 % C::kTileRows == 0));
  static constexpr int kRowTiles = (C::kN + C::kTileRows - 1) / C::kTileRows;
  static constexpr int kTokenTiles = (C::kM + C::kTileTokens - 1) / C::kTileTokens;
  static constexpr int kTiles = kRowTiles * kTokenTiles;
  static constexpr int kWarpsN = C::kTileRows / C::kWarpRows, kWarpsM = C::kTileTokens / C::kWarpTokens;
  static_assert(C::kTileRows % C::kWarpRows == 0 && C::kTileTokens % C::kWarpTokens == 0);
  static constexpr int kBlockThreads = kWarpsN * kWarpsM * 32;
  /// A warp's products: 16 rows × 8 tokens each.
  static constexpr int kRowBlocks = C::kWarpRows / 16, kTokenBlocks = C::kWarpTokens / 8;
  static_assert(C::kWarpRows % 16 == 0 && C::kWarpTokens % 16 == 0);

  // Shared memory, in this order: the ring of stages, NF4's table, places where warps turn their results.
  static constexpr int kTokenBytes = C::kTileTokens * 128;
  static constexpr int kWeightBytes = C::kTileRows * kStoredBytes / 128;
  static constexpr int kStageScaleBytes = C::kTileRows / 16 * kScaleBytes * kPanelGroups;
  static constexpr int kWeightsAt = kTokenBytes, kScalesAt = kWeightsAt + kWeightBytes;
  static constexpr int kStageBytes = kScalesAt + kStageScaleBytes;
  static_assert(kStageBytes % 128 == 0 && C::kStages >= 2);
  static constexpr int kTableAt = C::kStages * kStageBytes;
  static constexpr int kTurnAt = kTableAt + (C::kWeight == WeightFormat::kNf4 ? kNf4TableBytes : 0);
  /// A warp's outputs of 8 tokens: pieces of 8 channels, each a core matrix. Two such, used in turn.
  static constexpr int kPieces = C::kWarpRows / (kSilu ? 16 : 8);
  static constexpr int kTurnBytes = kPieces * 128;
  static constexpr int kSharedBytes = kTurnAt + kBlockThreads / 32 * 2 * kTurnBytes;

  /// A tile's place in y. All token tiles of a group of kGroupTiles lie beside the same rows before the next rows' turn comes, so
  /// that blocks at work together share what they read.
  struct Tile {
    int row, token;

    __device__ __forceinline__ explicit Tile(int tile) {
      constexpr int kGroup = C::kGroupTiles * kRowTiles;
      const int first = tile / kGroup * C::kGroupTiles, within = tile % kGroup;
      const int size = kTokenTiles % C::kGroupTiles == 0 ? C::kGroupTiles : min(C::kGroupTiles, kTokenTiles - first);
      row = within / size;
      token = first + within % size;
    }
  };
};

}  // namespace ladder
