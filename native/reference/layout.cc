// Expands mixed-radix layouts into offset tables and checks that they are bijections (lib/artifact/operators.ts, digitSchema).
#include "layout.h"

#include <algorithm>

#include "../runtime/error.h"

namespace ladder::reference {
namespace {

constexpr int64_t kUnset = -1;
constexpr int64_t kMaxExtent = int64_t{1} << 31;

[[noreturn]] void reject(const std::string& name, const std::string& what) {
  throw Error("BAD_ARGUMENT", "layout `" + name + "`: " + what);
}

LayoutAxis expandAxis(const std::string& name, const std::vector<Digit>& digits, char axis) {
  int64_t extent = 1;
  for (const Digit& digit : digits) {
    if (digit.axis != axis) continue;
    if (digit.size < 1 || digit.stride < 1) reject(name, "a digit's size and stride must be at least 1");
    if (extent > kMaxExtent / digit.size) reject(name, "the digits of axis " + std::string(1, axis) + " are too many");
    extent *= digit.size;
  }
  LayoutAxis result;
  result.stored.assign(static_cast<size_t>(extent), kUnset);
  result.logicalOfRank.resize(static_cast<size_t>(extent));

  // Digits from the innermost out: stored offsets advance by the sizes of all digits further in, ranks by this axis' only.
  struct Place { int64_t rankStride, storedStride, logicalStride, size; };
  std::vector<Place> places;
  int64_t storedStride = 1;
  int64_t rankStride = 1;
  result.tileSizes.push_back(1);
  bool adjacent = false;
  for (auto digit = digits.rbegin(); digit != digits.rend(); ++digit) {
    if (digit->axis == axis) {
      places.push_back({rankStride, storedStride, digit->stride, digit->size});
      rankStride *= digit->size;
      if (adjacent) result.tileSizes.back() = rankStride;
      else if (digit->size > 1) result.tileSizes.push_back(rankStride);
      adjacent = adjacent || digit->size > 1;
    } else if (digit->size > 1) {
      adjacent = false;
    }
    if (storedStride > (int64_t{1} << 52) / digit->size) reject(name, "it has too many elements");
    storedStride *= digit->size;
  }
  for (int64_t rank = 0; rank < extent; ++rank) {
    int64_t stored = 0;
    int64_t logical = 0;
    for (const Place& place : places) {
      const int64_t value = rank / place.rankStride % place.size;
      stored += value * place.storedStride;
      logical += value * place.logicalStride;
    }
    if (logical >= extent || result.stored[static_cast<size_t>(logical)] != kUnset) {
      reject(name, "the digits of axis " + std::string(1, axis) + " do not enumerate 0…" + std::to_string(extent - 1) + " once each");
    }
    result.stored[static_cast<size_t>(logical)] = stored;
    result.logicalOfRank[static_cast<size_t>(rank)] = logical;
  }
  return result;
}

}  // namespace

Layout expandLayout(const std::string& name, const std::vector<Digit>& digits, int64_t n, int64_t k) {
  for (const Digit& digit : digits) {
    if (digit.axis != 'n' && digit.axis != 'k') reject(name, "expected axis n or k for a digit but received '" + std::string(1, digit.axis) + "'");
    if (digit.size < 1 || digit.stride < 1) reject(name, "a digit's size and stride must be at least 1");
  }
  Layout layout{expandAxis(name, digits, 'n'), expandAxis(name, digits, 'k')};
  if (layout.n.extent() < n) reject(name, "expected at least " + std::to_string(n) + " rows but received " + std::to_string(layout.n.extent()));
  if (layout.k.extent() != k) reject(name, "expected " + std::to_string(k) + " columns but received " + std::to_string(layout.k.extent()));
  return layout;
}

}  // namespace ladder::reference
