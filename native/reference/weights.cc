// Decodes stored weights. Formats of 8 bits and less go through a table with one row of values per byte. Tiles are walked in stored order, so that memory is read as a stream.
#include "weights.h"

#include <algorithm>
#include <cstring>

#include "formats.h"
#include "half_arrays.h"

namespace ladder::reference {
namespace {

/// Values of every byte: `perByte` elements each.
struct ByteTable {
  int perByte;
  std::vector<float> values;
};

template <typename Decode>
ByteTable makeTable(int perByte, Decode decode) {
  ByteTable table{perByte, std::vector<float>(static_cast<size_t>(256 * perByte))};
  const int bits = 8 / perByte;
  for (int byte = 0; byte < 256; ++byte) {
    for (int i = 0; i < perByte; ++i) {
      table.values[static_cast<size_t>(byte * perByte + i)] = decode(static_cast<uint8_t>(byte >> (i * bits) & ((1 << bits) - 1)));
    }
  }
  return table;
}

const ByteTable& tableOf(WeightFormat format) {
  static const ByteTable int4 = makeTable(2, [](uint8_t code) { return static_cast<float>((code & 7) - (code & 8)); });
  static const ByteTable nf4 = makeTable(2, [](uint8_t code) { return kNf4[code]; });
  static const ByteTable int1 = makeTable(8, [](uint8_t code) { return code ? 1.0f : -1.0f; });
  static const ByteTable e4m3 = makeTable(1, e4m3ToFloat);
  static const ByteTable e5m2 = makeTable(1, e5m2ToFloat);
  switch (format) {
    case WeightFormat::kInt4: return int4;
    case WeightFormat::kNf4: return nf4;
    case WeightFormat::kInt1: return int1;
    case WeightFormat::kFp8E4m3:
    case WeightFormat::kMxfp8E4m3: return e4m3;
    default: return e5m2;
  }
}

template <int PerByte>
void decodeBytes(const uint8_t* source, int64_t bytes, const float* table, float* values) {
  for (int64_t i = 0; i < bytes; ++i) std::memcpy(values + i * PerByte, table + source[i] * PerByte, PerByte * sizeof(float));
}

float decodeOne(WeightFormat format, const uint8_t* weight, int64_t index) {
  if (format == WeightFormat::kFp16) {
    uint16_t code;
    std::memcpy(&code, weight + 2 * index, 2);
    return halfToFloat(code);
  }
  const ByteTable& table = tableOf(format);
  return table.values[static_cast<size_t>(weight[index / table.perByte] * table.perByte + index % table.perByte)];
}

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

}  // namespace

void decodeWeights(WeightFormat format, const uint8_t* weight, int64_t first, int64_t count, float* values) {
  if (format == WeightFormat::kFp16) return halvesToFloats(weight + 2 * first, count, values);
  const ByteTable& table = tableOf(format);
  const int perByte = table.perByte;
  while (count > 0 && first % perByte != 0) {
    *values++ = decodeOne(format, weight, first++);
    --count;
  }
  const int64_t bytes = count / perByte;
  const uint8_t* source = weight + first / perByte;
  if (perByte == 1) decodeBytes<1>(source, bytes, table.values.data(), values);
  else if (perByte == 2) decodeBytes<2>(source, bytes, table.values.data(), values);
  else decodeBytes<8>(source, bytes, table.values.data(), values);
  for (int64_t i = bytes * perByte; i < count; ++i) values[i] = decodeOne(format, weight, first + i);
}

float decodeScale(WeightFormat format, const void* scale, int64_t index) {
  return isMx(format) ? e8m0ToFloat(static_cast<const uint8_t*>(scale)[index]) : halfToFloat(static_cast<const uint16_t*>(scale)[index]);
}

void decodeRow(const DenseSpec& spec, const DenseInputs& inputs, int64_t n, double* values) {
  const int64_t k = spec.activation.k;
  const int64_t row = spec.layout.n.stored[static_cast<size_t>(n)];
  for (int64_t i = 0; i < k; ++i) {
    values[i] = decodeOne(spec.weight, inputs.weight, row + spec.layout.k.stored[static_cast<size_t>(i)]);
  }
  if (spec.group == -1) return;
  const Layout& layout = spec.scaleLayout;
  for (int64_t group = 0; group < k / spec.group; ++group) {
    const int64_t index = layout.n.stored[static_cast<size_t>(n)] + layout.k.stored[static_cast<size_t>(group)];
    const double scale = decodeScale(spec.weight, inputs.scale, index);
    for (int64_t i = group * spec.group; i < (group + 1) * spec.group; ++i) values[i] *= scale;
  }
}

TileReader::TileReader(const DenseSpec& spec, const DenseInputs& inputs, int64_t maxRows, int64_t maxColumns)
    : spec_(spec), inputs_(inputs), rows_(tileExtent(spec.layout.n, maxRows)), columns_(tileExtent(spec.layout.k, maxColumns)),
      pitch_((columns_ + 7) / 8 * 8) {
  const LayoutAxis& n = spec.layout.n;
  const LayoutAxis& k = spec.layout.k;
  std::vector<Span> elements;
  for (int64_t row = 0; row < rows_; ++row) {
    const int64_t rowOffset = n.stored[static_cast<size_t>(n.logicalOfRank[static_cast<size_t>(row)])];
    for (int64_t column = 0; column < columns_; ++column) {
      elements.push_back({rowOffset + k.stored[static_cast<size_t>(k.logicalOfRank[static_cast<size_t>(column)])], row * pitch_ + column});
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
    length = stretch(false);
    for (size_t i = 0; i < length; ++i) scatter_.push_back(elements[i].target - elements[0].target);
  }
  spanLength_ = static_cast<int64_t>(length);
  for (size_t i = 0; i < elements.size(); i += length) spans_.push_back(elements[i]);

  if (spec.group == -1) return;
  for (int64_t tile = 0; tile < columnTiles(); ++tile) {
    std::vector<ScaleRun> runs;
    for (int64_t column = 0; column < columns_; ++column) {
      const int64_t group = k.logicalOfRank[static_cast<size_t>(tile * columns_ + column)] / spec.group;
      if (runs.empty() || runs.back().group != group) runs.push_back({column, column, group});
      runs.back().end = column + 1;
    }
    scaleRuns_.push_back(std::move(runs));
  }
}

void TileReader::read(int64_t rowTile, int64_t columnTile, float* tile, float* scratch) const {
  const LayoutAxis& n = spec_.layout.n;
  const LayoutAxis& k = spec_.layout.k;
  const int64_t base = n.stored[static_cast<size_t>(n.logicalOfRank[static_cast<size_t>(rowTile * rows_)])] +
                       k.stored[static_cast<size_t>(k.logicalOfRank[static_cast<size_t>(columnTile * columns_)])];
  for (const Span& span : spans_) {
    if (scatter_.empty()) {
      decodeWeights(spec_.weight, inputs_.weight, base + span.stored, spanLength_, tile + span.target);
    } else {
      decodeWeights(spec_.weight, inputs_.weight, base + span.stored, spanLength_, scratch);
      float* target = tile + span.target;
      for (int64_t i = 0; i < spanLength_; ++i) target[scatter_[static_cast<size_t>(i)]] = scratch[i];
    }
  }
  if (spec_.group != -1) applyScales(rowTile, columnTile, tile);
}

void TileReader::applyScales(int64_t rowTile, int64_t columnTile, float* tile) const {
  const Layout& layout = spec_.scaleLayout;
  for (int64_t row = 0; row < rows_; ++row) {
    const int64_t n = spec_.layout.n.logicalOfRank[static_cast<size_t>(rowTile * rows_ + row)];
    if (n >= spec_.n) continue;  // Padding of the weight; the scales may be padded differently.
    float* values = tile + row * pitch_;
    for (const ScaleRun& run : scaleRuns_[static_cast<size_t>(columnTile)]) {
      const float scale = decodeScale(spec_.weight, inputs_.scale, layout.n.stored[static_cast<size_t>(n)] + layout.k.stored[static_cast<size_t>(run.group)]);
      for (int64_t column = run.first; column < run.end; ++column) values[column] *= scale;
    }
  }
}

}  // namespace ladder::reference
