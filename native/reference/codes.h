// Codes of numbers as data (lib/native.ts, Codes): floating point, integers, tables; and their one interpreter on this side.
// No format has a name here. Where the cells of a tensor lie is layout.h's business, scales are stored.h's.
// The TypeScript twin is lib/formats/codes.ts.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace ladder::reference {

/// Sign, exponent, mantissa from the top. Magnitudes beyond `maxCode` are NaN, but the first is infinity with `infinities`.
struct FloatCodes {
  int64_t exponentBits;
  int64_t mantissaBits;
  int64_t bias;
  int64_t maxCode;
  bool infinities;
  bool saturates;
  int64_t nanCode;
};

/// Two's complement, of which only min…max are made.
struct IntegerCodes {
  int64_t min;
  int64_t max;
};

/// Code i means values[i]; ascending.
struct TableCodes {
  std::vector<double> values;
  bool tiesUp;
};

using Codes = std::variant<FloatCodes, IntegerCodes, TableCodes>;

struct Element {
  int64_t bits = 0;
  Codes codes;
};

/// @throws ladder::Error BAD_ARGUMENT naming the field, UNSUPPORTED for codes that FP32 cannot hold
void checkElement(const std::string& where, const Element& element, int64_t cellBits);

/// Cells of one kind: what is stored of a number. A cell may be wider than the code in it: integers are sign-extended, and
/// of other codes the upper bits are 0; what is no code means NaN.
class Codec {
 public:
  /// The element has been checked.
  Codec(const Element& element, int64_t cellBits);

  int cellBits() const { return cellBits_; }
  float value(uint32_t cell) const { return values_[cell]; }
  /// Cells of the nearest codes; ties to even where the codes say nothing else.
  void encode(const float* values, int64_t count, uint16_t* cells) const;
  /// Position of a code in the order of the values: neighbours differ by 1; -0 and +0 coincide.
  int64_t order(uint32_t cell) const;

  uint32_t read(const uint8_t* cells, int64_t index) const;
  void write(uint8_t* cells, int64_t index, uint32_t cell) const;
  /// Values of `count` consecutive cells from `first` on.
  void decode(const uint8_t* cells, int64_t first, int64_t count, float* values) const;

 private:
  uint32_t encodeFloat(const FloatCodes& codes, float value) const;
  uint32_t encodeInteger(const IntegerCodes& codes, float value) const;
  uint32_t encodeTable(const TableCodes& codes, float value) const;

  Codes codes_;
  int bits_;
  int cellBits_;
  uint32_t cellMask_;
  std::vector<float> values_;      // of every cell
  std::vector<float> byteValues_;  // of every byte, where several cells make one
};

}  // namespace ladder::reference
