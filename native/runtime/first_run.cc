// The first, untimed inference on a device: one operator after the other, each to its end. The host functions of route 1
// ignore what became of their launches, so that an operator without code for this GPU returns 0 and leaves its outputs as
// they were. Therefore its outputs are poisoned before, the object's CUDA runtime is asked for its last error, and an
// operator that neither launched through this runtime nor changed an output is an error.
#include <algorithm>

#include "../cuda/failure.h"
#include "call.h"
#include "error.h"

namespace ladder::runtime {
namespace {

/// An output may happen to be all of the first.
constexpr uint8_t kPoisons[] = {0xa5, 0x5a};
constexpr uint64_t kChunkBytes = 4u << 20;

}  // namespace

void Executor::firstRun(const CancelFlag& cancelled) {
  if (!onDevice() || hasRun_) return;
  if (module_) module_->takeRuntimeError();  // of whatever came before
  for (size_t i = 0; i < calls_.size(); ++i) firstCall(i, cancelled);
  hasRun_ = true;
}

void Executor::firstCall(size_t index, const CancelFlag& cancelled) {
  throwIfCancelled(cancelled);
  Call& call = calls_[index];
  if (call.kind != OperatorKind::kPacked || !call.onDevice) return runOperator(index, cancelled);
  const std::vector<uint32_t> outputs = poisonable(index);
  for (const uint8_t poison : kPoisons) {
    for (const uint32_t entry : outputs) setBytes(entry, poison);
    const size_t before = tvm_abi::launches();
    runOperator(index, cancelled);
    if (tvm_abi::launches() != before || outputs.empty()) return;
    if (std::all_of(outputs.begin(), outputs.end(), [&](uint32_t entry) { return holdsOnly(entry, poison); })) continue;
    call.launchesItself = true;
    if (!stream_->isLegacy()) *stream_ = cuda::Stream::legacy();
    return;
  }
  throw describe(
      Error(
          "OPERATOR",
          call.what +
              " launched nothing: its outputs are as they were before it; its kernels may be for another GPU " "(`ladder inspect` names the architectures), or model.so is damaged: rebuild it"),
      index);
}

/// Outputs on the device that the operator does not read.
std::vector<uint32_t> Executor::poisonable(size_t index) const {
  const PlanOperator& op = plan_.operators[index];
  std::vector<uint32_t> entries;
  for (const uint32_t output : op.outputs) {
    const bool isRead = std::any_of(op.inputs.begin(), op.inputs.end(),
                                    [&](uint32_t input) { return plan_.entries[input].storage == plan_.entries[output].storage; });
    if (!isRead && storageOf(output).onDevice() && plan_.entries[output].sizeBytes > 0) entries.push_back(output);
  }
  return entries;
}

bool Executor::holdsOnly(uint32_t entry, uint8_t value) const {
  const uint64_t sizeBytes = plan_.entries[entry].sizeBytes;
  std::vector<uint8_t> chunk(std::min(sizeBytes, kChunkBytes));
  for (uint64_t at = 0; at < sizeBytes; at += chunk.size()) {
    const uint64_t bytes = std::min<uint64_t>(chunk.size(), sizeBytes - at);
    copyToHost(chunk.data(), storageOf(entry), at, bytes, &*stream_);
    if (!std::all_of(chunk.begin(), chunk.begin() + static_cast<std::ptrdiff_t>(bytes), [&](uint8_t byte) { return byte == value; }))
      return false;
  }
  return true;
}

void Executor::checkRuntimeError(size_t index) const {
  const cuda::Result result = module_ ? module_->takeRuntimeError() : cuda::kSuccess;
  if (result != cuda::kSuccess) throw describe(cuda::failure(result, calls_[index].what + ": launching its kernel"), index);
}

}  // namespace ladder::runtime
