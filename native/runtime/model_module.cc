// Loading of model.so: the linker's part, the runtime's variables in it, its device code, its constants.
#include "model_module.h"

#include <algorithm>

#include "../tvm_abi/c_symbols.h"
#include "error.h"

namespace ladder::runtime {
namespace {

double elapsedMsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

/// A function that model.so exports, called by other code of it through the runtime.
class ExportedFunction final : public tvm_abi::PackedFunction {
 public:
  ExportedFunction(tvm_abi::PackedCFunction function, std::string name) : function_(function), name_(std::move(name)) {}
  void call(tvm_abi::Value* arguments, int* codes, int count, tvm_abi::Value* result, int* resultCode) override {
    if (function_(arguments, codes, count, result, resultCode, nullptr) != 0) {
      throw Error("OPERATOR", "function `" + name_ + "` of model.so failed: " + tvm_abi::lastErrorText(), {{"function", name_}});
    }
  }

 private:
  tvm_abi::PackedCFunction function_;
  std::string name_;
};

template <typename Function>
void setVariable(const ModelLibrary& library, const char* name, Function function) {
  if (void* variable = library.find(name)) *static_cast<Function*>(variable) = function;
}

}  // namespace

ModelModule::ModelModule(const PlanModule& plan, int deviceType, int ordinal, const cuda::Stream* stream, LoadTimes& times)
    : started_(std::chrono::steady_clock::now()), library_(plan.path), stream_(stream), ordinal_(ordinal) {
  times.dlopenMs = elapsedMsSince(started_);
  bindRuntime();
  if (void* lastError = library_.findInNeeded("cudaGetLastError")) {
    lastError_ = reinterpret_cast<int (*)()>(lastError);
  } else if (plan.lastErrorAddress) {
    lastError_ = reinterpret_cast<int (*)()>(library_.at(*plan.lastErrorAddress));
  }
  const auto start = std::chrono::steady_clock::now();
  if (stream) loadImages(plan);
  times.moduleMs = elapsedMsSince(start);
  loadConstants(plan, deviceType, ordinal);
}

ModelModule::~ModelModule() = default;

void ModelModule::bindRuntime() {
  setVariable<void*>(library_, "__tvm_module_ctx", static_cast<tvm_abi::FunctionSource*>(this));
  setVariable(library_, "__TVMFuncCall", &TVMFuncCall);
  setVariable(library_, "__TVMAPISetLastError", &TVMAPISetLastError);
  setVariable(library_, "__TVMBackendGetFuncFromEnv", &TVMBackendGetFuncFromEnv);
  setVariable(library_, "__TVMBackendAllocWorkspace", &TVMBackendAllocWorkspace);
  setVariable(library_, "__TVMBackendFreeWorkspace", &TVMBackendFreeWorkspace);
  setVariable(library_, "__TVMBackendParallelLaunch", &TVMBackendParallelLaunch);
  setVariable(library_, "__TVMBackendParallelBarrier", &TVMBackendParallelBarrier);
}

void ModelModule::loadImages(const PlanModule& plan) {
  for (const PlanImage& image : plan.images) {
    if (image.onDemand) waiting_.push_back(image);
    else loadImage(image);
  }
}

void ModelModule::loadImage(const PlanImage& image) {
  const bool programmatic = cuda::computeCapability(ordinal_).first >= 9;
  images_.emplace_back(image.bytes.data(), image.format, ordinal_);
  for (const PlanKernel& kernel : image.kernels) {
    functions_[kernel.name] = std::make_unique<KernelFunction>(images_.back().kernel(kernel.name), kernel, *stream_, programmatic);
  }
}

bool ModelModule::loadOnDemand(const std::string& name) {
  for (auto image = waiting_.begin(); image != waiting_.end(); ++image) {
    for (const PlanKernel& kernel : image->kernels) {
      if (kernel.name != name) continue;
      const PlanImage wanted = std::move(*image);
      waiting_.erase(image);
      loadImage(wanted);
      return true;
    }
  }
  return false;
}

void ModelModule::loadConstants(const PlanModule& plan, int deviceType, int ordinal) {
  if (plan.constantUsers.empty()) return;
  const File file(plan.path);
  Uploader uploader(file, stream_);
  for (const PlanConstantUser& user : plan.constantUsers) {
    void* initialise = library_.find("__init_" + user.symbol);
    if (!initialise) continue;  // as in TVM: a function without an initialiser has its constants in itself
    std::vector<tvm_abi::Value> values;
    std::vector<int> codes;
    for (const std::string& name : user.constants) {
      const auto constant =
          std::find_if(plan.constants.begin(), plan.constants.end(), [&](const auto& other) { return other.name == name; });
      if (constant == plan.constants.end() || !file.holds(constant->fileOffset, constant->sizeBytes)) {
        throw Error("BAD_MODULE",
                    "model.so's function `" + user.symbol + "` needs the constant `" + name + "`, which the module does not hold",
                    {{"function", user.symbol}, {"constant", name}});
      }
      tvm_abi::Value value{};
      value.handle = constantTensor(*constant, deviceType, ordinal, uploader);
      values.push_back(value);
      codes.push_back(tvm_abi::kCodeTensor);
    }
    if (stream_) stream_->synchronize();
    callOperator(reinterpret_cast<tvm_abi::PackedCFunction>(initialise), values.data(), codes.data(), static_cast<int>(values.size()),
                 "initialiser `__init_" + user.symbol + "`");
  }
}

tvm_abi::Tensor* ModelModule::constantTensor(const PlanConstant& constant, int deviceType, int ordinal, Uploader& uploader) {
  const auto known = constantTensors_.find(constant.name);
  if (known != constantTensors_.end()) return &known->second;
  static const CancelFlag kNeverCancelled{false};
  constants_.emplace_back(deviceType, constant.sizeBytes, ("the constant " + constant.name).c_str());
  uploader.upload(constants_.back(), constant.fileOffset, constant.sizeBytes, kNeverCancelled);
  tvm_abi::Tensor& tensor = constantTensors_[constant.name];
  tensor = {constants_.back().data(),
            deviceType,
            deviceType == tvm_abi::kDeviceCuda ? ordinal : 0,
            static_cast<int32_t>(constant.shape.size()),
            constant.dtype.code,
            constant.dtype.bits,
            constant.dtype.lanes,
            const_cast<int64_t*>(constant.shape.data()),
            nullptr,
            0};
  return &tensor;
}

tvm_abi::PackedFunction* ModelModule::find(const std::string& name) {
  auto found = functions_.find(name);
  if (found == functions_.end() && loadOnDemand(name)) found = functions_.find(name);
  if (found != functions_.end()) return found->second.get();
  void* address = library_.find(name);
  if (!address) return nullptr;
  auto function = std::make_unique<ExportedFunction>(reinterpret_cast<tvm_abi::PackedCFunction>(address), name);
  return (functions_[name] = std::move(function)).get();
}

tvm_abi::PackedCFunction ModelModule::operatorFunction(const std::string& name) const {
  void* address = library_.find(name);
  if (!address) {
    throw Error("MISSING_SYMBOL",
                "`" + library_.path() + "` exports no operator `" + name +
                    "` that graph.json calls; the two files are of different builds: rebuild the checkpoint",
                {{"file", library_.path()}, {"symbol", name}});
  }
  return reinterpret_cast<tvm_abi::PackedCFunction>(address);
}

cuda::Result ModelModule::takeRuntimeError() const { return lastError_ ? lastError_() : cuda::kSuccess; }

void callOperator(tvm_abi::PackedCFunction function, tvm_abi::Value* arguments, int* codes, int count, const std::string& what) {
  tvm_abi::Value result{};
  int resultCode = tvm_abi::kCodeNull;
  tvm_abi::pendingError().reset();  // of a call that failed and whose caller went on
  const int status = function(arguments, codes, count, &result, &resultCode, nullptr);
  if (__builtin_expect(status == 0, 1)) return;
  std::optional<Error> pending = std::exchange(tvm_abi::pendingError(), std::nullopt);
  const std::string text = std::exchange(tvm_abi::lastErrorText(), std::string());
  if (pending) throw Error(pending->code(), what + ": " + pending->message(), pending->context());
  throw Error("OPERATOR", what + " failed with status " + std::to_string(status) + ": " + (text.empty() ? "it left no message" : text),
              {{"status", double(status)}, {"text", text}});
}

}  // namespace ladder::runtime
