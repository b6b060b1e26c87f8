// The reference's whole surface: what programs compute, in plain C++ on the host, the fill generator of lib/native.ts' Fill,
// and the comparison of a device's outputs with them.
// Knows host buffers only; CUDA, TVM and JavaScript are left to the callers.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "program.h"

namespace ladder::reference {

struct Buffer {
  const void* data;
  size_t bytes;
};
struct MutableBuffer {
  void* data;
  size_t bytes;
};

/// lib/native.ts, Fill.
struct FillSpec {
  int kind;  // 0 bits, 1 uniform, 2 code
  float low;
  float high;
  uint8_t base;
  uint8_t mask;
  bool isSigned;
};

/// Writes `bytes` bytes of a tensor of that DLPack type, beginning with element `firstElement`.
/// @throws ladder::Error UNSUPPORTED for a type that the kind does not define
void fill(const FillSpec& spec, uint64_t key, uint8_t typeCode, uint8_t bits, uint64_t firstElement, void* target, size_t bytes);

struct CompareOptions {
  uint64_t seed;
  int64_t maxColumns;  // 0: all
  int64_t maxRows;     // 0: all
};

struct Comparison {
  int64_t compared;
  int64_t elements;
  int64_t nonFinite;
  double maxAbsolute;
  double relativeL2;
  double maxOverRms;
  double differing;
  double differingByMore;
};

class Prepared;

/// A program and the sizes of its buffers, checked and ready to be computed again and again, from several threads too.
/// Buffers: the tensors of each input, then of each output; of a quantised value its codes, then its scales if it has some.
class Operator {
 public:
  /// @throws ladder::Error BAD_ARGUMENT naming node and field, UNSUPPORTED for what has no meaning, WRONG_LENGTH naming the
  ///   tensor whose buffer does not have its size
  Operator(Program program, const std::vector<size_t>& inputBytes, const std::vector<size_t>& outputBytes);
  ~Operator();
  Operator(Operator&& other) noexcept;
  Operator& operator=(Operator&& other) noexcept;

  /// Computes all of the outputs, in FP32. `cancelled` may be null; when it becomes true the call ends with ABORTED.
  void run(const std::vector<Buffer>& inputs, const std::vector<MutableBuffer>& outputs, const std::atomic<bool>* cancelled) const;

  /// Compares what a device wrote with sampled coordinates in FP64: of the first axis at most `maxRows`, of the last one
  /// `maxColumns`, all of any others. One result per tensor.
  std::vector<Comparison> compare(const std::vector<Buffer>& inputs, const std::vector<Buffer>& deviceOutputs,
                                  const CompareOptions& options, const std::atomic<bool>* cancelled) const;

 private:
  std::unique_ptr<const Prepared> prepared_;
};

/// Both of them once, for programs that are not kept.
void runProgram(const Program& program, const std::vector<Buffer>& inputs, const std::vector<MutableBuffer>& outputs,
                const std::atomic<bool>* cancelled);
std::vector<Comparison> compareOperator(const Program& program, const std::vector<Buffer>& inputs, const std::vector<Buffer>& deviceOutputs,
                                        const CompareOptions& options);

}  // namespace ladder::reference
