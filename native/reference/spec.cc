// Reads operator specifications, binds their buffers and checks every field and size (lib/artifact/operators.ts).
#include "spec.h"

#include <cmath>
#include <initializer_list>
#include <utility>

#include "../runtime/error.h"

namespace ladder::reference {
namespace {

constexpr double kMaxDimension = 2147483647.0;

/// Fields of one specification, by name.
class Fields {
 public:
  explicit Fields(const OperatorSpec& spec) : spec_(spec) {}

  double number(const std::string& name) const {
    const auto found = spec_.numbers.find(name);
    if (found == spec_.numbers.end()) throw Error("BAD_ARGUMENT", spec_.op + ": `" + name + "` is missing", {{"operator", spec_.op}});
    return found->second;
  }
  double positive(const std::string& name) const {
    const double value = number(name);
    if (!(value > 0) || !std::isfinite(value)) reject(name, "a positive number", std::to_string(value));
    return value;
  }
  int64_t dimension(const std::string& name) const {
    const double value = number(name);
    if (!(value >= 1 && value <= kMaxDimension) || value != std::floor(value)) reject(name, "an integer of at least 1", std::to_string(value));
    return static_cast<int64_t>(value);
  }
  bool has(const std::string& name) const { return spec_.numbers.count(name) != 0; }
  bool flag(const std::string& name) const {
    const double value = number(name);
    if (value != 0 && value != 1) reject(name, "0 or 1", std::to_string(value));
    return value == 1;
  }
  template <typename T>
  T choice(const std::string& name, std::initializer_list<std::pair<const char*, T>> choices) const {
    const auto found = spec_.strings.find(name);
    if (found == spec_.strings.end()) throw Error("BAD_ARGUMENT", spec_.op + ": `" + name + "` is missing", {{"operator", spec_.op}});
    std::string names;
    for (const auto& [text, value] : choices) {
      if (found->second == text) return value;
      names += (names.empty() ? "" : ", ") + std::string(text);
    }
    reject(name, "one of " + names, "\"" + found->second + "\"");
  }
  const std::vector<Digit>* layout(const std::string& name) const {
    const auto found = spec_.layouts.find(name);
    return found == spec_.layouts.end() ? nullptr : &found->second;
  }
  [[noreturn]] void reject(const std::string& name, const std::string& expected, const std::string& received) const {
    throw Error("BAD_ARGUMENT", spec_.op + ": expected " + expected + " for `" + name + "` but received " + received, {{"operator", spec_.op}});
  }

 private:
  const OperatorSpec& spec_;
};

ActivationFormat activationFormat(const Fields& fields) {
  return fields.choice<ActivationFormat>("activation", {{"fp16", ActivationFormat::kFp16}, {"fp8_e5m2", ActivationFormat::kFp8E5m2},
      {"fp8_e4m3", ActivationFormat::kFp8E4m3}, {"mxfp8_e5m2", ActivationFormat::kMxfp8E5m2}, {"mxfp8_e4m3", ActivationFormat::kMxfp8E4m3},
      {"int8", ActivationFormat::kInt8}, {"int4", ActivationFormat::kInt4}});
}

ActivationSpec readActivation(const Fields& fields, bool withNorm) {
  ActivationSpec spec{fields.dimension("m"), fields.dimension("k"), NormKind::kNone, 0, activationFormat(fields)};
  if (withNorm) {
    spec.norm = fields.choice<NormKind>("norm.kind", {{"none", NormKind::kNone}, {"rms", NormKind::kRms}, {"layer", NormKind::kLayer}});
    spec.eps = fields.positive("norm.eps");
  }
  if (isMx(spec.format) && spec.k % kMxBlock != 0) {
    throw Error("UNSUPPORTED", "MX formats need k to be a multiple of 32 but it is " + std::to_string(spec.k), {{"k", static_cast<double>(spec.k)}});
  }
  return spec;
}

/// Hands out the buffers in order, checking each one's size.
class Binder {
 public:
  explicit Binder(const std::vector<Buffer>& inputs) : inputs_(inputs) {}
  template <typename T>
  const T* next(const char* name, int64_t bytes) {
    if (next_ == inputs_.size()) throw Error("WRONG_LENGTH", std::string("input `") + name + "` is missing: there are only " + std::to_string(next_));
    const Buffer& buffer = inputs_[next_++];
    if (buffer.bytes != static_cast<size_t>(bytes)) {
      throw Error("WRONG_LENGTH", std::string("expected ") + std::to_string(bytes) + " bytes for input `" + name + "` but received " + std::to_string(buffer.bytes));
    }
    return static_cast<const T*>(buffer.data);
  }
  void finish() const {
    if (next_ != inputs_.size()) {
      throw Error("WRONG_LENGTH", "expected " + std::to_string(next_) + " inputs but received " + std::to_string(inputs_.size()));
    }
  }

