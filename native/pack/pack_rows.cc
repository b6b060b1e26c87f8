// Quantises and stores rows. All arithmetic on weights is in double, as JavaScript's would be; only the search for a scale, which may
// err by a step of its grid, is in float.
#include "pack_rows.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <mutex>
#include <vector>

#include "../reference/floats.h"
#include "../reference/parallel.h"

namespace ladder::pack {
namespace {

using reference::Fit;
using reference::FloatCodes;
using reference::IntegerCodes;
using reference::TableCodes;

constexpr FloatCodes kHalf{5, 10, 15, 0x7bff, true, false, 0x7e00};
constexpr uint32_t kHalfOne = 0x3c00, kLeastNormalHalf = 0x400;
/// Rows that a thread takes at a time.
constexpr int64_t kGrain = 4;
/// A least-squares search tries so many scales, this far apart, from the largest one down.
constexpr int kTried = 20;
constexpr double kStep = 0.025;
/// By how much a scale that float16 rounds roughly may raise a group's error, and what is allowed beside that, of the group's norm.
constexpr double kMostRise = 1.1, kMostShare = 1.0 / 1024;

/// Nearest integer, ties to even.
double roundHalfEven(double value) {
  constexpr double kRounder = 0x1.8p52;
  return std::fabs(value) < 0x1p51 ? (value + kRounder) - kRounder : value;
}

uint32_t encodeDouble(const FloatCodes& codes, int bits, double value) {
  const uint32_t sign = std::signbit(value) ? 1u << (bits - 1) : 0;
  const auto overflow = static_cast<uint32_t>(codes.saturates ? codes.maxCode : codes.maxCode + 1);
  const double magnitude = std::fabs(value);
  if (magnitude == 0) return sign;
  if (std::isinf(magnitude)) return sign | overflow;
  uint64_t word;
  std::memcpy(&word, &magnitude, 8);
  // Subnormals share the exponent of the smallest normal number; a carry out of the mantissa moves on to the next exponent.
  const int exponent = std::max(static_cast<int>(word >> 52) - 1023, 1 - static_cast<int>(codes.bias));
  const uint64_t power = static_cast<uint64_t>(1023 + static_cast<int>(codes.mantissaBits) - exponent) << 52;
  double factor;
  std::memcpy(&factor, &power, 8);
  const double mantissa = roundHalfEven(magnitude * factor);
  const int64_t code = (int64_t{exponent + static_cast<int>(codes.bias) - 1} << codes.mantissaBits) + static_cast<int64_t>(mantissa);
  return sign | (code > codes.maxCode ? overflow : static_cast<uint32_t>(code));
}

uint32_t halfOf(double value) { return encodeDouble(kHalf, 16, value); }

/// Codes of one kind and their values. @see reference::Codec, which rounds FP32 quotients
struct FloatCoder {
  const FloatCodes& codes;
  int bits;
  uint32_t encode(double value) const { return encodeDouble(codes, bits, value); }
  bool holds(uint32_t code) const { return (code & ((1u << (bits - 1)) - 1)) <= static_cast<uint32_t>(codes.maxCode); }
};

struct IntegerCoder {
  const IntegerCodes& codes;
  int bits;
  uint32_t encode(double value) const {
    const double code = std::max(static_cast<double>(codes.min), std::min(static_cast<double>(codes.max), roundHalfEven(value)));
    return static_cast<uint32_t>(static_cast<int32_t>(code)) & ((1u << bits) - 1);
  }
  bool holds(uint32_t) const { return true; }
};

struct TableCoder {
  const TableCodes& codes;
  /// Where a code ends and the next one begins.
  std::vector<double> middles;
  explicit TableCoder(const TableCodes& table) : codes(table) {
    for (size_t i = 0; i + 1 < table.values.size(); ++i) middles.push_back((table.values[i] + table.values[i + 1]) / 2);
  }
  uint32_t encode(double value) const {
    uint32_t code = 0;
    if (codes.tiesUp) {
      for (const double middle : middles) code += value >= middle;
    } else {
      for (const double middle : middles) code += value > middle;
    }
    return code;
  }
  bool holds(uint32_t) const { return true; }
};

// ---- Search ---------------------------------------------------------------------------------------------------------------

/// Σ (w − scale · nearest(w / scale))², roughly: sums of eight lanes each.
template <typename Nearest>
float squaredError(const float* weights, int64_t count, float scale, const Nearest& nearest) {
  constexpr int kLanes = 8;
  std::array<float, kLanes> sums{};
  const float inverse = 1 / scale;
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const float rest = weights[i + lane] - scale * nearest(weights[i + lane] * inverse);
      sums[static_cast<size_t>(lane)] += rest * rest;
    }
  }
  float sum = 0;
  for (const float one : sums) sum += one;
  for (; i < count; ++i) {
    const float rest = weights[i] - scale * nearest(weights[i] * inverse);
    sum += rest * rest;
  }
  return sum;
}

