// Interprets codes that are data. Cells of 8 bits and less are decoded through a table with one row of values per byte.
#include "codes.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "../runtime/error.h"
#include "floats.h"

namespace ladder::reference {
namespace {

constexpr int64_t kMaxCellBits = 16;

[[noreturn]] void refuse(const std::string& where, const char* field, const std::string& expected, const std::string& received) {
  throw Error("BAD_ARGUMENT", "expected " + expected + " for `" + where + "." + field + "` but received " + received);
}

void checkRange(const std::string& where, const char* field, int64_t value, int64_t least, int64_t most) {
  if (value >= least && value <= most) return;
  refuse(where, field, "an integer from " + std::to_string(least) + " to " + std::to_string(most), std::to_string(value));
}

void checkCodes(const std::string& where, int64_t bits, const FloatCodes& codes) {
  checkRange(where, "exponentBits", codes.exponentBits, 1, 8);
  checkRange(where, "mantissaBits", codes.mantissaBits, 0, kMaxCellBits - 2);
  if (codes.exponentBits + codes.mantissaBits + 1 != bits) {
    refuse(where, "exponentBits", "sign, exponent and mantissa of " + std::to_string(bits) + " bits in all",
           std::to_string(codes.exponentBits) + " with " + std::to_string(codes.mantissaBits) + " bits of mantissa");
  }
  const int64_t magnitudes = int64_t{1} << (bits - 1);
  // Infinity, made or met, has the code after the largest finite one.
  checkRange(where, "maxCode", codes.maxCode, 1, magnitudes - (codes.infinities || !codes.saturates ? 2 : 1));
  checkRange(where, "nanCode", codes.nanCode, 0, 2 * magnitudes - 1);
  checkRange(where, "bias", codes.bias, -100, 127);
  if ((codes.maxCode >> codes.mantissaBits) - codes.bias > 127 || 1 - codes.bias - codes.mantissaBits < -149) {
    throw Error("UNSUPPORTED", "`" + where + "`: floating-point codes whose values FP32 does not hold");
  }
}

void checkCodes(const std::string& where, int64_t bits, const IntegerCodes& codes) {
  const int64_t magnitudes = int64_t{1} << (bits - 1);
  checkRange(where, "min", codes.min, -magnitudes, 0);
  checkRange(where, "max", codes.max, 0, magnitudes - 1);
}

void checkCodes(const std::string& where, int64_t bits, const TableCodes& codes) {
  const size_t most = size_t{1} << bits;
  if (codes.values.empty() || codes.values.size() > most) {
    refuse(where, "values", "1 to " + std::to_string(most) + " values", std::to_string(codes.values.size()));
  }
  for (size_t i = 0; i < codes.values.size(); ++i) {
    if (!(std::fabs(codes.values[i]) <= std::numeric_limits<float>::max()))
      refuse(where, "values", "numbers that FP32 holds", std::to_string(codes.values[i]));
    if (i > 0 && !(codes.values[i] > codes.values[i - 1])) refuse(where, "values", "ascending numbers", "another order");
  }
}

float decodeFloat(const FloatCodes& codes, int bits, uint32_t code) {
  const int mantissaBits = static_cast<int>(codes.mantissaBits);
  const uint32_t signBit = 1u << (bits - 1);
  const uint32_t magnitude = code & (signBit - 1);
  double value;
  if (magnitude > static_cast<uint32_t>(codes.maxCode)) {
    const bool infinite = codes.infinities && magnitude == static_cast<uint32_t>(codes.maxCode) + 1;
    value = infinite ? std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  } else {
    const int exponent = static_cast<int>(magnitude >> mantissaBits);
    const uint32_t mantissa = magnitude & ((1u << mantissaBits) - 1);
    const uint32_t significand = exponent == 0 ? mantissa : mantissa + (1u << mantissaBits);
    value = std::ldexp(static_cast<double>(significand), std::max(exponent, 1) - static_cast<int>(codes.bias) - mantissaBits);
  }
  return static_cast<float>(code & signBit ? -value : value);
}

template <int PerByte>
void decodeBytes(const uint8_t* source, int64_t bytes, const float* table, float* values) {
#pragma GCC unroll 4
  for (int64_t i = 0; i < bytes; ++i) std::memcpy(values + i * PerByte, table + size_t{source[i]} * PerByte, PerByte * sizeof(float));
}

}  // namespace

void checkElement(const std::string& where, const Element& element, int64_t cellBits) {
  checkRange(where, "bits", element.bits, 1, kMaxCellBits);
  if (cellBits < element.bits || cellBits > kMaxCellBits) {
    throw Error("BAD_ARGUMENT", "expected " + std::to_string(element.bits) + " to " + std::to_string(kMaxCellBits) + " `cellBits` for `" +
                                    where + "` but received " + std::to_string(cellBits));
  }
  std::visit([&](const auto& codes) { checkCodes(where + ".codes", element.bits, codes); }, element.codes);
}

Codec::Codec(const Element& element, int64_t cellBits)
    : codes_(element.codes), bits_(static_cast<int>(element.bits)), cellBits_(static_cast<int>(cellBits)), cellMask_((1u << cellBits) - 1) {
  for (uint32_t cell = 0; cell <= cellMask_; ++cell) {
    float value = std::numeric_limits<float>::quiet_NaN();
    if (const auto* floats = std::get_if<FloatCodes>(&codes_)) {
      if (cell >> bits_ == 0) value = decodeFloat(*floats, bits_, cell);
    } else if (const auto* table = std::get_if<TableCodes>(&codes_)) {
      if (cell < table->values.size()) value = static_cast<float>(table->values[cell]);
    } else {
      value = static_cast<float>(order(cell));
    }
    values_.push_back(value);
  }
  if (cellBits_ >= 8 || 8 % cellBits_ != 0) return;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    for (int shift = 0; shift < 8; shift += cellBits_) byteValues_.push_back(values_[byte >> shift & cellMask_]);
  }
}