 private:
  const std::vector<Buffer>& inputs_;
  size_t next_ = 0;
};

}  // namespace

int weightBits(WeightFormat format) {
  switch (format) {
    case WeightFormat::kFp16: return 16;
    case WeightFormat::kInt4:
    case WeightFormat::kNf4: return 4;
    case WeightFormat::kInt1: return 1;
    default: return 8;
  }
}

bool isMx(WeightFormat format) { return format == WeightFormat::kMxfp8E4m3 || format == WeightFormat::kMxfp8E5m2; }
bool isMx(ActivationFormat format) { return format == ActivationFormat::kMxfp8E4m3 || format == ActivationFormat::kMxfp8E5m2; }

DenseSpec parseDense(const OperatorSpec& source) {
  const Fields fields(source);
  DenseSpec spec;
  spec.activation = readActivation(fields, true);
  spec.n = fields.dimension("n");
  spec.weight = fields.choice<WeightFormat>("weight", {{"fp16", WeightFormat::kFp16}, {"int4", WeightFormat::kInt4}, {"nf4", WeightFormat::kNf4},
      {"fp8_e5m2", WeightFormat::kFp8E5m2}, {"fp8_e4m3", WeightFormat::kFp8E4m3}, {"mxfp8_e5m2", WeightFormat::kMxfp8E5m2},
      {"mxfp8_e4m3", WeightFormat::kMxfp8E4m3}, {"int1", WeightFormat::kInt1}});
  const double group = fields.number("group");
  if (group != -1 && group != 32 && group != 64 && group != 128) fields.reject("group", "-1, 32, 64 or 128", std::to_string(group));
  spec.group = static_cast<int64_t>(group);
  spec.quantisedInput = fields.choice<bool>("input", {{"fp16", false}, {"quantised", true}});
  spec.bias = fields.flag("bias");
  spec.residual = fields.flag("residual");
  spec.prefetch = fields.has("prefetch") ? fields.dimension("prefetch") : 0;
  spec.function = fields.choice<Function>("function", {{"none", Function::kNone}, {"silu_mul", Function::kSiluMul}, {"gelu_tanh", Function::kGeluTanh}});

  const int64_t k = spec.activation.k;
  if (isMx(spec.weight)) spec.group = kMxBlock;
  if (spec.weight == WeightFormat::kFp16 && spec.group != -1) throw Error("UNSUPPORTED", "fp16 weights have no scales: expected -1 for `group`");
  if (spec.group != -1 && k % spec.group != 0) {
    throw Error("UNSUPPORTED", "k = " + std::to_string(k) + " is not a multiple of the group of " + std::to_string(spec.group));
  }
  if (spec.function == Function::kSiluMul && spec.n % 2 != 0) throw Error("UNSUPPORTED", "silu_mul needs an even n but it is " + std::to_string(spec.n));
  if (spec.function == Function::kSiluMul && spec.residual) throw Error("UNSUPPORTED", "silu_mul and a residual do not go together");
  if (spec.quantisedInput && spec.activation.format == ActivationFormat::kFp16) throw Error("UNSUPPORTED", "a quantised input has a quantised activation format");
  if (spec.quantisedInput && spec.activation.norm != NormKind::kNone) throw Error("UNSUPPORTED", "a quantised input cannot be normalised");

  const std::vector<Digit>* digits = fields.layout("weightLayout");
  if (!digits) throw Error("BAD_ARGUMENT", "dense: `weightLayout` is missing");
  spec.layout = expandLayout("weightLayout", *digits, spec.n, k);
  if (spec.group != -1) {
    digits = fields.layout("scaleLayout");
    if (!digits) throw Error("BAD_ARGUMENT", "dense: `scaleLayout` is missing, scales come in groups of " + std::to_string(spec.group));
    spec.scaleLayout = expandLayout("scaleLayout", *digits, spec.n, k / spec.group);
  }
  return spec;
}

ActivationSpec parseActivation(const OperatorSpec& source) {
  const ActivationSpec spec = readActivation(Fields(source), source.op == "norm");
  if (source.op == "norm" && spec.norm == NormKind::kNone) throw Error("BAD_ARGUMENT", "norm: expected rms or layer for `norm.kind` but received none");
  if (source.op == "quantise" && spec.format == ActivationFormat::kFp16) throw Error("BAD_ARGUMENT", "quantise: expected a quantised `activation` but received fp16");
  return spec;
}

AttentionSpec parseAttention(const OperatorSpec& source) {
  const Fields fields(source);
  AttentionSpec spec{fields.dimension("batch"), fields.dimension("seq"), fields.dimension("heads"), fields.dimension("kvHeads"), fields.dimension("headDim"),
                     fields.choice<bool>("order", {{"concatenated", false}, {"interleaved", true}}),
                     fields.choice<bool>("position", {{"rope", true}, {"alibi", false}}), fields.positive("ropeBase")};
  if (spec.heads % spec.kvHeads != 0) {
    throw Error("UNSUPPORTED", "heads = " + std::to_string(spec.heads) + " is not a multiple of kvHeads = " + std::to_string(spec.kvHeads));
  }
  if (spec.interleaved && spec.heads != spec.kvHeads) throw Error("UNSUPPORTED", "interleaved order needs as many key heads as query heads");
  if (spec.rope && spec.headDim % 2 != 0) throw Error("UNSUPPORTED", "rope needs an even headDim but it is " + std::to_string(spec.headDim));
  return spec;
}

DenseInputs bindDense(const DenseSpec& spec, const std::vector<Buffer>& inputs) {
  const auto& [m, k, norm, eps, format] = spec.activation;
  Binder binder(inputs);
  DenseInputs bound;
  bound.x = binder.next<void>("x", m * k * (spec.quantisedInput ? 1 : 2));
  if (spec.quantisedInput) bound.xScale = binder.next<void>("xScale", isMx(format) ? m * (k / kMxBlock) : m * 4);
  bound.weight = binder.next<uint8_t>("weight", (spec.layout.elements() * weightBits(spec.weight) + 7) / 8);
  if (spec.group != -1) bound.scale = binder.next<void>("scale", spec.scaleLayout.elements() * (isMx(spec.weight) ? 1 : 2));
  else if (spec.weight != WeightFormat::kFp16) bound.scale = binder.next<void>("scale", spec.n * 2);
  if (norm != NormKind::kNone) bound.gain = binder.next<uint16_t>("gain", k * 2);
  if (norm == NormKind::kLayer) bound.beta = binder.next<uint16_t>("beta", k * 2);
  if (spec.bias) bound.bias = binder.next<uint16_t>("bias", spec.n * 2);
  if (spec.residual) bound.residual = binder.next<uint16_t>("residual", m * spec.n * 2);
  if (spec.prefetch != 0) binder.next<void>("next", spec.prefetch);
  binder.finish();
  return bound;
}

ActivationInputs bindActivation(const ActivationSpec& spec, const std::vector<Buffer>& inputs) {
  Binder binder(inputs);
  ActivationInputs bound;
  bound.x = binder.next<uint16_t>("x", spec.m * spec.k * 2);
  if (spec.norm != NormKind::kNone) bound.gain = binder.next<uint16_t>("gain", spec.k * 2);
  if (spec.norm == NormKind::kLayer) bound.beta = binder.next<uint16_t>("beta", spec.k * 2);
  binder.finish();
  return bound;
}

const uint16_t* bindAttention(const AttentionSpec& spec, const std::vector<Buffer>& inputs) {
  Binder binder(inputs);
  const auto* qkv = binder.next<uint16_t>("qkv", spec.rows() * spec.inputColumns() * 2);
  binder.finish();
  return qkv;
}

std::vector<int64_t> outputBytes(const DenseSpec& spec) { return {spec.activation.m * spec.outputColumns() * 2}; }

std::vector<int64_t> outputBytes(const ActivationSpec& spec) {
  const int64_t elements = spec.m * spec.k;
  if (spec.format == ActivationFormat::kFp16) return {elements * 2};
  return {elements, isMx(spec.format) ? elements / kMxBlock : spec.m * 4};
}

std::vector<int64_t> outputBytes(const AttentionSpec& spec) { return {spec.rows() * spec.outputColumns() * 2}; }

void checkOutputs(const std::vector<int64_t>& expected, const std::vector<size_t>& sizes) {
  if (expected.size() != sizes.size()) {
    throw Error("WRONG_LENGTH", "expected " + std::to_string(expected.size()) + " outputs but received " + std::to_string(sizes.size()));
  }
  for (size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i] != static_cast<size_t>(expected[i])) {
      throw Error("WRONG_LENGTH", "expected " + std::to_string(expected[i]) + " bytes for output " + std::to_string(i) + " but received " + std::to_string(sizes[i]));
    }
  }
}

}  // namespace ladder::reference
