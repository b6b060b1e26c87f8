// The engine. Where little is computed twice by it, the rows or columns that are asked are evaluated in chunks, which bounds memory.
#include "evaluate.h"

#include <algorithm>

namespace ladder::reference {
namespace {

/// Rows of the first axis that are evaluated at once: what a walk over the weights of a product serves.
constexpr int64_t kChunkRows = 64;
/// Numbers of all values that are held at once where rows do not bound them: half a gigabyte in FP64.
constexpr double kChunkNumbers = 1 << 26;
/// What chunks may need in all, as a multiple of what is needed without: vectors that all rows share come to less.
constexpr double kGrowth = 1.125;

/// By value: the region that a node must compute, or gather of an input; none where nothing does.
using Regions = std::vector<std::optional<Region>>;

Regions plan(const Prepared& prepared, const std::vector<Region>& asked) {
  const Program& program = prepared.program();
  Regions regions(program.values.size());
  const auto want = [&](uint32_t value, const Region& region) {
    std::optional<Region>& own = regions[value];
    own = own ? unite(*own, region) : region;
  };
  for (size_t i = 0; i < asked.size(); ++i) want(program.outputs[i], asked[i]);
  for (size_t i = program.nodes.size(); i-- > 0;) {
    const Node& node = program.nodes[i];
    std::optional<Region>& region = regions[node.outputs[0]];
    if (!region) continue;
    region = prepared.primitive(i).produced(*region);
    for (size_t input = 0; input < node.inputs.size(); ++input) {
      const Primitive& primitive = prepared.primitive(i);
      if (prepared.isComputed(node.inputs[input]) || primitive.gathers(input)) want(node.inputs[input], primitive.needed(input, *region));
    }
  }
  return regions;
}

double numbersIn(const Regions& regions) {
  double sum = 0;
  for (const std::optional<Region>& region : regions) sum += region ? static_cast<double>(volume(*region)) : 0;
  return sum;
}

/// Halves of an output's columns, and their halves, until what must be held for one fits; not where much would be needed
/// twice (the input of a norm, say). Attention, which needs all rows of keys and values, falls into its heads.
std::vector<std::vector<Region>> columnChunksOf(const Prepared& prepared, const std::vector<Region>& asked) {
  const double numbers = numbersIn(plan(prepared, asked));
  if (numbers <= kChunkNumbers || asked.size() != 1 || asked[0].empty() || asked[0].back().size() == 1) return {asked};
  std::vector<std::vector<Region>> halves;
  const int64_t middle = asked[0].back().size() / 2;
  double numbersOfHalves = 0;
  for (const auto& [first, count] : {std::pair{int64_t{0}, middle}, std::pair{middle, asked[0].back().size() - middle}}) {
    std::vector<Region>& half = halves.emplace_back(asked);
    half[0].back() = half[0].back().slice(first, count);
    numbersOfHalves += numbersIn(plan(prepared, half));
  }
  if (numbersOfHalves > kGrowth * numbers) return {asked};
  std::vector<std::vector<Region>> chunks;
  for (const std::vector<Region>& half : halves) {
    for (std::vector<Region>& chunk : columnChunksOf(prepared, half)) chunks.push_back(std::move(chunk));
  }
  return chunks;
}

/// The regions of a chunk of rows after another; where outputs differ in their rows, or where much would be needed more than
/// once (keys and values of a sequence, say), those of chunks of columns.
std::vector<std::vector<Region>> chunksOf(const Prepared& prepared, const std::vector<Region>& asked) {
  if (asked[0].empty() || asked[0][0].size() <= kChunkRows) return columnChunksOf(prepared, asked);
  for (const Region& region : asked) {
    if (region.empty() || !(region[0] == asked[0][0])) return columnChunksOf(prepared, asked);
  }
  std::vector<std::vector<Region>> chunks;
  double numbers = 0;
  for (int64_t first = 0; first < asked[0][0].size(); first += kChunkRows) {
    std::vector<Region>& chunk = chunks.emplace_back(asked);
    for (Region& region : chunk) region[0] = region[0].slice(first, std::min(kChunkRows, region[0].size() - first));
    numbers += numbersIn(plan(prepared, chunk));
  }
  if (numbers > kGrowth * numbersIn(plan(prepared, asked))) return columnChunksOf(prepared, asked);
  return chunks;
}

/// Arrays of results that nothing reads any more. Chunks and nodes need the same sizes again and again, and memory that the
/// system has to clear first costs more than what is computed in it.
template <typename Real>
class Spares {
 public:
  void keep(Computed<Real>&& result) {
    if (result.reals.capacity() != 0) arrays_.push_back(std::move(result.reals));
    result = {};
  }
  /// The smallest array of that size at least; a new one where there is none.
  std::vector<Real> take(int64_t size) {
    auto best = arrays_.end();
    for (auto array = arrays_.begin(); array != arrays_.end(); ++array) {
      if (array->size() >= static_cast<size_t>(size) && (best == arrays_.end() || array->size() < best->size())) best = array;
    }
    if (best == arrays_.end()) return {};
    std::vector<Real> array = std::move(*best);
    arrays_.erase(best);
    return array;
  }