uint32_t Codec::encodeFloat(const FloatCodes& codes, float value) const {
  const uint32_t bits = bitsOf(value) & 0x7fffffffu;
  if (bits > 0x7f800000u) return static_cast<uint32_t>(codes.nanCode);
  const uint32_t code = encodeMagnitude(bits, static_cast<int>(codes.mantissaBits), static_cast<int>(codes.bias));
  const auto maxCode = static_cast<uint32_t>(codes.maxCode);
  return (bitsOf(value) >> 31) << (bits_ - 1) | (code > maxCode ? maxCode + !codes.saturates : code);
}

uint32_t Codec::encodeTable(const TableCodes& codes, float value) const {
  uint32_t low = 0;
  uint32_t high = static_cast<uint32_t>(codes.values.size()) - 1;
  while (low < high) {
    const uint32_t code = (low + high) / 2;
    const double middle = (codes.values[code] + codes.values[code + 1]) / 2;  // where `code` ends and the next one begins
    if (codes.tiesUp ? value >= middle : value > middle) low = code + 1;
    else high = code;
  }
  return low;
}

uint32_t Codec::encodeInteger(const IntegerCodes& codes, float value) const {
  const float rounded = std::max(static_cast<float>(codes.min), std::min(static_cast<float>(codes.max), roundHalfEven(value)));
  return static_cast<uint32_t>(static_cast<int32_t>(rounded)) & cellMask_;
}

void Codec::encode(const float* values, int64_t count, uint16_t* cells) const {
  const auto all = [&](const auto& one) {
    for (int64_t i = 0; i < count; ++i) cells[i] = static_cast<uint16_t>(one(values[i]));
  };
  if (const auto* floats = std::get_if<FloatCodes>(&codes_)) all([&](float value) { return encodeFloat(*floats, value); });
  else if (const auto* integers = std::get_if<IntegerCodes>(&codes_)) all([&](float value) { return encodeInteger(*integers, value); });
  else all([&](float value) { return encodeTable(std::get<TableCodes>(codes_), value); });
}

int64_t Codec::order(uint32_t cell) const {
  if (std::holds_alternative<IntegerCodes>(codes_)) {
    return static_cast<int64_t>(cell) - (cell >> (cellBits_ - 1) ? static_cast<int64_t>(cellMask_) + 1 : 0);
  }
  if (std::holds_alternative<TableCodes>(codes_) || cell >> (bits_ - 1) == 0) return cell;
  return -static_cast<int64_t>(cell & ((1u << (bits_ - 1)) - 1));
}

uint32_t Codec::read(const uint8_t* cells, int64_t index) const {
  if (cellBits_ == 8) return cells[index];
  const int64_t bit = index * cellBits_;
  const uint8_t* from = cells + (bit >> 3);
  const int shift = static_cast<int>(bit & 7);
  uint32_t word = from[0];
  if (shift + cellBits_ > 8) word |= static_cast<uint32_t>(from[1]) << 8;
  if (shift + cellBits_ > 16) word |= static_cast<uint32_t>(from[2]) << 16;
  return word >> shift & cellMask_;
}

void Codec::write(uint8_t* cells, int64_t index, uint32_t cell) const {
  const int64_t bit = index * cellBits_;
  const int shift = static_cast<int>(bit & 7);
  const uint32_t mask = cellMask_ << shift;
  const uint32_t word = cell << shift;
  for (int byte = 0; byte * 8 < shift + cellBits_; ++byte) {
    uint8_t& target = cells[(bit >> 3) + byte];
    target = static_cast<uint8_t>((target & ~(mask >> (8 * byte))) | (word >> (8 * byte)));
  }
}

void Codec::decode(const uint8_t* cells, int64_t first, int64_t count, float* values) const {
  if (cellBits_ == 8) return decodeBytes<1>(cells + first, count, values_.data(), values);
  const auto one = [&] {
    *values++ = values_[read(cells, first++)];
    --count;
  };
  if (!byteValues_.empty()) {
    const int perByte = 8 / cellBits_;
    while (count > 0 && first % perByte != 0) one();
    const int64_t bytes = count / perByte;
    const uint8_t* source = cells + first / perByte;
    if (perByte == 2) decodeBytes<2>(source, bytes, byteValues_.data(), values);
    else if (perByte == 4) decodeBytes<4>(source, bytes, byteValues_.data(), values);
    else decodeBytes<8>(source, bytes, byteValues_.data(), values);
    first += bytes * perByte;
    values += bytes * perByte;
    count -= bytes * perByte;
  }
  while (count > 0) one();
}

}  // namespace ladder::reference
