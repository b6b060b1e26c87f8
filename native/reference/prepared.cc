// Prepares a program: checks it, its nodes and the sizes of its buffers, all before any table is made or anything computed.
#include "evaluate.h"

namespace ladder::reference {

Prepared::Prepared(Program source, const std::vector<size_t>& inputBytes, const std::vector<size_t>& outputBytes)
    : program_(std::move(source)), inputBytes_(inputBytes), outputBytes_(outputBytes) {
  checkProgram(program_);
  for (size_t i = 0; i < program_.nodes.size(); ++i) primitiveKind(program_, i);
  checkBuffers("input", program_.inputs, inputBytes);
  checkBuffers("output", program_.outputs, outputBytes);

  std::vector<bool> used(program_.values.size());
  std::vector<bool> stored(program_.values.size());
  computed_.resize(program_.values.size());
  for (const uint32_t value : program_.inputs) stored[value] = true;
  for (const uint32_t value : program_.outputs) stored[value] = true;
  for (const Node& node : program_.nodes) {
    for (const uint32_t value : node.inputs) used[value] = true;
    for (const uint32_t value : node.outputs) used[value] = computed_[value] = true;
  }
  tables_.resize(program_.values.size());
  for (size_t value = 0; value < tables_.size(); ++value) {
    if (used[value]) tables_[value] = std::make_unique<ValueTables>(program_.values[value], stored[value]);
  }
  for (size_t i = 0; i < program_.nodes.size(); ++i) {
    const NodeView node(program_, i);
    node.requireInputs(0, node.inputs());
    primitives_.push_back(primitiveKind(program_, i).make(node, *tables_[node.node().outputs[0]]));
  }
}

/// e.g. the scales of `weight` of `nodes[1]` (dense), or of `values[7]` where nothing that has names for its inputs reads it.
std::string Prepared::tensorName(uint32_t value, bool scales) const {
  const std::string part = scales ? "the scales of " : "";
  for (size_t i = 0; i < program_.nodes.size(); ++i) {
    const std::vector<const char*>& roles = primitiveKind(program_, i).roles;
    for (size_t input = 0; input < program_.nodes[i].inputs.size() && input < roles.size(); ++input) {
      if (program_.nodes[i].inputs[input] == value) return part + "`" + roles[input] + "` of " + nodeName(program_, i);
    }
  }
  return part + "`values[" + std::to_string(value) + "]`";
}

void Prepared::checkBuffers(const char* what, const std::vector<uint32_t>& values, const std::vector<size_t>& bytes) const {
  size_t tensors = 0;
  for (const uint32_t value : values) {
    bool scales = false;
    for (const int64_t expected : tensorBytes(program_.values[value])) {
      const std::string name = std::string(what) + " " + std::to_string(tensors) + ", " + tensorName(value, scales) + ",";
      if (tensors == bytes.size()) throw Error("WRONG_LENGTH", name + " is missing: there are only " + std::to_string(tensors));
      if (bytes[tensors] != static_cast<size_t>(expected)) {
        throw Error("WRONG_LENGTH",
                    "expected " + std::to_string(expected) + " bytes for " + name + " but received " + std::to_string(bytes[tensors]));
      }
      ++tensors;
      scales = true;
    }
  }
  if (tensors != bytes.size()) {
    throw Error("WRONG_LENGTH", "expected " + std::to_string(tensors) + " " + what + "s but received " + std::to_string(bytes.size()));
  }
}

}  // namespace ladder::reference