/// The nearest value by a table of narrow bins, for searches.
class Bins {
 public:
  explicit Bins(const TableCoder& coder)
      : first_(static_cast<float>(coder.codes.values.front())),
        perBin_(static_cast<float>(kBins - 1) / static_cast<float>(coder.codes.values.back() - coder.codes.values.front())) {
    for (size_t i = 0; i < kBins; ++i)
      values_[i] = static_cast<float>(coder.codes.values[coder.encode(first_ + static_cast<double>(i) / perBin_)]);
  }
  float operator()(float value) const {
    const float bin = (value - first_) * perBin_ + 0.5f;
    return values_[static_cast<size_t>(std::max(0.0f, std::min(static_cast<float>(kBins - 1), bin)))];
  }

 private:
  static constexpr size_t kBins = 2048;
  float first_, perBin_;
  std::array<float, kBins> values_;
};

// ---- Rows -----------------------------------------------------------------------------------------------------------------

float numberAt(const uint8_t* numbers, Number type, int64_t index) {
  if (type == Number::kF32) {
    float value;
    std::memcpy(&value, numbers + index * 4, 4);
    return value;
  }
  uint16_t code;
  std::memcpy(&code, numbers + index * 2, 2);
  return type == Number::kF16 ? reference::halfToFloat(code) : reference::floatOf(uint32_t{code} << 16);
}

/// Throughout: a fault's row is the stretch's.
template <typename Coder>
class Packer {
 public:
  Packer(const Format& format, const Rows& rows, const Coder& coder)
      : format_(format), rows_(rows), coder_(coder), codec_(format.element, format.element.bits),
        bits_(static_cast<int>(format.element.bits)) {
    if constexpr (std::is_same_v<Coder, TableCoder>) bins_.emplace(coder);
  }

  std::optional<Fault> run(const std::atomic<bool>* cancelled) {
    reference::parallelFor(rows_.rows, sharesBytes() ? rows_.rows : kGrain, cancelled, [&](int64_t begin, int64_t end) {
      std::vector<float> weights(static_cast<size_t>(rows_.columns));
      for (int64_t row = begin; row < end; ++row) {
        for (int64_t i = 0; i < rows_.columns; ++i)
          weights[static_cast<size_t>(i)] = numberAt(rows_.numbers, rows_.type, row * rows_.columns + i);
        if (const auto fault = packRow(row, weights.data())) {
          const std::lock_guard<std::mutex> lock(mutex_);
          if (!fault_ || fault->row < fault_->row) fault_ = fault;
          return;
        }
      }
    });
    return fault_;
  }

 private:
  /// Whether cells of several rows may lie in one byte: then one thread stores them all.
  bool sharesBytes() const {
    const int perByte = bits_ < 8 ? 8 / bits_ : 1;
    return std::any_of(rows_.rowPlaces, rows_.rowPlaces + rows_.rows,
                       [&](double place) { return static_cast<int64_t>(place) % perByte != 0; });
  }

