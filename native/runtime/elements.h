// What is said of every element of whole tensors on the host: finite, written, the same in two of them. On all cores, as
// tensors of gigabytes are looked through; what the numbers mean is the reference's business.
#pragma once

#include <atomic>
#include <optional>

#include "plan.h"

namespace ladder::runtime {

using CancelFlag = std::atomic<bool>;

/// A tensor, or a stretch of whole elements of one. `cancelled` below may be null; when it becomes true a call ends with ABORTED.
struct Elements {
  const DataType& type;
  const uint8_t* data;
  uint64_t bytes;
};

/// Lanes that are infinite or NaN; 0 for types that have neither.
int64_t countNonFinite(const Elements& elements, const CancelFlag* cancelled);

/// Elements of which every byte is still the poison that was there before, in two runs with a poison each.
int64_t countUnwritten(const Elements& first, const uint8_t* second, const uint8_t (&poisons)[2], const CancelFlag* cancelled);

/// Whether two stretches of memory are the same, bit by bit.
bool sameBytes(const uint8_t* first, const uint8_t* second, uint64_t bytes, const CancelFlag* cancelled);

/// How far numbers lie from others. NaN on either side makes both NaN.
struct Difference {
  double largest;     // max |a − b|
  double relativeL2;  // ‖a − b‖₂ / ‖b‖₂; between zeros 0
};

/// @returns nothing for types whose values a byte does not say (FP8 codes, packed lanes, handles)
std::optional<Difference> difference(const Elements& elements, const uint8_t* others, const CancelFlag* cancelled);

}  // namespace ladder::runtime
