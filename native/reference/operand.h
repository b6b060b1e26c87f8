// What primitives compute with: results of earlier nodes, dense over a region, and inputs of either kind, as real numbers.
// Real is float for inference and double for comparison. Rounding a result to its type happens here, once it is computed.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "stored.h"

namespace ladder::reference {

using CancelFlag = std::atomic<bool>;

/// A region of a value that a node has computed. Of a quantised one its codes and scales come first.
template <typename Real>
struct Computed {
  const ValueTables* tables = nullptr;
  Region region;
  std::vector<Real> reals;
  std::vector<uint16_t> codes;      // cells
  std::vector<uint32_t> scaleBits;  // over tables->scalesOf(region), as they are stored

  /// Makes of the result what later nodes read: binary16 numbers are rounded, codes become reals.
  void settle(const CancelFlag* cancelled);
};

/// An input of a node: stored, or computed before.
template <typename Real>
class Operand {
 public:
  explicit Operand(const StoredTensor& stored) : stored_(stored) {}
  explicit Operand(const Computed<Real>& computed) : computed_(&computed) {}

  /// Null unless it is stored.
  const StoredTensor* stored() const { return computed_ ? nullptr : &stored_; }
  /// A region of it, dense. From one thread.
  void gather(const Region& region, Real* target) const;
  /// The same from several threads, or without a copy where it lies there already; `scratch` may hold it.
  const Real* view(const Region& region, std::vector<Real>& scratch, const CancelFlag* cancelled) const;

 private:
  StoredTensor stored_;
  const Computed<Real>* computed_ = nullptr;
};

}  // namespace ladder::reference