 private:
  std::vector<std::vector<Real>> arrays_;
};

template <typename Real>
void evaluateChunk(const Prepared& prepared, const std::vector<StoredTensor>& stored, const std::vector<Region>& asked,
                   const Sink<Real>& sink, Spares<Real>& spares, const CancelFlag* cancelled) {
  const Program& program = prepared.program();
  const Regions regions = plan(prepared, asked);
  std::vector<size_t> readers(program.values.size());
  for (const Node& node : program.nodes) {
    for (const uint32_t value : node.inputs) readers[value] += regions[node.outputs[0]] ? 1 : 0;
  }
  std::vector<Computed<Real>> results(program.values.size());
  for (size_t i = 0; i < program.nodes.size(); ++i) {
    const Node& node = program.nodes[i];
    const uint32_t value = node.outputs[0];
    if (!regions[value]) continue;
    if (cancelled && cancelled->load(std::memory_order_relaxed)) throw Error("ABORTED", "the computation on the CPU was aborted");
    std::vector<Operand<Real>> operands;
    for (const uint32_t input : node.inputs)
      operands.push_back(prepared.isComputed(input) ? Operand<Real>(results[input]) : Operand<Real>(stored[input]));
    Computed<Real>& result = results[value];
    result.tables = &prepared.tables(value);
    result.region = *regions[value];
    result.reals = spares.take(volume(result.region));
    prepared.primitive(i).evaluate(operands, result, cancelled);

    const auto output = std::find(program.outputs.begin(), program.outputs.end(), value);
    const auto index = static_cast<size_t>(output - program.outputs.begin());
    if (output != program.outputs.end()) sink(index, asked[index], result);
    if (readers[value] == 0) spares.keep(std::move(result));
    else result.settle(cancelled);
    for (const uint32_t input : node.inputs) {
      if (--readers[input] == 0) spares.keep(std::move(results[input]));
    }
  }
}

}  // namespace

template <typename Real>
void evaluate(const Prepared& prepared, const std::vector<Buffer>& inputs, const std::vector<Region>& asked, const Sink<Real>& sink,
              const CancelFlag* cancelled) {
  prepared.requireInputs(inputs);
  std::vector<StoredTensor> stored(prepared.program().values.size());
  size_t next = 0;
  for (const uint32_t value : prepared.program().inputs) {
    const bool scaled = prepared.program().values[value].scale.has_value();
    const auto* data = static_cast<const uint8_t*>(inputs[next++].data);
    const auto* scales = scaled ? static_cast<const uint8_t*>(inputs[next++].data) : nullptr;
    const bool isRead = std::any_of(prepared.program().nodes.begin(), prepared.program().nodes.end(), [&](const Node& node) {
      return std::find(node.inputs.begin(), node.inputs.end(), value) != node.inputs.end();
    });
    if (isRead) stored[value] = {&prepared.tables(value), data, scales};
  }
  Spares<Real> spares;
  for (const std::vector<Region>& chunk : chunksOf(prepared, asked)) evaluateChunk(prepared, stored, chunk, sink, spares, cancelled);
}

template void evaluate(const Prepared&, const std::vector<Buffer>&, const std::vector<Region>&, const Sink<float>&, const CancelFlag*);
template void evaluate(const Prepared&, const std::vector<Buffer>&, const std::vector<Region>&, const Sink<double>&, const CancelFlag*);

}  // namespace ladder::reference
