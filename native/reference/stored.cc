// Reads stored values. Quantised numbers are their codes' values times their scales, in FP32 or FP64.
#include "stored.h"

#include <algorithm>

#include "floats.h"
#include "half_arrays.h"

namespace ladder::reference {
namespace {

int64_t placesOf(const std::vector<Digit>& digits) {
  int64_t places = 1;
  for (const Digit& digit : digits) places *= digit.size;
  return places;
}

}  // namespace

ValueTables::ValueTables(const Value& source, bool stored) : value(&source) {
  if (source.element) codec = std::make_unique<Codec>(*source.element, source.cellBits);
  for (const Axis& axis : source.axes) {
    int64_t count = axis.extent;
    if (source.scale) {
      for (const Sharing& one : source.scale->per) {
        if (one.axis == axis.name) count = std::min(count, one.count);
      }
    }
    sharing.push_back(count);
  }
  if (!stored) return;
  layout = expandLayout(source.layout, source.axes);
  places = placesOf(source.layout);
  if (!source.scale) return;
  scaleLayout = expandLayout(source.scaleLayout, scaleAxes(source));
  scalePlaces = placesOf(source.scaleLayout);
}

Region ValueTables::whole() const {
  Region region;
  for (const Axis& axis : value->axes) region.push_back(Coordinates::range(0, axis.extent));
  return region;
}

Region ValueTables::wholeScales() const { return scalesOf(whole()); }

Region ValueTables::scalesOf(const Region& region) const {
  Region scales;
  for (size_t axis = 0; axis < region.size(); ++axis) {
    std::vector<int64_t> list;
    for (int64_t i = 0; i < region[axis].size(); ++i) {
      const int64_t scale = region[axis][i] / sharing[axis];
      if (list.empty() || list.back() != scale) list.push_back(scale);
    }
    scales.push_back(Coordinates::of(std::move(list)));
  }
  return scales;
}

Region ValueTables::sharedBy(const Region& region) const {
  Region shared;
  const Region scales = scalesOf(region);
  for (size_t axis = 0; axis < region.size(); ++axis) {
    std::vector<int64_t> list;
    for (int64_t i = 0; i < scales[axis].size(); ++i) {
      const int64_t first = scales[axis][i] * sharing[axis];
      const int64_t end = std::min(first + sharing[axis], value->axes[axis].extent);
      for (int64_t coordinate = first; coordinate < end; ++coordinate) list.push_back(coordinate);
    }
    shared.push_back(Coordinates::of(std::move(list)));
  }
  return shared;
}

std::vector<std::vector<int64_t>> ValueTables::scaleOffsets(const Region& region, const Region& scales) const {
  std::vector<std::vector<int64_t>> offsets(region.size());
  int64_t stride = 1;
  for (size_t axis = region.size(); axis-- > 0;) {
    for (int64_t i = 0; i < region[axis].size(); ++i) offsets[axis].push_back(scales[axis].find(region[axis][i] / sharing[axis]) * stride);
    stride *= scales[axis].size();
  }
  return offsets;
}

std::vector<std::vector<int64_t>> ValueTables::storedScaleOffsets(const Region& region) const {
  std::vector<std::vector<int64_t>> offsets(region.size());
  for (size_t axis = 0; value->scale && axis < region.size(); ++axis) {
    const std::vector<int64_t>& stored = scaleLayout.axes[axis].stored;
    for (int64_t i = 0; i < region[axis].size(); ++i) offsets[axis].push_back(stored[static_cast<size_t>(region[axis][i] / sharing[axis])]);
  }
  return offsets;
}

Walk storedWalk(const Layout& layout, const Region& region) {
  std::vector<std::vector<int64_t>> offsets(region.size());
  for (size_t axis = 0; axis < region.size(); ++axis) {
    for (int64_t i = 0; i < region[axis].size(); ++i)
      offsets[axis].push_back(layout.axes[axis].stored[static_cast<size_t>(region[axis][i])]);
  }
  return Walk(std::move(offsets));
}

float decodeScale(ScaleType type, uint32_t bits) {
  if (type == ScaleType::kE8m0) return e8m0ToFloat(static_cast<uint8_t>(bits));
  return type == ScaleType::kF16 ? halfToFloat(static_cast<uint16_t>(bits)) : floatOf(bits);
}

uint32_t readScale(ScaleType type, const uint8_t* scales, int64_t index) {
  if (type == ScaleType::kE8m0) return scales[index];
  uint32_t bits = 0;
  const int64_t bytes = type == ScaleType::kF16 ? 2 : 4;
  std::memcpy(&bits, scales + index * bytes, static_cast<size_t>(bytes));  // little-endian, as the tensors are
  return bits;
}

void writeScale(ScaleType type, uint8_t* scales, int64_t index, uint32_t bits) {
  const int64_t bytes = type == ScaleType::kE8m0 ? 1 : type == ScaleType::kF16 ? 2 : 4;
  std::memcpy(scales + index * bytes, &bits, static_cast<size_t>(bytes));
}

StoredReader::StoredReader(const StoredTensor& tensor, const Region& region)
    : tensor_(tensor), places_(storedWalk(tensor.tables->layout, region)), scales_(tensor.tables->storedScaleOffsets(region)) {}

void StoredReader::readNumbers(int64_t offset, float* target) const {
  const std::vector<int64_t>& columns = places_.columnOffsets();
  const auto count = static_cast<int64_t>(columns.size());
  const uint8_t* data = tensor_.data;
  if (const Codec* codec = tensor_.tables->codec.get()) {
    if (places_.contiguous()) return codec->decode(data, offset + columns[0], count, target);
    for (int64_t i = 0; i < count; ++i) target[i] = codec->value(codec->read(data, offset + columns[static_cast<size_t>(i)]));
  } else if (tensor_.tables->value->type == ValueType::kF16) {
    if (places_.contiguous()) return halvesToFloats(data + 2 * (offset + columns[0]), count, target);
    for (int64_t i = 0; i < count; ++i) {
      uint16_t code;
      std::memcpy(&code, data + 2 * (offset + columns[static_cast<size_t>(i)]), 2);
      target[i] = halfToFloat(code);
    }
  } else {
    for (int64_t i = 0; i < count; ++i) std::memcpy(target + i, data + 4 * (offset + columns[static_cast<size_t>(i)]), 4);
  }
}

template <typename Real>
void StoredReader::readRow(int64_t row, Real* target) const {
  constexpr bool kSingle = sizeof(Real) == sizeof(float);
  std::vector<float> numbers(kSingle ? 0 : static_cast<size_t>(columns()));
  float* values = kSingle ? reinterpret_cast<float*>(target) : numbers.data();
  readNumbers(places_.rowOffset(row), values);
  if (!kSingle) std::copy(numbers.begin(), numbers.end(), target);
  if (!tensor_.scales) return;
  const ScaleType type = tensor_.tables->value->scale->type;
  const int64_t base = scales_.rowOffset(row);
  const std::vector<int64_t>& places = scales_.columnOffsets();
  for (size_t i = 0; i < places.size();) {
    const int64_t place = places[i];
    const auto scale = static_cast<Real>(decodeScale(type, readScale(type, tensor_.scales, base + place)));
    for (; i < places.size() && places[i] == place; ++i) target[i] *= scale;
  }
}

template void StoredReader::readRow(int64_t row, float* target) const;
template void StoredReader::readRow(int64_t row, double* target) const;

}  // namespace ladder::reference
