// Operator specifications as typed structs, and their buffers: every size is checked here, once, before anything computes.
// Follows lib/artifact/operators.ts. The arithmetic is left to dense.cc, attention.cc and activation.cc.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "layout.h"
#include "reference.h"

namespace ladder::reference {

enum class WeightFormat { kFp16, kInt4, kNf4, kFp8E5m2, kFp8E4m3, kMxfp8E5m2, kMxfp8E4m3, kInt1 };
enum class ActivationFormat { kFp16, kFp8E5m2, kFp8E4m3, kMxfp8E5m2, kMxfp8E4m3, kInt8, kInt4 };
enum class NormKind { kNone, kRms, kLayer };
enum class Function { kNone, kSiluMul, kGeluTanh };

inline constexpr int64_t kMxBlock = 32;

int weightBits(WeightFormat format);
bool isMx(WeightFormat format);
bool isMx(ActivationFormat format);
inline bool isInteger(ActivationFormat format) { return format == ActivationFormat::kInt8 || format == ActivationFormat::kInt4; }

/// What turns x float16 [m,k] into the values that are multiplied.
struct ActivationSpec {
  int64_t m;
  int64_t k;
  NormKind norm;
  double eps;
  ActivationFormat format;
};

struct DenseSpec {
  ActivationSpec activation;
  int64_t n;
  WeightFormat weight;
  int64_t group;  // -1, or weights per scale along k
  bool quantisedInput;
  bool bias;
  bool residual;
  int64_t prefetch;  // bytes of an input that nothing comes of, or 0
  Function function;
  Layout layout;
  Layout scaleLayout;  // empty unless group != -1
  int64_t outputColumns() const { return function == Function::kSiluMul ? n / 2 : n; }
};

struct AttentionSpec {
  int64_t batch, seq, heads, kvHeads, headDim;
  bool interleaved;
  bool rope;  // otherwise ALiBi
  double ropeBase;
  int64_t rows() const { return batch * seq; }
  int64_t inputColumns() const { return (heads + 2 * kvHeads) * headDim; }
  int64_t outputColumns() const { return heads * headDim; }
};

/// Inputs of a dense product by meaning; absent ones are null.
struct DenseInputs {
  const void* x = nullptr;       // float16, int8 or FP8 codes [m,k]
  const void* xScale = nullptr;  // float [m], or E8M0 [m,k/32]
  const uint8_t* weight = nullptr;
  const void* scale = nullptr;   // float16, or E8M0
  const uint16_t* gain = nullptr;
  const uint16_t* beta = nullptr;
  const uint16_t* bias = nullptr;
  const uint16_t* residual = nullptr;
};

/// Inputs of norm and quantise.
struct ActivationInputs {
  const uint16_t* x = nullptr;
  const uint16_t* gain = nullptr;
  const uint16_t* beta = nullptr;
};

/// @throws ladder::Error BAD_ARGUMENT naming the field that is missing or out of range, UNSUPPORTED for a combination without meaning
DenseSpec parseDense(const OperatorSpec& spec);
/// For op norm and op quantise.
ActivationSpec parseActivation(const OperatorSpec& spec);
AttentionSpec parseAttention(const OperatorSpec& spec);

/// @throws ladder::Error WRONG_LENGTH naming the tensor whose buffer does not have its size
DenseInputs bindDense(const DenseSpec& spec, const std::vector<Buffer>& inputs);
ActivationInputs bindActivation(const ActivationSpec& spec, const std::vector<Buffer>& inputs);
const uint16_t* bindAttention(const AttentionSpec& spec, const std::vector<Buffer>& inputs);

/// Bytes of each output.
std::vector<int64_t> outputBytes(const DenseSpec& spec);
std::vector<int64_t> outputBytes(const ActivationSpec& spec);
std::vector<int64_t> outputBytes(const AttentionSpec& spec);

/// @throws ladder::Error WRONG_LENGTH unless there is one buffer of each size; `sizes` is what outputBytes gave
void checkOutputs(const std::vector<int64_t>& expected, const std::vector<size_t>& sizes);

}  // namespace ladder::reference
