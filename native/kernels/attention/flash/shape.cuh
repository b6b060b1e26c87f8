// Attention of any length in tiles (Dao et al. 2022; Shah et al. 2024): what its kernels share about shapes and storage.
// Operator: lib/operators/attention.ts. y = softmax(q·kᵀ/√d + bias)·v per head, keys of the query's sequence, all or (causal) up to it.
//
//   qkv  float16 [m, (heads + 2·kvHeads)·d] in panels, m = batch·seq
//   y    float16 [m, heads·d] in panels or rows
//
// A panel is a stretch of 64 channels of all rows, 128 bytes of each, stored together, in core matrices of 8 rows × 16 bytes:
//
//   byte = panel·⌈m/8⌉·1024 + (row/8)·1024 + piece·128 + (row%8)·16,   piece = channel % 64 / 8
//
// So a tile of rows of one panel is one contiguous run, and a core matrix lies as wgmma, ldmatrix and stmatrix take it. Rows of a
// panel past m, up to a multiple of 8, are finite. Tiles of a sequence begin at the last multiple of 8 that is not past its first row.
//
// Keys that rotate, keys and values whose heads begin within a panel, and values that many queries share are copied first (prepare.cuh)
// to the operator's workspace, in panels as wide as a head: a tile is one run, and one product takes a head's whole width.
//
//   workspace   [rotary table: float2 (cos, sin) [seq][d/2]] [keys: kvHeads panels of d channels] [values: likewise]
//
// Values of one sequence that are not finite may reach its neighbours in the batch: keys that a query must not see have weight 0.
#pragma once
#include <cuda_fp16.h>
#include <stdint.h>

#include "attention/operator.cuh"

namespace ladder {

/// How keys or values are stored: a head in parts, stretches of channels for all rows; 8 rows of a part are kGroupBytes.
template <int kPieces, int kPaddedRows>
struct HeadParts {
  static constexpr int kPartPieces = kPieces, kGroupBytes = kPieces * 128;
  static constexpr int64_t kStrideBytes = static_cast<int64_t>(kPaddedRows) * kPieces * 16;  // from part to part
};

/// C: kBatch, kSeq, kHeads, kKvHeads, kHeadDim, kOrder, kPosition, kLog2Base, kCausal, kPanelResult.
template <class C>
struct FlashShape {
  static constexpr int kRows = C::kBatch * C::kSeq;
  static constexpr int kDim = C::kHeadDim;
  static constexpr int kShared = C::kHeads / C::kKvHeads;  // query heads per key head
  static constexpr bool kRope = C::kPosition == Position::kRope;
  static_assert(kDim % 32 == 0 && kDim >= 64 && kDim <= 128, "head of 64, 96 or 128");
  static_assert(C::kHeads % C::kKvHeads == 0);
  static_assert(C::kOrder == Order::kConcatenated || C::kHeads == C::kKvHeads);

  static constexpr int kPieces = kDim / 8;                  // of a head
  static constexpr int kPaddedRows = (kRows + 7) / 8 * 8;
  static constexpr int64_t kPanelBytes = static_cast<int64_t>(kPaddedRows) * 128;

  /// Heads begin panels in qkv.
  static constexpr bool kAligned = kDim % 64 == 0;
  /// Copying values of few heads costs less than is gained where their tiles are multiplied often.
  static constexpr bool kMovesKeys = kRope || !kAligned, kMovesValues = !kAligned || kShared >= 4;
  using Keys = HeadParts<kMovesKeys ? kPieces : 8, kPaddedRows>;
  using Values = HeadParts<kMovesValues ? kPieces : 8, kPaddedRows>;
  /// Sequences that begin within a group of 8 rows.
  static constexpr bool kOddStarts = C::kBatch > 1 && C::kSeq % 8 != 0;
  /// Rows from a sequence's first group of 8 to its end, at most.
  static constexpr int kSpan = C::kSeq + (kOddStarts ? 7 : 0);

  static constexpr int64_t kTableBytes = kRope ? static_cast<int64_t>(C::kSeq) * kDim * 4 : 0;
  static constexpr int64_t kMovedBytes = static_cast<int64_t>(C::kKvHeads) * kPaddedRows * kDim * 2;
  static constexpr int64_t kKeysAt = kTableBytes, kValuesAt = kKeysAt + (kMovesKeys ? kMovedBytes : 0);
  static constexpr int64_t kWorkspaceBytes = kValuesAt + (kMovesValues ? kMovedBytes : 0);

