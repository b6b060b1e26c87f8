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
  /// This thread's first piece of the stage that is to be filled, and of what it takes.
  uint32_t to;
  const uint8_t *tokens, *weights, *scales;
  int tile = blockIdx.x, panel = 0;
  /// The last group of tokens that exists, counted from the tile's first.
  int lastGroup;

  __device__ __forceinline__ PortableFeed(const DenseArguments& arguments, uint32_t stage) : p(arguments), to(stage + threadIdx.x * 16) {
    enterTile();
  }

  /// Part of kParts of the stage.
  template <int kPart, int kParts>
  __device__ __forceinline__ void copy() {
    if (tile < L::kTiles) {
#pragma unroll
      for (int i = kCopies * kPart / kParts; i < kCopies * (kPart + 1) / kParts; ++i) {
        if (i < kTokenCopies) copyTokens(i);
        else if (i < kTokenCopies + kWeightCopies) copyWeights(i - kTokenCopies);
        else copyScales();
      }
    }
    if constexpr (kPart == kParts - 1) copyAsyncCommit();
  }

  /// After all parts, but not at once: the copies hold on to the registers that it changes.
  __device__ __forceinline__ void advance(uint32_t stage) {
    to = stage + threadIdx.x * 16;
    ++panel;
    tokens += kTokenPanelBytes;
    weights += L::kStoredBytes;
    if constexpr (L::kScaled)
      if (L::kGroupPanels == 1 || panel % L::kGroupPanels == 0) scales += L::kPanelGroups * kStoredScaleBytes;
    if (panel == L::kPanels) {
      panel = 0;
      tile += C::kBlocks;
      if (tile < L::kTiles) enterTile();
    }
  }

 private:
  static constexpr int copies(int bytes) { return (bytes / 16 + kThreads - 1) / kThreads; }
  static constexpr int kTokenCopies = copies(L::kTokenBytes), kWeightCopies = copies(L::kWeightBytes);
  static constexpr int kCopies = kTokenCopies + kWeightCopies + copies(L::kStageScaleBytes);
  static_assert(kThreads % 64 == 0 && L::kTokenBytes / 16 % kThreads == 0 && copies(L::kStageScaleBytes) <= 1);
  /// Rows of a tile that are stored together, and how many such; pieces of 16 bytes of them.
  static constexpr int kRun = C::kTileRows < 128 ? C::kTileRows : 128, kRuns = C::kTileRows / kRun;
  static constexpr int kRunPieces = kRun * L::kStoredBytes / 128 / 16, kRunScalePieces = kRun / 16 * L::kScaleBytes / 16;
  static_assert(kRunPieces % kThreads == 0 || kThreads % kRunPieces == 0);
  static constexpr size_t kTokenPanelBytes = static_cast<size_t>(L::kTokenGroups) * 1024;
  static constexpr size_t kStoredTileBytes = static_cast<size_t>(L::kPanels) * L::kStoredBytes;
  static constexpr int kStoredScaleBytes = 8 * L::kScaleBytes;  // of a group of 128 rows
  static constexpr size_t kStoredTileScaleBytes = static_cast<size_t>(L::kPanels) * L::kPanelGroups / L::kGroupPanels * kStoredScaleBytes;
  static constexpr bool kTokensEnd = C::kM % C::kTileTokens != 0;

  __device__ __forceinline__ void enterTile() {
    const typename L::Tile place(tile);
    const int thread = threadIdx.x, group = place.token * (C::kTileTokens / 8), row = place.row * C::kTileRows;
    if constexpr (kTokensEnd) lastGroup = L::kTokenGroups - 1 - group;
    tokens = static_cast<const uint8_t*>(p.x) + (static_cast<size_t>(group) * 64 + thread) * 16;
    weights =
        p.weight + (row / 128 + thread / kRunPieces) * kStoredTileBytes + row % 128 * (L::kStoredBytes / 128) + thread % kRunPieces * 16;
    if constexpr (L::kScaled) {
      // In shared memory: groups, in these runs.
      scales = static_cast<const uint8_t*>(p.scale) + (row / 128 + thread / kRunScalePieces % kRuns) * kStoredTileScaleBytes +
               row % 128 / 16 * L::kScaleBytes + thread / kRunScalePieces / kRuns * kStoredScaleBytes + thread % kRunScalePieces * 16;
    }
  }

  /// Where a tile reaches past the tokens, shared memory stays as it is: each token's sums are its own, and those are dropped.
  __device__ __forceinline__ void copyTokens(int copy) const {
    constexpr int kGroups = kThreads / 64;
    if (kTokensEnd && copy * kGroups + static_cast<int>(threadIdx.x / 64) > lastGroup) return;
    copyAsync16(to + copy * (kThreads * 16), tokens + copy * (kThreads * 16));
  }

  __device__ __forceinline__ void copyWeights(int copy) const {
    const int piece = copy * kThreads + threadIdx.x;
    if (L::kWeightBytes / 16 % kThreads != 0 && piece >= L::kWeightBytes / 16) return;
    copyAsync16(to + L::kWeightsAt + copy * (kThreads * 16),
                weights + copy * kThreads / kRunPieces * kStoredTileBytes + copy * kThreads % kRunPieces * 16);
  }

  __device__ __forceinline__ void copyScales() const {
    if constexpr (L::kScaled)
      if (static_cast<int>(threadIdx.x) < L::kStageScaleBytes / 16) copyAsync16(to + L::kScalesAt, scales);
  }
};

}  // namespace ladder
