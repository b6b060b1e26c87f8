// Mixed-radix layouts of two-dimensional tensors (lib/artifact/operators.ts, digitSchema) as offset tables:
// storedIndex(n, k) = n.stored[n] + k.stored[k]. What the elements mean is left to weights.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "reference.h"

namespace ladder::reference {

/// One axis of a layout. "Rank": position in the order in which storage visits the axis.
struct LayoutAxis {
  /// Stored offset of each logical coordinate.
  std::vector<int64_t> stored;
  /// Logical coordinate of each rank: rank order is ascending stored offset.
  std::vector<int64_t> logicalOfRank;
  /// Products of the innermost digits, ascending, from 1 to the extent, adjacent digits of one axis merged: tiles of these
  /// sizes look alike wherever they lie.
  std::vector<int64_t> tileSizes;
  int64_t extent() const { return static_cast<int64_t>(stored.size()); }
};

struct Layout {
  LayoutAxis n;
  LayoutAxis k;
  int64_t elements() const { return n.extent() * k.extent(); }
};

/// Checks the digits and expands them. N may be padded, K not.
/// @throws ladder::Error BAD_ARGUMENT unless each axis' digits enumerate 0…extent-1 once, extent N >= n and extent K == k
Layout expandLayout(const std::string& name, const std::vector<Digit>& digits, int64_t n, int64_t k);

}  // namespace ladder::reference
