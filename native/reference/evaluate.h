// Evaluates programs: from the coordinates that are wanted of the outputs, back to what every node must compute for them,
// then forward. What a node computes is its primitive's business; what becomes of the results is the caller's (run.cc, compare.cc).
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "../runtime/error.h"
#include "primitives.h"
#include "reference.h"

namespace ladder::reference {

/// A program that has been checked, with its nodes' primitives and its values' tables.
class Prepared {
 public:
  /// @throws ladder::Error BAD_ARGUMENT, UNSUPPORTED, WRONG_LENGTH unless the tensors have these sizes
  Prepared(Program source, const std::vector<size_t>& inputBytes, const std::vector<size_t>& outputBytes);
  Prepared(const Prepared&) = delete;
  Prepared& operator=(const Prepared&) = delete;

  const Program& program() const { return program_; }
  /// Not for inputs that nothing reads.
  const ValueTables& tables(uint32_t value) const { return *tables_[value]; }
  const Primitive& primitive(size_t node) const { return *primitives_[node]; }
  /// Whether a node computes the value.
  bool isComputed(uint32_t value) const { return computed_[value]; }
  /// @throws ladder::Error WRONG_LENGTH unless the buffers have the sizes that were prepared for
  template <typename Buffers>
  void requireInputs(const Buffers& buffers) const {
    requireSizes("inputs", inputBytes_, buffers);
  }
  template <typename Buffers>
  void requireOutputs(const Buffers& buffers) const {
    requireSizes("outputs", outputBytes_, buffers);
  }

 private:
  template <typename Buffers>
  static void requireSizes(const char* what, const std::vector<size_t>& bytes, const Buffers& buffers) {
    bool same = bytes.size() == buffers.size();
    for (size_t i = 0; same && i < bytes.size(); ++i) same = bytes[i] == buffers[i].bytes;
    if (!same) throw Error("WRONG_LENGTH", std::string("expected ") + what + " of the sizes that the operator was prepared for");
  }
  void checkBuffers(const char* what, const std::vector<uint32_t>& values, const std::vector<size_t>& bytes) const;
  std::string tensorName(uint32_t value, bool scales) const;

  Program program_;
  std::vector<std::unique_ptr<ValueTables>> tables_;
  std::vector<std::unique_ptr<Primitive>> primitives_;
  std::vector<bool> computed_;
  std::vector<size_t> inputBytes_, outputBytes_;
};

/// Takes what was computed of an output: at least the region that was asked, numbers not yet rounded to their type.
/// One output's regions come in chunks, which may overlap where numbers share scales.
template <typename Real>
using Sink = std::function<void(size_t output, const Region& asked, const Computed<Real>& result)>;

/// Evaluates the regions, one per output, of a program whose inputs are these buffers.
/// @throws ladder::Error WRONG_LENGTH for another number of buffers, ABORTED, OUT_OF_MEMORY
template <typename Real>
void evaluate(const Prepared& prepared, const std::vector<Buffer>& inputs, const std::vector<Region>& asked, const Sink<Real>& sink,
              const CancelFlag* cancelled);

}  // namespace ladder::reference
