// The statistics of a comparison, and which coordinates of an axis are compared. Which deviation is acceptable is decided in
// TypeScript, per format.
#pragma once

#include <cstdint>
#include <vector>

#include "reference.h"

namespace ladder::reference {

/// Sorted coordinates of an axis: all of them, or `most` at random, the first and the last always among them.
std::vector<int64_t> sampleAxis(int64_t extent, int64_t most, uint64_t seed);

/// Gathers the statistics of one tensor. A NaN on either side makes every one of them NaN.
class Deviation {
 public:
  void add(double device, double reference);
  /// For codes: how many steps of the format lie between the two.
  void addSteps(int64_t steps);
  Comparison finish(int64_t elements, int64_t nonFinite) const;

 private:
  int64_t compared_ = 0, differing_ = 0, differingByMore_ = 0;
  double maxAbsolute_ = 0, squaredDifference_ = 0, squaredReference_ = 0;
  bool poisoned_ = false;
};

}  // namespace ladder::reference
