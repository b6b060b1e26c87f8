// Plans a tile's stretches once, then decodes tile after tile.
#include "tile_reader.h"

#include <algorithm>
#include <cstring>

#include "../half_arrays.h"

namespace ladder::reference {
namespace {

/// The largest divisor of `size` that is at most `limit`.
int64_t largestDivisor(int64_t size, int64_t limit) {
  for (int64_t divisor = std::min(size, limit); divisor > 1; --divisor) {
    if (size % divisor == 0) return divisor;
  }
  return 1;
}

/// Extent of a tile along an axis: whole inner digits, and a divisor of the first digit that does not fit.
int64_t tileExtent(const LayoutAxis& axis, int64_t limit) {
  int64_t extent = 1;
  for (const int64_t size : axis.tileSizes) {
    if (size > limit) return extent * largestDivisor(size / extent, limit / extent);
    extent = size;
  }
  return extent;
}

/// Piece i of the source goes to target + places[i].
template <int Piece>
void scatter(const float* source, const std::vector<int32_t>& places, float* target) {
  for (const int32_t place : places) {
    std::memcpy(target + place, source, Piece * sizeof(float));
    source += Piece;
  }
}

}  // namespace

TileReader::TileReader(const StoredTensor& weight, int64_t maxRows, int64_t maxColumns)
    : weight_(weight), rows_(tileExtent(n(), maxRows)), columns_(tileExtent(k(), maxColumns)), pitch_((columns_ + 7) / 8 * 8) {
  planSpans();
  planRuns();
}

void TileReader::planSpans() {
  std::vector<Span> elements;
  for (int64_t row = 0; row < rows_; ++row) {
    const int64_t rowOffset = n().stored[static_cast<size_t>(n().logicalOfRank[static_cast<size_t>(row)])];
    for (int64_t column = 0; column < columns_; ++column) {
      elements.push_back(
          {rowOffset + k().stored[static_cast<size_t>(k().logicalOfRank[static_cast<size_t>(column)])], row * pitch_ + column});
    }
  }
  std::sort(elements.begin(), elements.end(), [](const Span& a, const Span& b) { return a.stored < b.stored; });

  // Stretches that are contiguous both in storage and in the tile can be decoded in place. Where they are shorter than a
  // vector, longer stretches of storage are decoded aside and scattered. All stretches have one length: the digits' product.
  const auto stretch = [&](bool inTile) {
    size_t length = 1;
    while (length < elements.size() && elements[length].stored == elements[length - 1].stored + 1 &&
           (!inTile || elements[length].target == elements[length - 1].target + 1)) {
      ++length;
    }
    return length;
  };
  size_t length = stretch(true);
  if (length < 8 && length != static_cast<size_t>(columns_)) {
    const size_t piece = length % 4 == 0 ? 4 : length % 2 == 0 ? 2 : 1;
    scatter_ = piece == 4 ? scatter<4> : piece == 2 ? scatter<2> : scatter<1>;
    length = stretch(false);
    for (size_t i = 0; i < length; i += piece) pieces_.push_back(static_cast<int32_t>(elements[i].target - elements[0].target));
  }
  spanLength_ = static_cast<int64_t>(length);
  for (size_t i = 0; i < elements.size(); i += length) spans_.push_back(elements[i]);
}

void TileReader::planRuns() {
  const bool scaled = weight_.scales && weight_.tables->sharing[1] < weight_.tables->value->axes[1].extent;
  for (int64_t tile = 0; tile < columnTiles(); ++tile) {
    std::vector<ColumnRun> runs, padding;
    for (int64_t i = 0; i < columns_; ++i) {
      const int64_t at = column(tile * columns_ + i);
      std::vector<ColumnRun>& list = at < 0 ? padding : runs;
      const int64_t place = at < 0 || !scaled ? 0 : scalePlace(1, at);
      if (list.empty() || list.back().end != i || list.back().place != place) list.push_back({i, i, place});
      list.back().end = i + 1;
    }
    padding_.push_back(std::move(padding));
    if (scaled) scaleRuns_.push_back(std::move(runs));
  }
}

int64_t TileReader::logical(const LayoutAxis& axis, int64_t rank, size_t index) const {
  const int64_t coordinate = axis.logicalOfRank[static_cast<size_t>(rank)];
  return coordinate < weight_.tables->value->axes[index].extent ? coordinate : -1;
}

int64_t TileReader::scalePlace(size_t axis, int64_t coordinate) const {
  return weight_.tables->scaleLayout.axes[axis].stored[static_cast<size_t>(coordinate / weight_.tables->sharing[axis])];
}

float TileReader::scaleAt(int64_t place) const {
  const ScaleType type = weight_.tables->value->scale->type;
  return decodeScale(type, readScale(type, weight_.scales, place));
}

float TileReader::channelScale(int64_t channel) const {
  if (!weight_.scales || !scaleRuns_.empty()) return 1;
  return scaleAt(scalePlace(0, channel) + scalePlace(1, 0));
}

void TileReader::decode(int64_t first, int64_t count, float* values) const {
  if (const Codec* codec = weight_.tables->codec.get()) return codec->decode(weight_.data, first, count, values);
  if (weight_.tables->value->type == ValueType::kF16) return halvesToFloats(weight_.data + 2 * first, count, values);
  std::memcpy(values, weight_.data + 4 * first, static_cast<size_t>(count) * sizeof(float));
}

void TileReader::read(int64_t rowTile, int64_t columnTile, float* tile, float* scratch) const {
  const int64_t base = n().stored[static_cast<size_t>(n().logicalOfRank[static_cast<size_t>(rowTile * rows_)])] +
                       k().stored[static_cast<size_t>(k().logicalOfRank[static_cast<size_t>(columnTile * columns_)])];
  for (const Span& span : spans_) {
    if (!scatter_) {
      decode(base + span.stored, spanLength_, tile + span.target);
    } else {
      decode(base + span.stored, spanLength_, scratch);
      scatter_(scratch, pieces_, tile + span.target);
    }
  }
  if (!scaleRuns_.empty()) applyScales(rowTile, columnTile, tile);
  for (const ColumnRun& run : padding_[static_cast<size_t>(columnTile)]) {
    for (int64_t row = 0; row < rows_; ++row) std::fill(tile + row * pitch_ + run.first, tile + row * pitch_ + run.end, 0.0f);
  }
}

void TileReader::applyScales(int64_t rowTile, int64_t columnTile, float* tile) const {
  for (int64_t row = 0; row < rows_; ++row) {
    const int64_t at = channel(rowTile * rows_ + row);
    if (at < 0) continue;
    const int64_t base = scalePlace(0, at);
    float* values = tile + row * pitch_;
    for (const ColumnRun& run : scaleRuns_[static_cast<size_t>(columnTile)]) {
      const float scale = scaleAt(base + run.place);
      for (int64_t column = run.first; column < run.end; ++column) values[column] *= scale;
    }
  }
}

}  // namespace ladder::reference
