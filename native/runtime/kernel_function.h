// A kernel of the module blob as a packed function: the host code of model.so calls it with the kernel's arguments and one
// integer per launch tag, and it is launched on the executor's stream (TVM 0.12's CUDAWrappedFunc and LaunchParamConfig).
#pragma once

#include <vector>

#include "../cuda/module.h"
#include "../tvm_abi/packed_function.h"
#include "plan.h"

namespace ladder::runtime {

class KernelFunction final : public tvm_abi::PackedFunction {
 public:
  /// @param stream must outlive the function
  /// @param programmatic whether the device can launch programmatically (compute capability 9.0)
  /// @throws Error BAD_MODULE for a launch tag or argument type that is unknown
  KernelFunction(cuda::Kernel kernel, const PlanKernel& plan, const cuda::Stream& stream, bool programmatic);
  void call(tvm_abi::Value* arguments, int* codes, int count, tvm_abi::Value* result, int* resultCode) override;

 private:
  cuda::Kernel kernel_;
  const cuda::Stream& stream_;
  bool programmatic_;
  std::vector<bool> isFloat32_;                    // per argument: TVM passes every float as a double
  std::vector<int> tags_;                          // 0…2 grid, 3…5 block, 6 dynamic shared memory
  std::vector<void*> pointers_;
  std::vector<float> floats_;
};

}  // namespace ladder::runtime
