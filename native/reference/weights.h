// Stored weights to values: decoding tables per format, rows in logical order for comparison, tiles in stored order for speed.
// Follows lib/artifact/operators.ts (element (n,k) has bit offset (layout index) × bits; sub-byte elements fill bytes from the
// low bits up). Products are left to dense.cc.
#pragma once

#include <cstdint>
#include <vector>

#include "spec.h"

namespace ladder::reference {

/// Decodes `count` consecutive stored elements, from element `first` on, into FP32; scales are not applied.
void decodeWeights(WeightFormat format, const uint8_t* weight, int64_t first, int64_t count, float* values);

/// Scale of stored element `index` of a scale tensor: float16, or E8M0 for MX.
float decodeScale(WeightFormat format, const void* scale, int64_t index);

/// Weight row n in logical order, group or block scales applied, in FP64: k values. Channel scales are left to the epilogue.
void decodeRow(const DenseSpec& spec, const DenseInputs& inputs, int64_t n, double* values);

/// Decodes a weight matrix tile by tile. A tile is `rows` × `columns` in rank order (layout.h): a set of coordinates that
/// storage keeps close together, whose relative offsets are the same for every tile. Group scales are applied.
class TileReader {
 public:
  TileReader(const DenseSpec& spec, const DenseInputs& inputs, int64_t maxRows, int64_t maxColumns);

  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  /// Columns rounded up to a multiple of 8: the distance between rows of a decoded tile. What lies between stays as it was.
  int64_t pitch() const { return pitch_; }
  int64_t rowTiles() const { return spec_.layout.n.extent() / rows_; }
  int64_t columnTiles() const { return spec_.layout.k.extent() / columns_; }

  /// Decodes tile (rowTile, columnTile) into tile[rows][pitch]. `scratch` holds rows × columns values.
  void read(int64_t rowTile, int64_t columnTile, float* tile, float* scratch) const;

 private:
  /// A stretch of stored elements that belongs to the tile: where it begins, relative to the tile's first element, and where
  /// its first value goes.
  struct Span {
    int64_t stored;
    int64_t target;
  };
  /// Columns first…end-1 of a column tile that share a scale group.
  struct ScaleRun {
    int64_t first, end, group;
  };
  void applyScales(int64_t rowTile, int64_t columnTile, float* tile) const;

  const DenseSpec& spec_;
  const DenseInputs& inputs_;
  int64_t rows_;
  int64_t columns_;
  int64_t pitch_;
  int64_t spanLength_;
  /// Value i of a span goes to target + scatter_[i]; empty when that is i.
  std::vector<int64_t> scatter_;
  std::vector<Span> spans_;
  /// By column tile.
  std::vector<std::vector<ScaleRun>> scaleRuns_;
};

}  // namespace ladder::reference
