// Compares what a device wrote with the reference: sampled rows and columns in FP64 against the unrounded reference value,
// and every element for being finite. Which deviation is acceptable is decided in TypeScript, per format.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <set>

#include "../runtime/error.h"
#include "activation.h"
#include "attention.h"
#include "dense.h"
#include "formats.h"
#include "reference.h"
#include "spec.h"

namespace ladder::reference {
namespace {

/// Sorted coordinates of an axis: all of them, or `most` at random, the first and the last always among them.
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

/// Gathers the statistics of one output. A NaN on either side makes every one of them NaN.
class Deviation {
 public:
  void add(double device, double reference) {
    ++compared_;
    const double difference = std::fabs(device - reference);
    if (std::isnan(difference)) poisoned_ = true;
    else maxAbsolute_ = std::max(maxAbsolute_, difference);
    squaredDifference_ += difference * difference;
    squaredReference_ += reference * reference;
  }
  /// For codes: how many steps of the format lie between the two.
  void addSteps(int64_t steps) {
    differing_ += steps != 0;
    differingByMore_ += steps > 1;
  }
  Comparison finish(int64_t elements, int64_t nonFinite) const {
    const double count = std::max<double>(1, static_cast<double>(compared_));
    const double rms = std::sqrt(squaredReference_ / count);
    const double largest = poisoned_ ? std::numeric_limits<double>::quiet_NaN() : maxAbsolute_;
    // An all-zero reference has no relative error: exact agreement is 0, anything else infinite.
    const auto over = [](double value, double base) { return base > 0 ? value / base : value == 0 ? 0.0 : value * std::numeric_limits<double>::infinity(); };
    return {compared_, elements, nonFinite, largest, over(std::sqrt(squaredDifference_), std::sqrt(squaredReference_)), over(largest, rms),
            static_cast<double>(differing_) / count, static_cast<double>(differingByMore_) / count};
  }

