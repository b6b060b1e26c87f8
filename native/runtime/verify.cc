// Poison, run, download, compare. Tensors may take gigabytes: the first run's outputs are kept, the second's are looked
// through piece by piece, and what lies on the host is not copied.
#include "verify.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <memory>

#include "elements.h"
#include "error.h"

namespace ladder::runtime {
namespace {

// As floating-point numbers of any width the first poison is NaN, the second a large number; as integers they differ.
constexpr uint8_t kPoisons[2] = {0xff, 0x7e};
/// What of the second run is held at a time.
constexpr uint64_t kPieceBytes = 64u << 20;

/// Host memory that is not initialised. In large pages, as clearing small ones takes longer than what is copied into them.
class Bytes {
 public:
  explicit Bytes(uint64_t size) : size_(size) {
    constexpr uint64_t kLargePage = 2u << 20;
    const uint64_t rounded = std::max<uint64_t>(1, (size + kLargePage - 1) / kLargePage) * kLargePage;
    data_.reset(static_cast<uint8_t*>(std::aligned_alloc(kLargePage, rounded)));
    if (!data_) throw Error("OUT_OF_MEMORY", "verification needs " + std::to_string(size) + " bytes of host memory for a tensor");
    madvise(data_.get(), rounded, MADV_HUGEPAGE);  // advice only
  }
  uint8_t* data() const { return data_.get(); }
  uint64_t size() const { return size_; }

 private:
  struct Free {
    void operator()(uint8_t* data) const { std::free(data); }
  };
  uint64_t size_;
  std::unique_ptr<uint8_t[], Free> data_;
};

Bytes download(Executor& executor, uint32_t entry, const CancelFlag& cancelled) {
  Bytes bytes(executor.plan().entries[entry].sizeBytes);
  executor.read(entry, 0, bytes.size(), bytes.data(), cancelled);
  return bytes;
}

void runPoisoned(Executor& executor, size_t index, uint8_t poison, const CancelFlag& cancelled) {
  for (const uint32_t entry : executor.plan().operators[index].outputs) executor.setBytes(entry, poison);
  executor.runOperator(index, cancelled);
  throwIfCancelled(cancelled);
}

/// What the second run left in an entry beside what the first did: unwritten elements, and whether all is the same.
void compareRuns(Executor& executor, uint32_t entry, const Bytes& first, VerifyOutput& result, const CancelFlag& cancelled) {
  const DataType& type = executor.plan().entries[entry].dtype;
  const uint64_t pieceBytes = std::max<uint64_t>(1, kPieceBytes / type.elementBytes()) * type.elementBytes();
  const Bytes piece(std::min(pieceBytes, first.size()));
  result.deterministic = true;
  for (uint64_t at = 0; at < first.size(); at += pieceBytes) {
    const uint64_t bytes = std::min(pieceBytes, first.size() - at);
    executor.read(entry, at, bytes, piece.data(), cancelled);
    if (sameBytes(first.data() + at, piece.data(), bytes, &cancelled)) continue;  // poison would differ
    result.deterministic = false;
    result.unwritten += countUnwritten({type, first.data() + at, bytes}, piece.data(), kPoisons, &cancelled);
  }
}

reference::Comparison withoutReference(const PlanEntry& entry, const Bytes& output, const CancelFlag& cancelled) {
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  reference::Comparison comparison{0, 0, 0, kNone, kNone, kNone, kNone, kNone};
  comparison.nonFinite = countNonFinite({entry.dtype, output.data(), output.size()}, &cancelled);
  comparison.elements = static_cast<int64_t>(output.size() / entry.dtype.elementBytes());
  return comparison;
}

std::vector<reference::Comparison> compareWithReference(Executor& executor, size_t index, const std::vector<Bytes>& outputs,
                                                        const VerifyOptions& options, const CancelFlag& cancelled) {
  std::vector<Bytes> copies;
  std::vector<reference::Buffer> inputs, written;
  for (const uint32_t entry : executor.plan().operators[index].inputs) {
    const void* data = executor.hostData(entry);
    if (!data) data = copies.emplace_back(download(executor, entry, cancelled)).data();
    inputs.push_back({data, executor.plan().entries[entry].sizeBytes});
  }
  for (const Bytes& output : outputs) written.push_back({output.data(), output.size()});
  return executor.prepareReference(index).compare(inputs, written, {options.seed, options.maxColumns, options.maxRows}, &cancelled);
}

bool worksInPlace(const ExecutorPlan& plan, const PlanOperator& op) {
  return std::any_of(op.inputs.begin(), op.inputs.end(), [&](uint32_t input) {
    return std::any_of(op.outputs.begin(), op.outputs.end(),
                       [&](uint32_t output) { return plan.entries[input].storage == plan.entries[output].storage; });
  });
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
  const bool inPlace = worksInPlace(plan, op);
  if (inPlace && op.program) {
    throw Error("UNSUPPORTED",
                "operator `" + op.functionName + "` (node `" + op.node +
                    "`) writes over one of its inputs and cannot be run twice on the same ones",
                {{"operator", op.functionName}, {"node", op.node}});
  }
  for (size_t i = 0; i < op.inputs.size(); ++i) {
    // The generator mixes its key; an odd multiple keeps the positions' sequences apart.
    if (options.inputs[i]) executor.fill(op.inputs[i], *options.inputs[i], options.seed + (i + 1) * 0xD1342543DE82EF95u);
  }
  if (inPlace) executor.runOperator(index, cancelled);  // poison would destroy its input, and a second run find another
  else runPoisoned(executor, index, kPoisons[0], cancelled);
  std::vector<Bytes> first;
  for (const uint32_t entry : op.outputs) first.push_back(download(executor, entry, cancelled));
  if (!inPlace) runPoisoned(executor, index, kPoisons[1], cancelled);

  std::vector<VerifyOutput> results(op.outputs.size());
  std::vector<reference::Comparison> comparisons;
  if (op.program) comparisons = compareWithReference(executor, index, first, options, cancelled);
  for (size_t i = 0; i < results.size(); ++i) {
    const uint32_t entry = op.outputs[i];
    results[i].comparison = op.program ? comparisons.at(i) : withoutReference(plan.entries[entry], first[i], cancelled);
    if (!inPlace) compareRuns(executor, entry, first[i], results[i], cancelled);
  }
  return results;
}

}  // namespace ladder::runtime