  /// First piece (of 8 channels) of a row of qkv. `head`: of the queries, or of the keys.
  __device__ __forceinline__ static int firstPiece(Part part, int head) {
    if (C::kOrder == Order::kInterleaved) return (3 * head + static_cast<int>(part)) * kPieces;
    return ((part == Part::kQuery ? 0 : C::kHeads + (part == Part::kValue ? C::kKvHeads : 0)) + head) * kPieces;
  }
  /// Where a piece of a row lies among panels.
  __device__ __forceinline__ static int64_t offset(int row, int piece) {
    return piece / 8 * kPanelBytes + (row / 8 * 1024 + piece % 8 * 128 + row % 8 * 16);
  }

  /// The first part of a key head, where the kernels read it.
  __device__ __forceinline__ static const uint8_t* keys(const void* qkv, const void* workspace, int kvHead) {
    if constexpr (kMovesKeys) return static_cast<const uint8_t*>(workspace) + kKeysAt + kvHead * Keys::kStrideBytes;
    return static_cast<const uint8_t*>(qkv) + firstPiece(Part::kKey, kvHead) / 8 * kPanelBytes;
  }
  __device__ __forceinline__ static const uint8_t* values(const void* qkv, const void* workspace, int kvHead) {
    if constexpr (kMovesValues) return static_cast<const uint8_t*>(workspace) + kValuesAt + kvHead * Values::kStrideBytes;
    return static_cast<const uint8_t*>(qkv) + firstPiece(Part::kValue, kvHead) / 8 * kPanelBytes;
  }
};

/// One tile of queries, and the keys that it needs: rows of all sequences' numbering.
struct FlashTile {
  int head, firstQuery;    // its first row, a multiple of 8
  int firstRow, endRow;    // of the sequence
  int firstKey, keyBlocks; // the first key block's first row, a multiple of 8; blocks up to the last key needed
};

/// Tiles of kQueries queries against blocks of kKeys keys.
template <class C, int kQueries, int kKeys>
struct FlashTiles {
  using S = FlashShape<C>;
  static constexpr int kPerHead = (S::kSpan + kQueries - 1) / kQueries;
  static constexpr int kCount = kPerHead * C::kHeads * C::kBatch;

  /// Tiles of a head, then heads: those that run together share keys. Causal: the longest of a head first.
  __device__ __forceinline__ static FlashTile at(int index) {
    const int head = index / kPerHead;
    return at(head, C::kCausal ? kPerHead - 1 - index % kPerHead : index % kPerHead);
  }

  /// `head`: counted over all sequences.
  __device__ __forceinline__ static FlashTile at(int head, int number) {
    FlashTile tile;
    tile.head = head % C::kHeads;
    tile.firstRow = head / C::kHeads * C::kSeq;
    tile.endRow = tile.firstRow + C::kSeq;
    tile.firstKey = tile.firstRow / 8 * 8;
    tile.firstQuery = tile.firstKey + number * kQueries;
    const int endKey = C::kCausal ? min(tile.endRow, tile.firstQuery + kQueries) : tile.endRow;
    tile.keyBlocks = (endKey - tile.firstKey + kKeys - 1) / kKeys;
    return tile;
  }

  /// A sequence's last tile may have no queries.
  __device__ __forceinline__ static bool isEmpty(const FlashTile& tile) { return S::kOddStarts && tile.firstQuery >= tile.endRow; }
};

/// The tiles of a block that loops: every gridDim.x-th; causal: of every gridDim.x-th pair of a long and a short one of a head, so that
/// all blocks have as much to do.
template <class Tiles, bool kCausal>
struct FlashWalk {
  int step = 0;
  FlashTile tile;

  /// To the next tile, at first to the first one. False: there is none.
  __device__ __forceinline__ bool next() {
    constexpr int kPairs = (Tiles::kPerHead + 1) / 2;
    do {
      if constexpr (kCausal) {
        const int pair = blockIdx.x + step / 2 * gridDim.x;
        if (pair >= Tiles::kCount / Tiles::kPerHead * kPairs) return false;
        const int number = pair % kPairs, other = Tiles::kPerHead - 1 - number;
        tile = Tiles::at(pair / kPairs, step % 2 == 0 ? other : number);
        step += number == other ? 2 : 1;
      } else {
        const int index = blockIdx.x + step * gridDim.x;
        if (index >= Tiles::kCount) return false;
        tile = Tiles::at(index);
        ++step;
      }
    } while (Tiles::isEmpty(tile));
    return true;
  }
};

}  // namespace ladder
