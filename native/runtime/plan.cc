// The checks on a plan. lib/artifact has checked it already, with better messages; this is the last line of defence.
#include "plan.h"

#include "error.h"

namespace ladder::runtime {
namespace {

[[noreturn]] void refuse(const std::string& field, const std::string& why) {
  throw Error("BAD_ARGUMENT", "the plan's `" + field + "` " + why + "; plans come from lib/artifact, which checks them");
}

std::string item(const char* list, size_t index, const char* field) {
  return std::string(list) + "[" + std::to_string(index) + "]." + field;
}

uint64_t tensorBytes(const std::vector<int64_t>& shape, const DataType& dtype, const std::string& field) {
  uint64_t bytes = dtype.elementBytes();
  if (bytes == 0) refuse(field, "has a type of no bits");
  for (int64_t extent : shape) {
    if (extent < 0 || __builtin_mul_overflow(bytes, static_cast<uint64_t>(extent), &bytes)) refuse(field, "is out of range");
  }
  return bytes;
}

}  // namespace

void checkPlan(const ExecutorPlan& plan) {
  if (plan.deviceType != 1 && plan.deviceType != 2) refuse("deviceType", "must be 1 (CPU) or 2 (CUDA)");
  for (size_t i = 0; i < plan.storages.size(); ++i) {
    const int type = plan.storages[i].deviceType;
    if (type != 1 && type != 2) refuse(item("storages", i, "deviceType"), "must be 1 (CPU) or 2 (CUDA)");
    if (type == 2 && plan.deviceType != 2) refuse(item("storages", i, "deviceType"), "is CUDA, but the plan's device is the CPU");
  }
  for (size_t i = 0; i < plan.entries.size(); ++i) {
    const PlanEntry& entry = plan.entries[i];
    if (entry.storage >= plan.storages.size()) refuse(item("entries", i, "storage"), "is no storage of the plan");
    if (tensorBytes(entry.shape, entry.dtype, item("entries", i, "shape")) != entry.sizeBytes) {
      refuse(item("entries", i, "sizeBytes"), "is not the tensor's size");
    }
    if (entry.sizeBytes > plan.storages[entry.storage].sizeBytes) refuse(item("entries", i, "sizeBytes"), "is more than its storage has");
  }
  for (size_t i = 0; i < plan.operators.size(); ++i) {
    const PlanOperator& op = plan.operators[i];
    for (const uint32_t entry : op.inputs) {
      if (entry >= plan.entries.size()) refuse(item("operators", i, "inputs"), "names no entry of the plan");
    }
    for (const uint32_t entry : op.outputs) {
      if (entry >= plan.entries.size()) refuse(item("operators", i, "outputs"), "names no entry of the plan");
      if (op.kind == OperatorKind::kReference && plan.storages[plan.entries[entry].storage].deviceType != 1) {
        refuse(item("operators", i, "outputs"), "of a reference operator must lie on the host");
      }
    }
    for (const uint32_t entry : op.inputs) {
      if (op.kind == OperatorKind::kReference && plan.storages[plan.entries[entry].storage].deviceType != 1) {
        refuse(item("operators", i, "inputs"), "of a reference operator must lie on the host");
      }
    }
    if (op.kind == OperatorKind::kPacked && !plan.module) refuse(item("operators", i, "kind"), "is packed, but there is no module");
    if (op.kind == OperatorKind::kReference && !op.program) refuse(item("operators", i, "program"), "is missing for a reference operator");
    if (op.kind == OperatorKind::kCopy) {
      if (op.inputs.size() != 1 || op.outputs.size() != 1)
        refuse(item("operators", i, "inputs"), "must be one entry, and one output, for a copy");
      if (plan.entries[op.inputs[0]].sizeBytes != plan.entries[op.outputs[0]].sizeBytes) {
        refuse(item("operators", i, "outputs"), "differ in size from the inputs of a copy");
      }
    }
  }
  if (!plan.module) return;
  for (size_t i = 0; i < plan.module->constants.size(); ++i) {
    const PlanConstant& constant = plan.module->constants[i];
    const std::string field = item("module.constants", i, "sizeBytes");
    if (tensorBytes(constant.shape, constant.dtype, field) != constant.sizeBytes) refuse(field, "is not the tensor's size");
  }
}

}  // namespace ladder::runtime
