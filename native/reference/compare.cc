// Compares what a device wrote with the reference: sampled coordinates in FP64 against the unrounded reference value, and
// every element for being finite. Codes are compared in steps of their order, and as numbers in units of the reference's scale; scales on
// their own.
#include "compare.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
#include <set>

#include "evaluate.h"
#include "floats.h"
#include "parallel.h"

namespace ladder::reference {
namespace {

/// A tensor that the device wrote, or two: codes and scales.
struct Written {
  StoredTensor tensor;
  Deviation numbers, scales;
};

void addNumbers(Written& written, const Region& asked, const Computed<double>& result) {
  const Walk expected = denseWalk(asked, result.region);
  const StoredReader device(written.tensor, asked);
  std::vector<double> values(static_cast<size_t>(device.columns()));
  for (int64_t row = 0; row < device.rows(); ++row) {
    device.readRow(row, values.data());
    const int64_t base = expected.rowOffset(row);
    for (size_t i = 0; i < values.size(); ++i)
      written.numbers.add(values[i], result.reals[static_cast<size_t>(base + expected.columnOffsets()[i])]);
  }
}

/// By number, the power of two by which its scale on the device is above the reference's: 0 but of MX, whose largest number of a block may
/// lie so near to a power of two that the block has either exponent, with codes that fit it.
class ScaleShifts {
 public:
  ScaleShifts(const StoredTensor& tensor, const Region& asked, const Computed<double>& result) : tensor_(tensor), result_(result) {
    const ValueTables& tables = *tensor.tables;
    if (!tensor.scales || tables.value->scale->type != ScaleType::kE8m0) return;
    device_.emplace(tables.storedScaleOffsets(asked));
    reference_.emplace(tables.scaleOffsets(asked, tables.scalesOf(result.region)));
  }

  int of(int64_t row, size_t column) const {
    if (!device_) return 0;
    const auto place = [&](const Walk& walk) { return static_cast<size_t>(walk.rowOffset(row) + walk.columnOffsets()[column]); };
    return static_cast<int>(tensor_.scales[place(*device_)]) - static_cast<int>(result_.scaleBits[place(*reference_)]);
  }

