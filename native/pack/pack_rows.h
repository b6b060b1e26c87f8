// Rows of a float matrix into a checkpoint's storage: quantised per row, group or MX block, codes and scales put where the layout says.
// Formats and places are data (lib/compiler/pack/pack.ts); nothing here knows a format's name.
// For MX follows OCP MX v1.0, section 6.3.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>

#include "../reference/program.h"

namespace ladder::pack {

/// How the numbers of the rows are stored, little-endian.
enum class Number { kF32, kF16, kBf16 };

/// How scales follow from the weights that share them.
enum class Choice {
  kLargest,       ///< from the largest magnitude (of 1 bit: from the mean)
  kLeastSquares,  ///< the one of a grid below it whose error is least
};

struct Format {
  reference::Element element;
  std::optional<reference::Scale> scale;  ///< float16 or E8M0
  Choice choice = Choice::kLargest;
};

/// A stretch of rows. Places count cells (or scales) from the start of the stored tensor.
struct Rows {
  const uint8_t* numbers;        ///< [rows, columns], row-major
  Number type;
  int64_t rows, columns, group;  ///< `group` divides `columns`; numbers of a group share a scale
  const double* rowPlaces;       ///< [rows]
  const double* columnPlaces;    ///< [columns]; a cell lies at the sum of both
  const double* scaleRowPlaces;    ///< [rows], null without scales
  const double* scaleGroupPlaces;  ///< [columns / group]
  const float* scales;           ///< [rows, columns / group] where they are given, numbers that float16 holds; else null
  uint8_t* weight;               ///< the whole stored tensor, zeros so far
  uint8_t* scale;                ///< the whole stored tensor
  double* squares;               ///< [rows, 2], written where it is not null: Σ (w − stored)² and Σ w² of each row
};

/// What cannot be stored.
struct Fault {
  enum class Kind {
    kNumber,    ///< infinite, NaN, or more than the format holds
    kLarge,     ///< its group's scale would be more than float16 holds
    kTiny,      ///< its group's scale is so small that float16 holds it too roughly
  };
  Kind kind;
  int64_t row, column;
  float value;
};

/// Stores the rows, on all cores. @returns the first fault, in the order of rows; what was stored is then of no use
/// @throws ladder::Error ABORTED
std::optional<Fault> packRows(const Format& format, const Rows& rows, const std::atomic<bool>* cancelled);

}  // namespace ladder::pack