 private:
  int64_t compared_ = 0, differing_ = 0, differingByMore_ = 0;
  double maxAbsolute_ = 0, squaredDifference_ = 0, squaredReference_ = 0;
  bool poisoned_ = false;
};

int64_t countNonFiniteHalves(const uint16_t* values, int64_t count) {
  return std::count_if(values, values + count, [](uint16_t code) { return (code & 0x7c00) == 0x7c00; });
}

Comparison compareHalves(const uint16_t* device, int64_t totalRows, int64_t totalColumns, const std::vector<int64_t>& rows,
                         const std::vector<int64_t>& columns, const std::vector<double>& reference) {
  Deviation deviation;
  for (size_t i = 0; i < rows.size(); ++i) {
    for (size_t j = 0; j < columns.size(); ++j) {
      deviation.add(halfToFloat(device[rows[i] * totalColumns + columns[j]]), reference[i * columns.size() + j]);
    }
  }
  return deviation.finish(totalRows * totalColumns, countNonFiniteHalves(device, totalRows * totalColumns));
}

/// Position of a code in the order of the values: neighbours differ by 1; -0 and +0 coincide.
int64_t codeOrder(ActivationFormat format, uint8_t code) {
  if (isInteger(format)) return static_cast<int8_t>(code);
  return code & 0x80 ? -static_cast<int64_t>(code & 0x7f) : code;
}

std::vector<Comparison> compareActivation(const ActivationSpec& spec, const ActivationInputs& inputs, const std::vector<Buffer>& device,
                                          const CompareOptions& options) {
  const int64_t k = spec.k;
  const std::vector<int64_t> rows = sampleAxis(spec.m, options.maxRows, options.seed);
  const std::vector<int64_t> columns = sampleAxis(k, options.maxColumns, options.seed + 1);
  std::vector<float> h(static_cast<size_t>(k));
  if (spec.format == ActivationFormat::kFp16) {
    std::vector<double> reference;
    for (const int64_t row : rows) {
      normRow(spec, inputs, row, h.data());
      for (const int64_t column : columns) reference.push_back(h[static_cast<size_t>(column)]);
    }
    return {compareHalves(static_cast<const uint16_t*>(device[0].data), spec.m, k, rows, columns, reference)};
  }

  const auto* codes = static_cast<const uint8_t*>(device[0].data);
  const auto* scales = static_cast<const uint8_t*>(device[1].data);
  const int64_t blocks = isMx(spec.format) ? k / kMxBlock : 1;
  const int64_t scaleBytes = isMx(spec.format) ? blocks : 4;
  const auto scaleValue = [&](const uint8_t* row, int64_t block) -> double {
    if (isMx(spec.format)) return e8m0ToFloat(row[block]);
    float scale;
    std::memcpy(&scale, row, sizeof scale);
    return scale;
  };
  Deviation codeDeviation;
  Deviation scaleDeviation;
  std::vector<uint8_t> expected(static_cast<size_t>(k));
  std::vector<uint8_t> expectedScales(static_cast<size_t>(scaleBytes));
  for (const int64_t row : rows) {
    normRow(spec, inputs, row, h.data());
    quantiseRow(spec, h.data(), expected.data(), expectedScales.data());
    for (const int64_t column : columns) {
      const uint8_t actual = codes[row * k + column];
      const uint8_t wanted = expected[static_cast<size_t>(column)];
      codeDeviation.add(activationCodeToFloat(spec.format, actual), activationCodeToFloat(spec.format, wanted));
      codeDeviation.addSteps(std::abs(codeOrder(spec.format, actual) - codeOrder(spec.format, wanted)));
    }
    const uint8_t* actualScales = scales + row * scaleBytes;
    for (int64_t block = 0; block < blocks; ++block) {
      scaleDeviation.add(scaleValue(actualScales, block), scaleValue(expectedScales.data(), block));
      if (isMx(spec.format)) scaleDeviation.addSteps(std::abs(static_cast<int64_t>(actualScales[block]) - expectedScales[static_cast<size_t>(block)]));
    }
  }
  int64_t badCodes = 0;
  for (int64_t i = 0; i < spec.m * k; ++i) badCodes += !std::isfinite(activationCodeToFloat(spec.format, codes[i]));
  int64_t badScales = 0;
  for (int64_t row = 0; row < spec.m; ++row) {
    for (int64_t block = 0; block < blocks; ++block) badScales += !std::isfinite(scaleValue(scales + row * scaleBytes, block));
  }
  return {codeDeviation.finish(spec.m * k, badCodes), scaleDeviation.finish(spec.m * blocks, badScales)};
}

}  // namespace

std::vector<Comparison> compareOperator(const OperatorSpec& spec, const std::vector<Buffer>& inputs, const std::vector<Buffer>& deviceOutputs,
                                        const CompareOptions& options) {
  std::vector<size_t> sizes;
  for (const Buffer& output : deviceOutputs) sizes.push_back(output.bytes);
  if (spec.op == "dense") {
    const DenseSpec dense = parseDense(spec);
    const DenseInputs bound = bindDense(dense, inputs);
    checkOutputs(outputBytes(dense), sizes);
    const std::vector<int64_t> rows = sampleAxis(dense.activation.m, options.maxRows, options.seed);
    const std::vector<int64_t> columns = sampleAxis(dense.outputColumns(), options.maxColumns, options.seed + 1);
    return {compareHalves(static_cast<const uint16_t*>(deviceOutputs[0].data), dense.activation.m, dense.outputColumns(), rows, columns,
                          sampleDense(dense, bound, rows, columns))};
  }
  if (spec.op == "norm" || spec.op == "quantise") {
    const ActivationSpec activation = parseActivation(spec);
    const ActivationInputs bound = bindActivation(activation, inputs);
    checkOutputs(outputBytes(activation), sizes);
    return compareActivation(activation, bound, deviceOutputs, options);
  }
  if (spec.op == "attention") {
    const AttentionSpec attention = parseAttention(spec);
    const uint16_t* qkv = bindAttention(attention, inputs);
    checkOutputs(outputBytes(attention), sizes);
    const std::vector<int64_t> rows = sampleAxis(attention.rows(), options.maxRows, options.seed);
    const std::vector<int64_t> columns = sampleAxis(attention.outputColumns(), options.maxColumns, options.seed + 1);
    return {compareHalves(static_cast<const uint16_t*>(deviceOutputs[0].data), attention.rows(), attention.outputColumns(), rows, columns,
                          sampleAttention(attention, qkv, rows, columns))};
  }
  throw Error("UNSUPPORTED", "expected dense, norm, quantise or attention for `op` but received \"" + spec.op + "\"");
}

}  // namespace ladder::reference
