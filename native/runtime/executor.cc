// Construction, the flat loop, and CUDA graph capture.
#include "executor.h"

#include <chrono>
#include <fstream>

#include "../cuda/failure.h"
#include "call.h"
#include "error.h"

namespace ladder::runtime {
namespace {

/// Handing a call to another thread and back costs some ten microseconds: an inference below this is waited for where it is asked.
constexpr double kShortMs = 0.25;

/// Host memory that can be had without swapping, or the largest number where the system does not say.
uint64_t availableHostBytes() {
  std::ifstream stream("/proc/meminfo");
  std::string name;
  uint64_t kibibytes = 0;
  std::string unit;
  while (stream >> name >> kibibytes) {
    if (name == "MemAvailable:") return kibibytes * 1024;
    std::getline(stream, unit);
  }
  return UINT64_MAX;
}

void requireMemory(uint64_t wanted, uint64_t available, const char* where) {
  if (wanted <= available) return;
  throw Error("OUT_OF_MEMORY",
              "the checkpoint's tensors need " + cuda::bytesText(wanted) + " " + where + ", of which " + cuda::bytesText(available) +
                  " are free; dispose other checkpoints, end other processes that use it, or choose a smaller batch",
              {{"requestedBytes", double(wanted)}, {"freeBytes", double(available)}});
}

std::string shapeText(const PlanEntry& entry) {
  std::string text = entry.dtype.name + "[";
  for (size_t i = 0; i < entry.shape.size(); ++i) text += (i ? "," : "") + std::to_string(entry.shape[i]);
  return text + "]";
}

}  // namespace

Executor::Executor(ExecutorPlan plan) : plan_(std::move(plan)) {
  checkPlan(plan_);
  if (onDevice()) {
    cuda::makeCurrent(plan_.deviceOrdinal);
    // Embedded launches go to the legacy default stream; whatever is to be ordered with them, events too, must go there.
    stream_.emplace(plan_.module && plan_.module->launchesItself ? cuda::Stream::legacy() : cuda::Stream::create());
  }
  workspaceScope_.emplace(&workspace_);
  if (stream_) streamScope_.emplace(tvm_abi::OperatorStream{plan_.deviceOrdinal, *stream_});
  const auto start = std::chrono::steady_clock::now();
  allocate();
  loadTimes_.allocateMs = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  if (plan_.module) {
    module_ =
        std::make_unique<ModelModule>(*plan_.module, plan_.deviceType, plan_.deviceOrdinal, stream_ ? &*stream_ : nullptr, loadTimes_);
    for (PlanImage& image : plan_.module->images) std::vector<uint8_t>().swap(image.bytes);
  }
  prepare();
}

Executor::~Executor() {
  try {
    synchronize();
  } catch (const Error&) {
    // A lost context: the releases that follow fail too, and are ignored.
  }
}

void Executor::allocate() {
  uint64_t wanted[3] = {};
  for (const PlanStorage& storage : plan_.storages) {
    if (__builtin_add_overflow(wanted[storage.deviceType], storage.sizeBytes, &wanted[storage.deviceType]))
      wanted[storage.deviceType] = UINT64_MAX;
  }
  requireMemory(wanted[tvm_abi::kDeviceCpu], availableHostBytes(), "of host memory");
  if (onDevice()) {
    size_t freeBytes = 0;
    size_t totalBytes = 0;
    cuda::check(cuda::driver().memGetInfo(&freeBytes, &totalBytes), "asking for free device memory");
    requireMemory(wanted[tvm_abi::kDeviceCuda], freeBytes, "of device memory");
  }
  storages_.reserve(plan_.storages.size());
  for (size_t i = 0; i < plan_.storages.size(); ++i) {
    storages_.emplace_back(plan_.storages[i].deviceType, plan_.storages[i].sizeBytes, ("storage " + std::to_string(i)).c_str());
  }
}

void Executor::prepare() {
  calls_.reserve(plan_.operators.size());
  for (const PlanOperator& op : plan_.operators) {
    Call& call = calls_.emplace_back();
    call.kind = op.kind;
    call.what = "operator `" + op.functionName + "` (node `" + op.node + "`)";
    call.onDevice = false;
    for (const uint32_t entry : op.outputs) call.onDevice = call.onDevice || storageOf(entry).onDevice();
    std::vector<uint32_t> entries = op.inputs;
    entries.insert(entries.end(), op.outputs.begin(), op.outputs.end());
    switch (op.kind) {
      case OperatorKind::kCopy:
        call.source = &storageOf(op.inputs[0]);
        call.target = &storageOf(op.outputs[0]);
        call.copyBytes = plan_.entries[op.inputs[0]].sizeBytes;
        break;
      case OperatorKind::kReference:
        for (const uint32_t entry : op.inputs) call.inputs.push_back({storageOf(entry).data(), plan_.entries[entry].sizeBytes});
        for (const uint32_t entry : op.outputs) call.outputs.push_back({storageOf(entry).data(), plan_.entries[entry].sizeBytes});
        call.reference = prepareReference(calls_.size() - 1);
        break;
      case OperatorKind::kPacked:
        call.function = module_->operatorFunction(op.functionName);
        call.tensors.resize(entries.size());
        call.flatExtents.resize(entries.size());
        for (size_t i = 0; i < entries.size(); ++i) {
          const PlanEntry& entry = plan_.entries[entries[i]];
          const Storage& storage = storageOf(entries[i]);
          call.flatExtents[i] = static_cast<int64_t>(entry.sizeBytes / entry.dtype.elementBytes());
          int64_t* shape = op.flatten ? &call.flatExtents[i] : const_cast<int64_t*>(entry.shape.data());
          const auto dimensions = op.flatten ? 1 : static_cast<int32_t>(entry.shape.size());
          call.tensors[i] = {storage.data(),
                             storage.onDevice() ? tvm_abi::kDeviceCuda : tvm_abi::kDeviceCpu,
                             storage.onDevice() ? plan_.deviceOrdinal : 0,
                             dimensions,
                             entry.dtype.code,
                             entry.dtype.bits,
                             entry.dtype.lanes,
                             shape,
                             nullptr,
                             0};
          tvm_abi::Value value{};
          value.handle = &call.tensors[i];
          call.values.push_back(value);
          call.codes.push_back(tvm_abi::kCodeTensor);
        }
        break;
    }
  }
}

Error Executor::describe(const Error& error, size_t index) const {
  const PlanOperator& op = plan_.operators[index];
  std::string shapes;
  for (const uint32_t entry : op.inputs) shapes += (shapes.empty() ? "" : ", ") + shapeText(plan_.entries[entry]);
  shapes += " ->";
  for (const uint32_t entry : op.outputs) shapes += " " + shapeText(plan_.entries[entry]);
  Error described = error;
  if (op.kind != OperatorKind::kPacked && error.code() != "ABORTED") described.prefix(calls_[index].what + ": ");
  return described.add("operator", op.functionName).add("node", op.node).add("shapes", shapes);
}

reference::Operator Executor::prepareReference(size_t index) const {
  const PlanOperator& op = plan_.operators[index];
  std::vector<size_t> inputBytes, outputBytes;
  for (const uint32_t entry : op.inputs) inputBytes.push_back(plan_.entries[entry].sizeBytes);
  for (const uint32_t entry : op.outputs) outputBytes.push_back(plan_.entries[entry].sizeBytes);
  try {
    return reference::Operator(*op.program, inputBytes, outputBytes);
  } catch (const Error& error) {
    throw describe(error, index);
  }
}

void Executor::enqueue(const CancelFlag& cancelled) {
  if (onDevice() && !hasRun_) return firstRun(cancelled);
  for (size_t i = 0; i < calls_.size(); ++i) enqueueOperator(i, cancelled);
}

void Executor::enqueueOperator(size_t index, const CancelFlag& cancelled) {
  if (index >= calls_.size())
    throw Error("BAD_ARGUMENT", "expected an operator below " + std::to_string(calls_.size()) + " but received " + std::to_string(index));
  Call& call = calls_[index];
  try {
    switch (call.kind) {
      case OperatorKind::kPacked:
        if (!call.onDevice) throwIfCancelled(cancelled);  // on the device, waiting is what takes the time
        callOperator(call.function, call.values.data(), call.codes.data(), static_cast<int>(call.values.size()), call.what);
        break;
      case OperatorKind::kCopy: copyStorage(*call.target, *call.source, call.copyBytes, stream_ ? &*stream_ : nullptr); break;
      case OperatorKind::kReference:
        throwIfCancelled(cancelled);
        call.reference->run(call.inputs, call.outputs, &cancelled);
        break;
    }
  } catch (const Error& error) {
    throw describe(error, index);
  }
}

void Executor::runOperator(size_t index, const CancelFlag& cancelled) {
  const size_t before = tvm_abi::launches();
  enqueueOperator(index, cancelled);
  checkRuntimeError(index);
  try {
    const bool launchesItself = calls_[index].onDevice && tvm_abi::launches() == before;
    if (launchesItself) cuda::check(cuda::driver().contextSynchronize(), "waiting for the device");  // on whatever stream
    synchronize();
  } catch (const Error& error) {
    throw Error(describe(error, index)).prefix(plan_.operators[index].kind == OperatorKind::kPacked ? calls_[index].what + ": " : "");
  }
}

void Executor::synchronize() {
  if (stream_) stream_->synchronize();
}

void Executor::finish(const CancelFlag& cancelled) {
  try {
    synchronize();
    const cuda::Result result = module_ ? module_->takeRuntimeError() : cuda::kSuccess;
    if (result != cuda::kSuccess) throw cuda::failure(result, "launching a kernel of model.so");
  } catch (const Error& error) {
    const char* hint = "; `ladder verify` runs operator by operator and names the one at fault";
    if (error.context().count("contextLost")) throw Error(error.code(), error.message() + hint, error.context());
    for (size_t i = 0; i < calls_.size(); ++i) runOperator(i, cancelled);
    throw;
  }
}

void Executor::run(const CancelFlag& cancelled) {
  if (hasRun_ && !captureTried_) capture(cancelled);
  if (graph_) return replay();
  enqueue(cancelled);
  finish(cancelled);
}

bool Executor::isShort() const noexcept { return graph_ && replayMs_ < kShortMs; }

void Executor::replay() {
  const cuda::ContextScope context(plan_.deviceOrdinal);
  const auto start = std::chrono::steady_clock::now();
  launchGraph();
  stream_->synchronize();
  replayMs_ = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

std::string Executor::captureRefusal() const {
  if (!onDevice()) return "the executor runs on the CPU";
  for (const Call& call : calls_) {
    if (call.launchesItself) return call.what + " launches by itself, on the legacy default stream, which cannot be captured";
  }
  if (stream_->isLegacy()) return "model.so launches its kernels itself, on the legacy default stream, which cannot be captured";
  for (const Call& call : calls_) {
    const bool crossesDevices = call.kind == OperatorKind::kCopy && call.source->onDevice() != call.target->onDevice();
    if (!call.onDevice || crossesDevices) return call.what + " takes part on the CPU";
  }
  return {};
}

void Executor::enqueueCaptured(const CancelFlag& cancelled) {
  for (size_t i = 0; i < calls_.size(); ++i) {
    const size_t before = tvm_abi::launches();
    enqueueOperator(i, cancelled);
    if (calls_[i].kind == OperatorKind::kPacked && tvm_abi::launches() == before) {
      throw Error("UNSUPPORTED", calls_[i].what + " launched nothing on the executor's stream");
    }
  }
}

CaptureResult Executor::capture(const CancelFlag& cancelled) {
  CaptureResult result;
  if (!graph_) {
    // Whatever happens once only (workspaces, lazily loaded code) must have happened, and who launches by itself be known.
    firstRun(cancelled);
    captureTried_ = true;
    result.reason = captureRefusal();
    if (!result.reason.empty()) return result;
    try {
      graph_ = std::make_unique<cuda::Graph>(*stream_, [&] { enqueueCaptured(cancelled); });
    } catch (const Error& error) {
      if (error.context().count("contextLost") || error.code() == "ABORTED") throw;
      result.reason = error.message();
      return result;
    }
  }
  result.captured = true;
  result.kernelNodes = graph_->kernelNodes();
  result.programmaticEdges = graph_->programmaticEdges();
  return result;
}

void Executor::launchGraph() {
  if (!graph_) throw Error("UNSUPPORTED", "the checkpoint was not captured into a CUDA graph; measure with launch `stream`");
  graph_->launch(*stream_);
}

}  // namespace ladder::runtime