  std::optional<Fault> packRow(int64_t row, const float* weights) {
    double lost = 0, norm = 0;
    for (int64_t group = 0; group < rows_.columns / rows_.group; ++group) {
      const int64_t first = group * rows_.group;
      const float* const own = weights + first;
      for (int64_t i = 0; i < rows_.group; ++i)
        if (!std::isfinite(own[i])) return Fault{Fault::Kind::kNumber, row, first + i, own[i]};
      double scale = 1;
      if (format_.scale) {
        uint32_t code = 0;
        if (rows_.scales) {
          code = halfOf(static_cast<double>(rows_.scales[row * (rows_.columns / rows_.group) + group]));
        } else if (const auto fault = choose(own, code)) {
          return Fault{fault->kind, row, first + fault->column, fault->value};
        }
        scale = scaleOf(code);
        const auto place = static_cast<int64_t>(rows_.scaleRowPlaces[row] + rows_.scaleGroupPlaces[group]);
        if (isMx()) rows_.scale[place] = static_cast<uint8_t>(code);
        else std::memcpy(rows_.scale + place * 2, &code, 2);  // little-endian
      }
      for (int64_t i = 0; i < rows_.group; ++i) {
        const uint32_t code = coder_.encode(scale == 0 ? 0 : static_cast<double>(own[i]) / scale);
        if (!coder_.holds(code)) return Fault{Fault::Kind::kNumber, row, first + i, own[i]};
        store(static_cast<int64_t>(rows_.rowPlaces[row] + rows_.columnPlaces[first + i]), code);
        if (!rows_.squares) continue;
        const double weight = static_cast<double>(own[i]), rest = weight - static_cast<double>(codec_.value(code)) * scale;
        lost += rest * rest;
        norm += weight * weight;
      }
    }
    if (rows_.squares) rows_.squares[2 * row] = lost, rows_.squares[2 * row + 1] = norm;
    return std::nullopt;
  }

  void store(int64_t place, uint32_t code) const {
    if (bits_ == 8) {
      rows_.weight[place] = static_cast<uint8_t>(code);
    } else if (bits_ == 16) {
      std::memcpy(rows_.weight + place * 2, &code, 2);
    } else {
      const int64_t bit = place * bits_;
      rows_.weight[bit >> 3] = static_cast<uint8_t>(rows_.weight[bit >> 3] | code << (bit & 7));
    }
  }

  bool isMx() const { return format_.scale->fit.kind == Fit::kMx; }
  double scaleOf(uint32_t code) const {
    return isMx() ? static_cast<double>(reference::e8m0ToFloat(static_cast<uint8_t>(code)))
                  : static_cast<double>(reference::halfToFloat(static_cast<uint16_t>(code)));
  }

  /// The code of a group's scale. @returns a fault whose column is the group's
  std::optional<Fault> choose(const float* weights, uint32_t& code) const {
    const int64_t count = rows_.group;
    float largest = 0;
    double sum = 0;
    int64_t at = 0;
    for (int64_t i = 0; i < count; ++i) {
      const float magnitude = std::fabs(weights[i]);
      if (magnitude > largest) largest = magnitude, at = i;
      sum += static_cast<double>(magnitude);
    }
    const reference::ScaleFit& fit = format_.scale->fit;
    const bool searched = format_.choice == Choice::kLeastSquares && largest > 0;
    if (fit.kind == Fit::kMx) {
      code = largest == 0 ? 127u : static_cast<uint32_t>(std::clamp(std::ilogb(largest) - static_cast<int>(fit.emax) + 127, 0, 254));
      if (searched && code < 254 && exactError(weights, scaleOf(code + 1)) < exactError(weights, scaleOf(code))) ++code;
      return std::nullopt;
    }
    if (largest == 0) {
      code = fit.kind == Fit::kMean ? 0 : kHalfOne;
      return std::nullopt;
    }
    const double wanted = fit.kind == Fit::kMean ? sum / static_cast<double>(count) : static_cast<double>(largest) / fit.top;
    code = halfOf(wanted);
    if (code > static_cast<uint32_t>(kHalf.maxCode)) return Fault{Fault::Kind::kLarge, 0, at, weights[at]};
    if (searched && fit.kind == Fit::kAbsmax) code = search(weights, wanted);
    if (code >= kLeastNormalHalf) return std::nullopt;
    return refine(weights, wanted, code) ? std::nullopt : std::optional<Fault>(Fault{Fault::Kind::kTiny, 0, at, weights[at]});
  }

