// A loaded model.so with its device code and constants: everything that its operators reach by `__tvm_module_ctx`, and
// what the CUDA runtime inside it, where there is one, says of launches that its operators make by themselves.
#pragma once

#include <chrono>
#include <map>
#include <memory>

#include "../cuda/module.h"
#include "../tvm_abi/packed_function.h"
#include "kernel_function.h"
#include "model_library.h"
#include "plan.h"
#include "upload.h"

namespace ladder::runtime {

class ModelModule final : public tvm_abi::FunctionSource {
 public:
  /// @param stream where kernels go; must outlive the module; null for a CPU executor
  /// @throws Error MISSING_SYMBOL, LOAD_FAILED, WRONG_ARCHITECTURE, CUDA, BAD_MODULE, OPERATOR
  ModelModule(const PlanModule& plan, int deviceType, int ordinal, const cuda::Stream* stream, LoadTimes& times);
  ~ModelModule() override;
  ModelModule(const ModelModule&) = delete;
  ModelModule& operator=(const ModelModule&) = delete;

  tvm_abi::PackedFunction* find(const std::string& name) override;

  /// The operator `name`.
  /// @throws Error MISSING_SYMBOL
  tvm_abi::PackedCFunction operatorFunction(const std::string& name) const;

  /// The last error of the object's own CUDA runtime on this thread, which is forgotten with that; success where it has none.
  cuda::Result takeRuntimeError() const;

 private:
  void bindRuntime();
  void loadImages(const PlanModule& plan);
  void loadImage(const PlanImage& image);
  /// The image that waits for a look-up of this kernel, loaded now. @return whether there was one
  bool loadOnDemand(const std::string& kernel);
  /// Those that an initialiser wants go from the file to the device; the others stay where they are.
  void loadConstants(const PlanModule& plan, int deviceType, int ordinal);
  tvm_abi::Tensor* constantTensor(const PlanConstant& constant, int deviceType, int ordinal, Uploader& uploader);

  std::chrono::steady_clock::time_point started_;  // before library_, whose loading it times
  ModelLibrary library_;
  const cuda::Stream* stream_;
  int ordinal_;
  int (*lastError_)() = nullptr;  // cudaGetLastError
  std::vector<cuda::Module> images_;
  std::vector<PlanImage> waiting_;  // images of machine code that may be another GPU's
  std::map<std::string, std::unique_ptr<tvm_abi::PackedFunction>> functions_;
  std::vector<Storage> constants_;
  std::map<std::string, tvm_abi::Tensor> constantTensors_;  // initialisers may keep pointers to them
};

/// Calls an operator and turns a non-zero result into an Error: what a function of ours threw below it, or OPERATOR with
/// the text that it left.
/// @param what names the operator in the message: "operator `f` (node `n`)"
void callOperator(tvm_abi::PackedCFunction function, tvm_abi::Value* arguments, int* codes, int count, const std::string& what);

}  // namespace ladder::runtime