 private:
  const StoredTensor& tensor_;
  const Computed<double>& result_;
  std::optional<Walk> device_, reference_;
};

void addCodes(Written& written, const Region& asked, const Computed<double>& result) {
  const Codec& codec = *written.tensor.tables->codec;
  const Walk expected = denseWalk(asked, result.region);
  const Walk stored = storedWalk(written.tensor.tables->layout, asked);
  const ScaleShifts shifts(written.tensor, asked, result);
  for (int64_t row = 0; row < stored.rows(); ++row) {
    for (size_t i = 0; i < stored.columnOffsets().size(); ++i) {
      const uint32_t wanted = result.codes[static_cast<size_t>(expected.rowOffset(row) + expected.columnOffsets()[i])];
      const uint32_t actual = codec.read(written.tensor.data, stored.rowOffset(row) + stored.columnOffsets()[i]);
      written.numbers.add(std::ldexp(codec.value(actual), shifts.of(row, i)), codec.value(wanted));
      written.numbers.addSteps(std::abs(codec.order(actual) - codec.order(wanted)));
    }
  }
}

void addScales(Written& written, const Region& asked, const Computed<double>& result) {
  const ValueTables& tables = *written.tensor.tables;
  const ScaleType type = tables.value->scale->type;
  const Region scales = tables.scalesOf(asked);
  const Walk expected = denseWalk(scales, tables.scalesOf(result.region));
  const Walk stored = storedWalk(tables.scaleLayout, scales);
  for (int64_t row = 0; row < stored.rows(); ++row) {
    for (size_t i = 0; i < stored.columnOffsets().size(); ++i) {
      const uint32_t wanted = result.scaleBits[static_cast<size_t>(expected.rowOffset(row) + expected.columnOffsets()[i])];
      const uint32_t actual = readScale(type, written.tensor.scales, stored.rowOffset(row) + stored.columnOffsets()[i]);
      written.scales.add(decodeScale(type, actual), decodeScale(type, wanted));
      if (type == ScaleType::kE8m0) written.scales.addSteps(std::abs(static_cast<int64_t>(actual) - static_cast<int64_t>(wanted)));
    }
  }
}

/// Adds up count(row) over the rows of a tensor.
template <typename CountRow>
int64_t sumRows(int64_t rows, int64_t columns, const CancelFlag* cancelled, CountRow count) {
  constexpr int64_t kGrainNumbers = 1 << 18;
  std::atomic<int64_t> total{0};
  parallelFor(rows, std::max<int64_t>(1, kGrainNumbers / columns), cancelled, [&](int64_t begin, int64_t end) {
    int64_t sum = 0;
    for (int64_t row = begin; row < end; ++row) sum += count(row);
    total += sum;
  });
  return total;
}

int64_t nonFiniteNumbers(StoredTensor tensor, const CancelFlag* cancelled) {
  tensor.scales = nullptr;  // of codes before their scales
  const StoredReader reader(tensor, tensor.tables->whole());
  return sumRows(reader.rows(), reader.columns(), cancelled, [&](int64_t row) {
    std::vector<float> values(static_cast<size_t>(reader.columns()));
    reader.readRow(row, values.data());
    return std::count_if(values.begin(), values.end(), [](float value) { return !std::isfinite(value); });
  });
}

int64_t nonFiniteScales(const StoredTensor& tensor, const CancelFlag* cancelled) {
  const ScaleType type = tensor.tables->value->scale->type;
  const Walk stored = storedWalk(tensor.tables->scaleLayout, tensor.tables->wholeScales());
  return sumRows(stored.rows(), stored.columns(), cancelled, [&](int64_t row) {
    const int64_t base = stored.rowOffset(row);
    const auto isBad = [&](int64_t column) { return !std::isfinite(decodeScale(type, readScale(type, tensor.scales, base + column))); };
    return std::count_if(stored.columnOffsets().begin(), stored.columnOffsets().end(), isBad);
  });
}

Region sample(const Value& value, const CompareOptions& options) {
  Region region;
  for (size_t axis = 0; axis < value.axes.size(); ++axis) {
    const int64_t extent = value.axes[axis].extent;
    if (axis == 0) region.push_back(Coordinates::of(sampleAxis(extent, options.maxRows, options.seed)));
    else if (axis + 1 == value.axes.size()) region.push_back(Coordinates::of(sampleAxis(extent, options.maxColumns, options.seed + 1)));
    else region.push_back(Coordinates::range(0, extent));
  }
  return region;
}

}  // namespace

std::vector<int64_t> sampleAxis(int64_t extent, int64_t most, uint64_t seed) {
  if (most <= 0 || most >= extent) {
    std::vector<int64_t> all(static_cast<size_t>(extent));
    std::iota(all.begin(), all.end(), int64_t{0});
    return all;
  }
  std::set<int64_t> chosen{0, extent - 1};
  for (uint64_t i = 0; static_cast<int64_t>(chosen.size()) < std::max<int64_t>(most, 2); ++i) {
    uint64_t z = seed + (i + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    chosen.insert(static_cast<int64_t>((z ^ (z >> 31)) % static_cast<uint64_t>(extent)));
  }
  return {chosen.begin(), chosen.end()};
}

void Deviation::add(double device, double reference) {
  ++compared_;
  const double difference = std::fabs(device - reference);
  if (std::isnan(difference)) poisoned_ = true;
  else maxAbsolute_ = std::max(maxAbsolute_, difference);
  squaredDifference_ += difference * difference;
  squaredReference_ += reference * reference;
}

void Deviation::addSteps(int64_t steps) {
  differing_ += steps != 0;
  differingByMore_ += steps > 1;
}

Comparison Deviation::finish(int64_t elements, int64_t nonFinite) const {
  const double count = std::max<double>(1, static_cast<double>(compared_));
  const double rms = std::sqrt(squaredReference_ / count);
  const double largest = poisoned_ ? std::numeric_limits<double>::quiet_NaN() : maxAbsolute_;
  // An all-zero reference has no relative error: exact agreement is 0, anything else infinite.
  const auto over = [](double value, double base) {
    return base > 0 ? value / base : value == 0 ? 0.0 : value * std::numeric_limits<double>::infinity();
  };
  return {compared_,
          elements,
          nonFinite,
          largest,
          over(std::sqrt(squaredDifference_), std::sqrt(squaredReference_)),
          over(largest, rms),
          static_cast<double>(differing_) / count,
          static_cast<double>(differingByMore_) / count};
}

std::vector<Comparison> Operator::compare(const std::vector<Buffer>& inputs, const std::vector<Buffer>& deviceOutputs,
                                          const CompareOptions& options, const CancelFlag* cancelled) const {
  prepared_->requireOutputs(deviceOutputs);
  std::vector<Written> outputs;
  std::vector<Region> asked;
  size_t next = 0;
  for (const uint32_t value : prepared_->program().outputs) {
    const ValueTables& tables = prepared_->tables(value);
    Written& written = outputs.emplace_back();
    written.tensor = {&tables, static_cast<const uint8_t*>(deviceOutputs[next++].data), nullptr};
    if (tables.value->scale) written.tensor.scales = static_cast<const uint8_t*>(deviceOutputs[next++].data);
    asked.push_back(sample(*tables.value, options));
  }
  evaluate<double>(
      *prepared_, inputs, asked,
      [&](size_t output, const Region& region, const Computed<double>& result) {
        Written& written = outputs[output];
        if (written.tensor.tables->quantised()) addCodes(written, region, result);
        else addNumbers(written, region, result);
        if (written.tensor.scales) addScales(written, region, result);
      },
      cancelled);

  std::vector<Comparison> comparisons;
  for (const Written& written : outputs) {
    const ValueTables& tables = *written.tensor.tables;
    comparisons.push_back(written.numbers.finish(volume(tables.whole()), nonFiniteNumbers(written.tensor, cancelled)));
    if (written.tensor.scales)
      comparisons.push_back(written.scales.finish(volume(tables.wholeScales()), nonFiniteScales(written.tensor, cancelled)));
  }
  return comparisons;
}

std::vector<Comparison> compareOperator(const Program& program, const std::vector<Buffer>& inputs, const std::vector<Buffer>& deviceOutputs,
                                        const CompareOptions& options) {
  std::vector<size_t> inputBytes, outputBytes;
  for (const Buffer& input : inputs) inputBytes.push_back(input.bytes);
  for (const Buffer& output : deviceOutputs) outputBytes.push_back(output.bytes);
  return Operator(program, inputBytes, outputBytes).compare(inputs, deviceOutputs, options, nullptr);
}

}  // namespace ladder::reference
