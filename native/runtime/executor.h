// A loaded checkpoint on one device: storages, prepared calls, and the flat loop over them. Everything is looked up and
// allocated at construction. All methods, constructor and destructor included, belong to one thread: it holds the CUDA context.
// Timing loops are timing/'s part, comparison with the reference is verify.h's.
#pragma once

#include <limits>
#include <memory>
#include <optional>

#include "../cuda/device_kernels.h"
#include "../cuda/graph.h"
#include "../tvm_abi/operator_stream.h"
#include "../tvm_abi/workspace.h"
#include "cancel.h"
#include "model_module.h"
#include "plan.h"
#include "storage.h"

namespace ladder::runtime {

class Executor {
 public:
  /// @throws Error BAD_ARGUMENT, NO_DRIVER, NO_DEVICE, OUT_OF_MEMORY, and what ModelModule throws; nothing stays allocated then
  explicit Executor(ExecutorPlan plan);
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  const ExecutorPlan& plan() const noexcept { return plan_; }
  const LoadTimes& loadTimes() const noexcept { return loadTimes_; }
  bool onDevice() const noexcept { return plan_.deviceType == 2; }

  // Data (executor_data.cc). All wait until the bytes are there.
  void write(uint32_t entry, const void* bytes, uint64_t sizeBytes);
  /// @throws Error ABORTED between pieces of a large tensor
  void read(uint32_t entry, uint64_t offset, uint64_t sizeBytes, void* target, const CancelFlag& cancelled);
  /// Copies another executor's entry, on the same device, while that executor's thread waits.
  /// @throws Error WRONG_LENGTH, UNSUPPORTED for another device
  void copyFrom(uint32_t entry, const Executor& source, uint32_t sourceEntry);
  /// The entry's bytes where they lie on the host; null on the device.
  const void* hostData(uint32_t entry) const;
  /// @throws Error UNSUPPORTED for a type that the kind of fill does not define
  void fill(uint32_t entry, const reference::FillSpec& fill, uint64_t key);
  void setBytes(uint32_t entry, uint8_t value);
  /// Copies ranges of a file into entries, past the JavaScript heap. @throws Error IO, BAD_PARAMS, ABORTED
  void loadParams(const std::string& path, const std::vector<ParamCopy>& copies, const CancelFlag& cancelled);

  // Execution.
  /// The first inference on a device, operator by operator (first_run.cc): launches that failed or did not happen are found
  /// before anything is timed. Once it has succeeded, and on the CPU, it does nothing.
  /// @throws Error as enqueue; WRONG_ARCHITECTURE, OPERATOR for an operator that launched nothing
  void firstRun(const CancelFlag& cancelled);
  /// Puts one inference on the stream (on the CPU: runs it), the first by `firstRun`.
  /// @throws Error OPERATOR and others, with operator, node and shapes
  void enqueue(const CancelFlag& cancelled);
  void enqueueOperator(size_t index, const CancelFlag& cancelled);
  /// One inference, to its end: from the second on by replaying its graph, where it can be captured.
  void run(const CancelFlag& cancelled);
  /// Whether an inference is so short that the thread which wants it may as well wait for it.
  bool isShort() const noexcept;
  /// One short inference, on any thread, while the executor's own does nothing.
  void replay();
  /// One operator, to its end: a failure on the device carries its name too.
  void runOperator(size_t index, const CancelFlag& cancelled);
  void synchronize();
  /// Waits for inferences that were enqueued, and looks whether all their launches happened. A failure that does not end the
  /// context is looked for operator by operator; of one that does, the message says how to find it.
  void finish(const CancelFlag& cancelled);
  /// Captures one inference into a CUDA graph, after one that is not captured. Once captured, it stays so.
  CaptureResult capture(const CancelFlag& cancelled);
  /// Replays the graph. @throws Error UNSUPPORTED when there is none
  void launchGraph();

  /// What the operator of that index computes, ready to run on the host; it has a program.
  /// @throws Error BAD_ARGUMENT, UNSUPPORTED, WRONG_LENGTH, with operator, node and shapes
  reference::Operator prepareReference(size_t index) const;

  // For the timing loops; device executors only.
  const cuda::Stream& stream() const { return *stream_; }
  cuda::DeviceKernels& kernels() { return cuda::DeviceKernels::of(plan_.deviceOrdinal); }

 private:
  struct Call;
  void allocate();
  void prepare();
  Error describe(const Error& error, size_t index) const;
  std::string captureRefusal() const;
  const Storage& storageOf(uint32_t entry) const { return storages_[plan_.entries[entry].storage]; }
  const PlanEntry& checkedEntry(uint32_t entry) const;
  void enqueueCaptured(const CancelFlag& cancelled);
  bool fillsOnHost(uint64_t sizeBytes);
  void firstCall(size_t index, const CancelFlag& cancelled);
  std::vector<uint32_t> poisonable(size_t index) const;
  bool holdsOnly(uint32_t entry, uint8_t value) const;
  void checkRuntimeError(size_t index) const;

  ExecutorPlan plan_;  // its images are released once they are loaded
  LoadTimes loadTimes_;
  std::optional<cuda::Stream> stream_;
  tvm_abi::WorkspacePool workspace_;
  std::optional<tvm_abi::WorkspaceScope> workspaceScope_;
  std::optional<tvm_abi::StreamScope> streamScope_;
  std::vector<Storage> storages_;
  std::unique_ptr<ModelModule> module_;
  std::vector<Call> calls_;
  std::unique_ptr<cuda::Graph> graph_;
  bool hasRun_ = false;
  bool captureTried_ = false;
  double replayMs_ = std::numeric_limits<double>::infinity();  // the last replay, with the wait for it
  uint64_t hostFilledBytes_ = 0;
};

}  // namespace ladder::runtime
