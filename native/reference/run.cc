// Runs whole programs: every output in FP32, written as it is stored. Places of padding are zero.
#include <cstring>

#include "evaluate.h"
#include "half_arrays.h"
#include "parallel.h"

namespace ladder::reference {
namespace {

constexpr int64_t kGrainNumbers = 1 << 15;

struct Target {
  const ValueTables* tables;
  uint8_t* data;
  uint8_t* scales;  // null: there are none
};

void writeRow(const Target& target, const Walk& places, const Computed<float>& result, int64_t row) {
  const std::vector<int64_t>& columns = places.columnOffsets();
  const auto count = static_cast<int64_t>(columns.size());
  const int64_t base = places.rowOffset(row);
  const int64_t first = row * count;
  if (const Codec* codec = target.tables->codec.get()) {
    for (int64_t i = 0; i < count; ++i)
      codec->write(target.data, base + columns[static_cast<size_t>(i)], result.codes[static_cast<size_t>(first + i)]);
    return;
  }
  const float* values = result.reals.data() + first;
  if (target.tables->value->type == ValueType::kF32) {
    for (int64_t i = 0; i < count; ++i) std::memcpy(target.data + 4 * (base + columns[static_cast<size_t>(i)]), values + i, 4);
  } else if (places.contiguous()) {
    floatsToHalves(values, count, target.data + 2 * (base + columns[0]));
  } else {
    for (int64_t i = 0; i < count; ++i) floatsToHalves(values + i, 1, target.data + 2 * (base + columns[static_cast<size_t>(i)]));
  }
}

void write(const Target& target, const Computed<float>& result, const CancelFlag* cancelled) {
  const Walk places = storedWalk(target.tables->layout, result.region);
  // Cells that share bytes are written by one thread.
  const bool shares = target.tables->quantised() && target.tables->codec->cellBits() % 8 != 0;
  const int64_t grain = shares ? places.rows() : std::max<int64_t>(1, kGrainNumbers / places.columns());
  parallelFor(places.rows(), grain, cancelled, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) writeRow(target, places, result, row);
  });
  if (!target.scales) return;
  const Walk scales = storedWalk(target.tables->scaleLayout, target.tables->scalesOf(result.region));
  size_t next = 0;
  for (int64_t row = 0; row < scales.rows(); ++row) {
    const int64_t base = scales.rowOffset(row);
    for (const int64_t column : scales.columnOffsets())
      writeScale(target.tables->value->scale->type, target.scales, base + column, result.scaleBits[next++]);
  }
}

}  // namespace

Operator::Operator(Program program, const std::vector<size_t>& inputBytes, const std::vector<size_t>& outputBytes)
    : prepared_(std::make_unique<const Prepared>(std::move(program), inputBytes, outputBytes)) {}
Operator::~Operator() = default;
Operator::Operator(Operator&& other) noexcept = default;
Operator& Operator::operator=(Operator&& other) noexcept = default;

void Operator::run(const std::vector<Buffer>& inputs, const std::vector<MutableBuffer>& outputs, const std::atomic<bool>* cancelled) const {
  prepared_->requireOutputs(outputs);
  std::vector<Target> targets;
  std::vector<Region> asked;
  size_t next = 0;
  const auto clear = [](const MutableBuffer& buffer) { std::memset(buffer.data, 0, buffer.bytes); };
  for (const uint32_t value : prepared_->program().outputs) {
    Target target{&prepared_->tables(value), static_cast<uint8_t*>(outputs[next].data), nullptr};
    const ValueTables& tables = *target.tables;
    if (tables.places > volume(tables.whole()) || (tables.quantised() && tables.codec->cellBits() % 8 != 0)) clear(outputs[next]);
    ++next;
    if (tables.value->scale) {
      target.scales = static_cast<uint8_t*>(outputs[next].data);
      if (tables.scalePlaces > volume(tables.wholeScales())) clear(outputs[next]);
      ++next;
    }
    targets.push_back(target);
    asked.push_back(tables.whole());
  }
  evaluate<float>(
      *prepared_, inputs, asked,
      [&](size_t output, const Region&, const Computed<float>& result) { write(targets[output], result, cancelled); }, cancelled);
}

void runProgram(const Program& program, const std::vector<Buffer>& inputs, const std::vector<MutableBuffer>& outputs,
                const std::atomic<bool>* cancelled) {
  std::vector<size_t> inputBytes, outputBytes;
  for (const Buffer& input : inputs) inputBytes.push_back(input.bytes);
  for (const MutableBuffer& output : outputs) outputBytes.push_back(output.bytes);
  Operator(program, inputBytes, outputBytes).run(inputs, outputs, cancelled);
}

}  // namespace ladder::reference
