// A stored weight as tiles in stored order, so that memory is read as a stream and each number decoded once for all tokens.
// Knows cells, scales and layouts for the sake of speed; products are left to dense.cc.
#pragma once

#include <cstdint>
#include <vector>

#include "../stored.h"

namespace ladder::reference {

/// A tile is `rows` × `columns` in rank order (layout.h): a set of coordinates that storage keeps close together, whose
/// relative offsets are the same for every tile. Scales that change along k are applied; what is padding along k is 0.
class TileReader {
 public:
  /// The weight's axes: output channels, then the contracted axis.
  TileReader(const StoredTensor& weight, int64_t maxRows, int64_t maxColumns);

  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  /// Columns rounded up to a multiple of 8: the distance between rows of a decoded tile. What lies between stays as it was.
  int64_t pitch() const { return pitch_; }
  int64_t rowTiles() const { return n().extent() / rows_; }
  int64_t columnTiles() const { return k().extent() / columns_; }
  /// Output channel of a row, or -1 for padding; the same for columns.
  int64_t channel(int64_t rank) const { return logical(n(), rank, 0); }
  int64_t column(int64_t rank) const { return logical(k(), rank, 1); }
  /// What the sum of a channel is to be multiplied with: its scale, where one is shared all along k.
  float channelScale(int64_t channel) const;

  /// Decodes tile (rowTile, columnTile) into tile[rows][pitch]. `scratch` holds rows × columns values.
  void read(int64_t rowTile, int64_t columnTile, float* tile, float* scratch) const;

 private:
  /// A stretch of stored cells that belongs to the tile: where it begins, relative to the tile's first cell, and where its
  /// first value goes.
  struct Span {
    int64_t stored;
    int64_t target;
  };
  /// Columns first…end-1 of a column tile that share a scale along k, whose stored place is `place`; or that are padding.
  struct ColumnRun { int64_t first, end, place; };
  const LayoutAxis& n() const { return weight_.tables->layout.axes[0]; }
  const LayoutAxis& k() const { return weight_.tables->layout.axes[1]; }
  int64_t logical(const LayoutAxis& axis, int64_t rank, size_t index) const;
  int64_t scalePlace(size_t axis, int64_t coordinate) const;
  float scaleAt(int64_t place) const;
  void planSpans();
  void planRuns();
  void decode(int64_t first, int64_t count, float* values) const;
  void applyScales(int64_t rowTile, int64_t columnTile, float* tile) const;

  StoredTensor weight_;
  int64_t rows_;
  int64_t columns_;
  int64_t pitch_;
  int64_t spanLength_ = 0;
  /// Puts the pieces of a span, some consecutive values each, at target + pieces_[i]; null where a span is one piece.
  void (*scatter_)(const float* source, const std::vector<int32_t>& pieces, float* target) = nullptr;
  std::vector<int32_t> pieces_;
  std::vector<Span> spans_;
  /// By column tile.
  std::vector<std::vector<ColumnRun>> scaleRuns_, padding_;
};

}  // namespace ladder::reference
