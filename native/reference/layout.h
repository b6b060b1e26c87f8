// Mixed-radix layouts (lib/operators/program.ts, Layout) over named axes as offset tables: a stored index is the sum of
// one table's entry per axis. What the stored cells mean is left to stored.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ladder::reference {

struct Axis {
  std::string name;
  int64_t extent;
};

/// One digit; the first is outermost. The coordinate along `axis` is the sum of digit × stride over that axis' digits.
struct Digit {
  std::string axis;
  int64_t stride;
  int64_t size;
};

/// One axis of a layout. "Rank": position in the order in which storage visits the axis.
struct LayoutAxis {
  /// Stored offset of each coordinate, those of padding included.
  std::vector<int64_t> stored;
  /// Coordinate of each rank: rank order is ascending stored offset.
  std::vector<int64_t> logicalOfRank;
  /// Products of the innermost digits, ascending, from 1 to the extent, adjacent digits of one axis merged: tiles of these
  /// sizes look alike wherever they lie.
  std::vector<int64_t> tileSizes;
  int64_t extent() const { return static_cast<int64_t>(stored.size()); }
};

/// One LayoutAxis per axis, in the order of the value's axes.
struct Layout { std::vector<LayoutAxis> axes; };

/// Checks the digits and returns the number of stored places, without making any table.
/// @throws ladder::Error BAD_ARGUMENT unless every digit is of one of the axes, and each axis' digits enumerate
///   0…extent-1 once each, with an extent of at least the axis' own: what is beyond it is padding
int64_t checkLayout(const std::string& where, const std::vector<Digit>& digits, const std::vector<Axis>& axes);

/// The tables of a layout that has been checked.
Layout expandLayout(const std::vector<Digit>& digits, const std::vector<Axis>& axes);

}  // namespace ladder::reference
