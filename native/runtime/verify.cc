// Poison, run, download, compare.
#include "verify.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>

#include "error.h"

namespace ladder::runtime {
namespace {

// As floating-point numbers of any width the first poison is NaN, the second a large number; as integers they differ.
constexpr uint8_t kPoisons[2] = {0xff, 0x7e};

struct Bytes {
  std::unique_ptr<uint8_t[]> data;  // not initialised: up to gigabytes
  uint64_t size = 0;
};

Bytes download(Executor& executor, uint32_t entry) {
  Bytes bytes;
  bytes.size = executor.plan().entries[entry].sizeBytes;
  bytes.data.reset(new uint8_t[bytes.size]);
  executor.read(entry, 0, bytes.size, bytes.data.get());
  return bytes;
}

std::vector<Bytes> runPoisoned(Executor& executor, size_t index, uint8_t poison, const CancelFlag& cancelled) {
  const PlanOperator& op = executor.plan().operators[index];
  for (const uint32_t entry : op.outputs) executor.setBytes(entry, poison);
  executor.runOperator(index, cancelled);
  std::vector<Bytes> outputs;
  for (const uint32_t entry : op.outputs) outputs.push_back(download(executor, entry));
  return outputs;
}

bool isPoison(const uint8_t* element, uint64_t bytes, uint8_t poison) {
  for (uint64_t i = 0; i < bytes; ++i) {
    if (element[i] != poison) return false;
  }
  return true;
}

/// Whether a floating-point element of that type is infinite or NaN: all exponent bits set.
bool isNonFinite(const uint8_t* element, const DataType& type) {
  if (type.code == 4 || (type.code == 2 && type.bits == 16)) {
    uint16_t value;
    std::memcpy(&value, element, sizeof value);
    const uint16_t exponent = type.code == 4 ? 0x7f80 : 0x7c00;
    return (value & exponent) == exponent;
  }
  if (type.code != 2 || (type.bits != 32 && type.bits != 64)) return false;
  if (type.bits == 64) {
    double value;
    std::memcpy(&value, element, sizeof value);
    return !std::isfinite(value);
  }
  float value;
  std::memcpy(&value, element, sizeof value);
  return !std::isfinite(value);
}

reference::Comparison withoutReference(const Bytes& output, const DataType& type) {
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  reference::Comparison comparison{0, 0, 0, kNone, kNone, kNone, kNone, kNone};
  const uint64_t step = type.elementBytes() / type.lanes;
  for (uint64_t at = 0; step && at + step <= output.size; at += step) comparison.nonFinite += isNonFinite(output.data.get() + at, type);
  comparison.elements = static_cast<int64_t>(output.size / type.elementBytes());
  return comparison;
}

void refuseInPlace(const ExecutorPlan& plan, const PlanOperator& op) {
  for (const uint32_t input : op.inputs) {
    for (const uint32_t output : op.outputs) {
      if (plan.entries[input].storage != plan.entries[output].storage) continue;
      throw Error("UNSUPPORTED",
                  "operator `" + op.functionName + "` (node `" + op.node +
                      "`) writes over one of its inputs and cannot be run twice on the same ones",
                  {{"operator", op.functionName}, {"node", op.node}});
    }
  }
}

}  // namespace

std::vector<VerifyOutput> verifyOperator(Executor& executor, size_t index, const VerifyOptions& options, const CancelFlag& cancelled) {
  const ExecutorPlan& plan = executor.plan();
  if (index >= plan.operators.size()) {
    throw Error("BAD_ARGUMENT",
                "expected an operator below " + std::to_string(plan.operators.size()) + " but received " + std::to_string(index));
  }
  const PlanOperator& op = plan.operators[index];
  if (options.inputs.size() != op.inputs.size()) {
    throw Error("BAD_ARGUMENT", "expected " + std::to_string(op.inputs.size()) + " fills in `inputs`, one per input of `" + op.node +
                                    "`, but received " + std::to_string(options.inputs.size()));
  }
  refuseInPlace(plan, op);
  for (size_t i = 0; i < op.inputs.size(); ++i) {
    // The generator mixes its key; an odd multiple keeps the positions' sequences apart.
    if (options.inputs[i]) executor.fill(op.inputs[i], *options.inputs[i], options.seed + (i + 1) * 0xD1342543DE82EF95u);
  }
  const std::vector<Bytes> first = runPoisoned(executor, index, kPoisons[0], cancelled);
  throwIfCancelled(cancelled);
  const std::vector<Bytes> second = runPoisoned(executor, index, kPoisons[1], cancelled);
  throwIfCancelled(cancelled);

  std::vector<VerifyOutput> results(op.outputs.size());
  if (op.program) {
    std::vector<Bytes> inputs;
    std::vector<reference::Buffer> inputBuffers;
    for (const uint32_t entry : op.inputs) {
      inputs.push_back(download(executor, entry));
      inputBuffers.push_back({inputs.back().data.get(), inputs.back().size});
    }
    std::vector<reference::Buffer> outputBuffers;
    for (const Bytes& output : first) outputBuffers.push_back({output.data.get(), output.size});
    const std::vector<reference::Comparison> comparisons =
        executor.prepareReference(index).compare(inputBuffers, outputBuffers, {options.seed, options.maxColumns, options.maxRows});
    for (size_t i = 0; i < results.size(); ++i) results[i].comparison = comparisons.at(i);
  }
  for (size_t i = 0; i < results.size(); ++i) {
    const DataType& type = plan.entries[op.outputs[i]].dtype;
    if (!op.program) results[i].comparison = withoutReference(first[i], type);
    results[i].deterministic = std::memcmp(first[i].data.get(), second[i].data.get(), first[i].size) == 0;
    const uint64_t step = type.elementBytes();
    for (uint64_t at = 0; at + step <= first[i].size; at += step) {
      results[i].unwritten +=
          isPoison(first[i].data.get() + at, step, kPoisons[0]) && isPoison(second[i].data.get() + at, step, kPoisons[1]);
    }
  }
  return results;
}

}  // namespace ladder::runtime
