// Values and their tensors: what the codes and scales of a value mean, where they lie, and regions of them as real numbers.
// The one place that knows cells, scales and layouts together; primitives see none of it but dense, for its speed.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "codes.h"
#include "program.h"
#include "region.h"

namespace ladder::reference {

/// A value's tables, made once.
struct ValueTables {
  /// `stored`: with the tables of its layouts. @throws nothing on a value that checkProgram has seen
  ValueTables(const Value& source, bool stored);

  const Value* value;
  std::unique_ptr<Codec> codec;  // null: numbers
  /// Coordinates that share a scale, by axis.
  std::vector<int64_t> sharing;
  Layout layout;
  Layout scaleLayout;  // by the value's axes
  /// Places of the layouts, padding included.
  int64_t places = 0;
  int64_t scalePlaces = 0;

  bool quantised() const { return codec != nullptr; }
  Region whole() const;
  Region wholeScales() const;
  /// The scales that the numbers of a region have.
  Region scalesOf(const Region& region) const;
  /// All the numbers that share these scales.
  Region sharedBy(const Region& region) const;
  /// By axis: the scale of each coordinate of `region`, as a place of `scales` laid out densely.
  std::vector<std::vector<int64_t>> scaleOffsets(const Region& region, const Region& scales) const;
  /// The same as stored places; empty where there are no scales.
  std::vector<std::vector<int64_t>> storedScaleOffsets(const Region& region) const;
};

/// Stored places of a region's numbers, and of its scales.
Walk storedWalk(const Layout& layout, const Region& region);

float decodeScale(ScaleType type, uint32_t bits);
uint32_t readScale(ScaleType type, const uint8_t* scales, int64_t index);
void writeScale(ScaleType type, uint8_t* scales, int64_t index, uint32_t bits);

/// A value and its buffers, whose sizes have been checked.
struct StoredTensor {
  const ValueTables* tables = nullptr;
  const uint8_t* data = nullptr;
  const uint8_t* scales = nullptr;  // null: there are none
};

/// Reads a region of a stored value, row by row.
class StoredReader {
 public:
  StoredReader(const StoredTensor& tensor, const Region& region);
  int64_t rows() const { return places_.rows(); }
  int64_t columns() const { return places_.columns(); }
  template <typename Real>
  void readRow(int64_t row, Real* target) const;

 private:
  void readNumbers(int64_t offset, float* target) const;

  StoredTensor tensor_;
  Walk places_;
  Walk scales_;  // stored places of each number's scale
};

}  // namespace ladder::reference
