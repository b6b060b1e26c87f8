// What an executor is made of, as plain structs: the native twin of lib/native.ts' ExecutorPlan and of the options of its calls.
// binding/ reads them from JavaScript; the runtime checks the indices and sizes that memory safety hangs on (checkPlan).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "../reference/reference.h"

namespace ladder::runtime {

struct DataType {
  std::string name;
  uint8_t code = 0;
  uint8_t bits = 0;
  uint16_t lanes = 1;
  uint64_t elementBytes() const noexcept { return (uint64_t{bits} * lanes + 7) / 8; }
};

struct PlanEntry {
  std::vector<int64_t> shape;
  DataType dtype;
  uint32_t storage = 0;
  uint64_t sizeBytes = 0;
};

struct PlanStorage {
  uint64_t sizeBytes = 0;
  int deviceType = 1;
};

enum class OperatorKind { kPacked, kCopy, kReference };

struct PlanOperator {
  std::string node;
  std::string functionName;
  std::vector<uint32_t> inputs;
  std::vector<uint32_t> outputs;
  bool flatten = false;
  OperatorKind kind = OperatorKind::kPacked;
  std::optional<reference::Program> program;
};

struct PlanKernel {
  std::string name;
  std::vector<DataType> argumentTypes;
  std::vector<std::string> launchTags;
  bool programmaticStreamSerialization = false;
};

struct PlanImage {
  bool onDemand = false;  // loaded when one of its kernels is first looked up
  std::string format;
  std::vector<uint8_t> bytes;  // with a NUL byte appended
  std::vector<PlanKernel> kernels;
};

struct PlanConstant {  // in model.so's file
  std::string name;
  std::vector<int64_t> shape;
  DataType dtype;
  uint64_t fileOffset = 0;
  uint64_t sizeBytes = 0;
};

struct PlanConstantUser {
  std::string symbol;
  std::vector<std::string> constants;
};

struct PlanModule {
  std::string path;
  std::vector<PlanImage> images;
  std::vector<PlanConstant> constants;
  std::vector<PlanConstantUser> constantUsers;
  bool launchesItself = false;                // carries code that launches on the legacy default stream
  std::optional<uint64_t> lastErrorAddress;   // of a cudaGetLastError that it does not export
};

struct ExecutorPlan {
  int deviceType = 1;
  int deviceOrdinal = 0;
  std::vector<PlanEntry> entries;
  std::vector<PlanStorage> storages;
  std::vector<PlanOperator> operators;
  std::optional<PlanModule> module;
};

struct LoadTimes {
  double dlopenMs = 0;
  double moduleMs = 0;
  double allocateMs = 0;
};

struct ParamCopy {
  uint32_t entry = 0;
  uint64_t fileOffset = 0;
  uint64_t sizeBytes = 0;
};

struct CaptureResult {
  bool captured = false;
  std::string reason;  // why not
  size_t kernelNodes = 0;
  size_t programmaticEdges = 0;
};

struct VerifyOptions {
  uint64_t seed = 0;
  std::vector<std::optional<reference::FillSpec>> inputs;
  int64_t maxColumns = 0;
  int64_t maxRows = 0;
};

struct VerifyOutput {
  reference::Comparison comparison{};
  int64_t unwritten = 0;
  std::optional<bool> deterministic;  // none where the operator ran once
};

/// Checks every index and size that would lead out of memory if it were wrong.
/// @throws Error BAD_ARGUMENT naming the field
void checkPlan(const ExecutorPlan& plan);

}  // namespace ladder::runtime
