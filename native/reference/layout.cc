// Checks mixed-radix layouts and expands them into offset tables.
#include "layout.h"

#include <algorithm>

#include "../runtime/error.h"

namespace ladder::reference {
namespace {

constexpr int64_t kMaxPlaces = int64_t{1} << 52;

[[noreturn]] void reject(const std::string& where, const std::string& what) {
  throw Error("BAD_ARGUMENT", "layout `" + where + "`: " + what);
}

/// Sums of digit × stride hit each of 0…extent-1 exactly once if, and only if, the digits (those of size 1 aside) in order
/// of stride have stride 1, size₀, size₀·size₁, …
int64_t axisExtent(const std::string& where, const std::vector<Digit>& digits, const std::string& axis) {
  std::vector<Digit> own;
  for (const Digit& digit : digits) {
    if (digit.axis == axis && digit.size > 1) own.push_back(digit);
  }
  std::sort(own.begin(), own.end(), [](const Digit& a, const Digit& b) { return a.stride < b.stride; });
  int64_t extent = 1;
  for (const Digit& digit : own) {
    if (digit.stride != extent) {
      reject(where, "the digits of axis " + axis + " do not enumerate its coordinates once each: one has stride " +
                        std::to_string(digit.stride) + " where " + std::to_string(extent) + " would continue it");
    }
    extent *= digit.size;
  }
  return extent;
}

LayoutAxis expandAxis(const std::vector<Digit>& digits, const std::string& axis) {
  // Digits from the innermost out: stored offsets advance by the sizes of all digits further in, ranks by this axis' only.
  struct Place { int64_t rankStride, storedStride, logicalStride, size; };
  std::vector<Place> places;
  LayoutAxis result;
  result.tileSizes.push_back(1);
  int64_t storedStride = 1;
  int64_t extent = 1;
  bool adjacent = false;
  for (auto digit = digits.rbegin(); digit != digits.rend(); ++digit) {
    if (digit->size == 1) continue;
    if (digit->axis == axis) {
      places.push_back({extent, storedStride, digit->stride, digit->size});
      extent *= digit->size;
      if (adjacent) result.tileSizes.back() = extent;
      else result.tileSizes.push_back(extent);
    }
    adjacent = digit->axis == axis;
    storedStride *= digit->size;
  }
  result.stored.resize(static_cast<size_t>(extent));
  result.logicalOfRank.resize(static_cast<size_t>(extent));
  for (int64_t rank = 0; rank < extent; ++rank) {
    int64_t stored = 0;
    int64_t logical = 0;
    for (const Place& place : places) {
      const int64_t value = rank / place.rankStride % place.size;
      stored += value * place.storedStride;
      logical += value * place.logicalStride;
    }
    result.stored[static_cast<size_t>(logical)] = stored;
    result.logicalOfRank[static_cast<size_t>(rank)] = logical;
  }
  return result;
}

}  // namespace

int64_t checkLayout(const std::string& where, const std::vector<Digit>& digits, const std::vector<Axis>& axes) {
  int64_t places = 1;
  for (const Digit& digit : digits) {
    const auto named = [&](const Axis& axis) { return axis.name == digit.axis; };
    if (std::none_of(axes.begin(), axes.end(), named))
      reject(where, "a digit is of axis \"" + digit.axis + "\", which is none of its axes");
    if (digit.size < 1 || digit.stride < 1) reject(where, "a digit's size and stride must be at least 1");
    if (digit.size > kMaxPlaces / places) reject(where, "it has too many places");
    places *= digit.size;
  }
  for (const Axis& axis : axes) {
    const int64_t extent = axisExtent(where, digits, axis.name);
    if (extent < axis.extent)
      reject(where, "expected at least " + std::to_string(axis.extent) + " places along axis " + axis.name + " but received " +
                        std::to_string(extent));
  }
  return places;
}

Layout expandLayout(const std::vector<Digit>& digits, const std::vector<Axis>& axes) {
  Layout layout;
  for (const Axis& axis : axes) layout.axes.push_back(expandAxis(digits, axis.name));
  return layout;
}

}  // namespace ladder::reference