  /// Of a scale that float16 holds roughly: its code as it is or one of its neighbours. @returns whether one is as good as the scale itself
  bool refine(const float* weights, double wanted, uint32_t& code) const {
    double norm = 0;
    for (int64_t i = 0; i < rows_.group; ++i) norm += static_cast<double>(weights[i]) * static_cast<double>(weights[i]);
    const double most = kMostRise * std::sqrt(exactError(weights, wanted)) + kMostShare * std::sqrt(norm);
    for (const int change : {0, 1, -1}) {
      const int64_t near = int64_t{code} + change;
      if (near < 1 || std::sqrt(exactError(weights, scaleOf(static_cast<uint32_t>(near)))) > most) continue;
      code = static_cast<uint32_t>(near);
      return true;
    }
    return false;
  }

  /// Σ (w − stored)², exactly.
  double exactError(const float* weights, double scale) const {
    double sum = 0;
    for (int64_t i = 0; i < rows_.group; ++i) {
      const auto weight = static_cast<double>(weights[i]);
      const double rest = weight - static_cast<double>(codec_.value(coder_.encode(weight / scale))) * scale;
      sum += rest * rest;
    }
    return sum;
  }

  /// The code of the scale, of a grid from `largest` down, whose error is least; ties to the larger scale.
  uint32_t search(const float* weights, double largest) const {
    uint32_t best = 0;
    double least = std::numeric_limits<double>::infinity();
    for (int i = 0; i < kTried; ++i) {
      const uint32_t code = std::max(1u, halfOf(largest * (1 - kStep * i)));
      const double error = errorOf(weights, reference::halfToFloat(static_cast<uint16_t>(code)));
      if (error < least) least = error, best = code;
    }
    return best;
  }

  double errorOf(const float* weights, float scale) const {
    if constexpr (std::is_same_v<Coder, IntegerCoder>) {
      const auto min = static_cast<float>(coder_.codes.min), max = static_cast<float>(coder_.codes.max);
      // Adding 1.5 · 2²³ rounds to the nearest integer.
      return static_cast<double>(squaredError(weights, rows_.group, scale, [=](float value) {
        const float bounded = std::max(min, std::min(max, value));
        return (bounded + 0x1.8p23f) - 0x1.8p23f;
      }));
    } else if constexpr (std::is_same_v<Coder, TableCoder>) {
      return static_cast<double>(squaredError(weights, rows_.group, scale, *bins_));
    } else {
      return exactError(weights, static_cast<double>(scale));
    }
  }

  const Format& format_;
  const Rows& rows_;
  const Coder& coder_;
  const reference::Codec codec_;
  const int bits_;
  std::optional<Bins> bins_;
  std::mutex mutex_;
  std::optional<Fault> fault_;
};

template <typename Coder>
std::optional<Fault> packWith(const Format& format, const Rows& rows, const Coder& coder, const std::atomic<bool>* cancelled) {
  return Packer<Coder>(format, rows, coder).run(cancelled);
}

}  // namespace

std::optional<Fault> packRows(const Format& format, const Rows& rows, const std::atomic<bool>* cancelled) {
  const auto bits = static_cast<int>(format.element.bits);
  if (const auto* floats = std::get_if<FloatCodes>(&format.element.codes))
    return packWith(format, rows, FloatCoder{*floats, bits}, cancelled);
  if (const auto* integers = std::get_if<IntegerCodes>(&format.element.codes))
    return packWith(format, rows, IntegerCoder{*integers, bits}, cancelled);
  return packWith(format, rows, TableCoder(std::get<TableCodes>(format.element.codes)), cancelled);
}

}  // namespace ladder::pack
