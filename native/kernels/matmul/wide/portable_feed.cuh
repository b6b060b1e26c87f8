// How a block of portable.cuh brings its operands into the ring: all threads copy, each 16 bytes at a time, and what a stage
// takes is shared out evenly between a stage's steps. Of one tile after the other, without a break.
#pragma once
#include "matmul/wide/portable_block.cuh"

namespace ladder {

template <class C>
struct PortableFeed {
  using L = PortableBlock<C>;
  using T = typename L::T;
  static constexpr int kThreads = L::kBlockThreads;

  const DenseArguments& p;
  const uint32_t ring;
  int tile = blockIdx.x, panel = 0, slot = 0;
  /// Where the next stage's operands begin; the last group of tokens that exists, of the tile's.
  const uint8_t *tokens, *weights, *scales;
  int lastGroup;

  __device__ __forceinline__ PortableFeed(const DenseArguments& arguments, uint32_t shared) : p(arguments), ring(shared) { enterTile(); }

  /// Part of kParts of the next stage.
  template <int kPart, int kParts>
  __device__ __forceinline__ void copy() {
    if (tile < L::kTiles) {
      const uint32_t stage = ring + slot * L::kStageBytes;
#pragma unroll
      for (int i = kCopies * kPart / kParts; i < kCopies * (kPart + 1) / kParts; ++i) {
        if (i < kTokenCopies) copyTokens(stage, i);
        else if (i < kTokenCopies + kWeightCopies) copyWeights(stage + L::kWeightsAt, i - kTokenCopies);
        else copyScales(stage + L::kScalesAt, i - kTokenCopies - kWeightCopies);
      }
    }
    if constexpr (kPart == kParts - 1) {
      copyAsyncCommit();
      advance();
    }
  }

 private:
  static constexpr int copies(int bytes) { return (bytes / 16 + kThreads - 1) / kThreads; }
  static constexpr int kTokenCopies = copies(L::kTokenBytes), kWeightCopies = copies(L::kWeightBytes);
  static constexpr int kCopies = kTokenCopies + kWeightCopies + copies(L::kStageScaleBytes);
  /// Rows of a tile that are stored together.
  static constexpr int kRun = C::kTileRows < 128 ? C::kTileRows : 128;
  static constexpr size_t kTokenPanelBytes = static_cast<size_t>(L::kTokenGroups) * 1024;
  static constexpr size_t kStoredTileBytes = static_cast<size_t>(L::kPanels) * L::kStoredBytes;
  static constexpr int kStoredScaleBytes = 8 * L::kScaleBytes;  // of a group of 128 rows
  static constexpr size_t kStoredTileScaleBytes =
      L::kScaled ? static_cast<size_t>(L::kPanels) * L::kPanelGroups / L::kGroupPanels * kStoredScaleBytes : 0;
  /// The last tile of y may reach past the stored rows.
  static constexpr bool kRowsEnd = L::kStoredTiles * 128 % C::kTileRows != 0;

  __device__ __forceinline__ void enterTile() {
    const typename L::Tile place(tile);
    const int group = place.token * (C::kTileTokens / 8), row = place.row * C::kTileRows;
    tokens = static_cast<const uint8_t*>(p.x) + static_cast<size_t>(group) * 1024;
    weights = p.weight + row / 128 * kStoredTileBytes + row % 128 * (L::kStoredBytes / 128);
    if constexpr (L::kScaled)
      scales = static_cast<const uint8_t*>(p.scale) + row / 128 * kStoredTileScaleBytes + row % 128 / 16 * L::kScaleBytes;
    lastGroup = L::kTokenGroups - 1 - group;
  }

  __device__ __forceinline__ void advance() {
    if (++slot == C::kStages) slot = 0;
    ++panel;
    tokens += kTokenPanelBytes;
    weights += L::kStoredBytes;
    if constexpr (L::kScaled)
      if (L::kGroupPanels == 1 || panel % L::kGroupPanels == 0) scales += (L::kPanelGroups ? L::kPanelGroups : 1) * kStoredScaleBytes;
    if (panel == L::kPanels) {
      panel = 0;
      tile += C::kBlocks;
      if (tile < L::kTiles) enterTile();
    }
  }

  /// Tokens past m are the last group's once more; what comes of them is dropped.
  __device__ __forceinline__ void copyTokens(uint32_t to, int copy) const {
    const int piece = copy * kThreads + threadIdx.x;
    if (L::kTokenBytes / 16 % kThreads != 0 && piece >= L::kTokenBytes / 16) return;
    const int group = C::kM % C::kTileTokens > 0 ? min(piece / 64, lastGroup) : piece / 64;
    copyAsync16(to + piece * 16, tokens + group * 1024 + piece % 64 * 16);
  }

  __device__ __forceinline__ void copyWeights(uint32_t to, int copy) const {
    constexpr int kRunPieces = kRun * L::kStoredBytes / 128 / 16;
    const int piece = copy * kThreads + threadIdx.x;
    if (L::kWeightBytes / 16 % kThreads != 0 && piece >= L::kWeightBytes / 16) return;
    copyAsync16(to + piece * 16, weights + storedTile(piece / kRunPieces) * kStoredTileBytes + piece % kRunPieces * 16);
  }

  /// To the order group, tile of 16 rows.
  __device__ __forceinline__ void copyScales(uint32_t to, int copy) const {
    constexpr int kRunPieces = kRun / 16 * L::kScaleBytes / 16, kRuns = C::kTileRows / kRun;
    const int piece = copy * kThreads + threadIdx.x;
    if (piece >= L::kStageScaleBytes / 16) return;
    const int run = piece / kRunPieces;
    copyAsync16(to + piece * 16,
                scales + storedTile(run % kRuns) * kStoredTileScaleBytes + run / kRuns * kStoredScaleBytes + piece % kRunPieces * 16);
  }

  /// Stored tile of a run of the tile's rows, counted from its first.
  __device__ __forceinline__ int storedTile(int run) const {
    if constexpr (!kRowsEnd) return run;
    else return min(run, L::kStoredTiles - 1 - typename L::Tile(tile).row * (C::kTileRows / 128));
  }
};

}  // namespace ladder
