// The reference operators' whole surface: each operator of lib/artifact/operators.ts in plain C++ on the host, the fill
// generator of lib/artifact/manifest.ts, and the comparison of a device's outputs with them.
// Knows host buffers only; CUDA, TVM and JavaScript are left to the callers.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace ladder::reference {

/// One digit of a mixed-radix layout (operators.ts, digitSchema).
struct Digit {
  char axis;  // 'n' or 'k'
  int64_t stride;
  int64_t size;
};

/// An operator's semantics, flattened: a nested `norm` becomes strings["norm.kind"] and numbers["norm.eps"]; booleans are
/// 0 or 1 in `numbers`; layouts that are null are absent.
struct OperatorSpec {
  std::string op;  // dense | norm | quantise | attention
  std::map<std::string, double> numbers;
  std::map<std::string, std::string> strings;
  std::map<std::string, std::vector<Digit>> layouts;
};

struct Buffer {
  const void* data;
  size_t bytes;
};
struct MutableBuffer {
  void* data;
  size_t bytes;
};

/// Runs the operator on host buffers. `cancelled` may be null; when it becomes true the call ends with ABORTED.
/// @throws ladder::Error
void runOperator(const OperatorSpec& spec, const std::vector<Buffer>& inputs, const std::vector<MutableBuffer>& outputs,
                 const std::atomic<bool>* cancelled);

/// manifest.ts, fillSchema.
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

/// Compares each output of the device with the reference, which is computed for the sampled rows and columns only.
/// One result per output.
std::vector<Comparison> compareOperator(const OperatorSpec& spec, const std::vector<Buffer>& inputs,
                                        const std::vector<Buffer>& deviceOutputs, const CompareOptions& options);

}  // namespace ladder::reference
