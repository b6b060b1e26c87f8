// The global packed functions that this runtime provides to model.so.
#include <cstdlib>
#include <map>
#include <string>
#include <utility>

#include "../cuda/handles.h"
#include "../cuda/module.h"
#include "cudnn_functions.h"
#include "packed_function.h"

namespace ladder::tvm_abi {
namespace {

/// Lowered host code selects its device before it launches. The executor's thread has it current already.
class SetDevice final : public PackedFunction {
  void call(Value* arguments, int*, int count, Value*, int*) override {
    if (count != 2) throw Error("BAD_MODULE", "model.so calls `__tvm_set_device` with " + std::to_string(count) + " arguments; expected 2");
    if (arguments[0].integer == kDeviceCuda) cuda::makeCurrent(static_cast<int>(arguments[1].integer));
  }
};

/// TVM's DeviceAttrKind, of which only the compute capability is known here: "9.0". Where the driver is told to take PTX only
/// (CUDA_FORCE_PTX_JIT), that of the PTX, so that code made for several GPUs takes what has some.
class GetDeviceAttr final : public PackedFunction {
  void call(Value* arguments, int*, int count, Value* result, int* resultCode) override {
    constexpr int64_t kComputeVersion = 4;
    if (count != 3)
      throw Error("BAD_MODULE", "model.so calls `runtime.GetDeviceAttr` with " + std::to_string(count) + " arguments; expected 3");
    if (arguments[0].integer != kDeviceCuda || arguments[2].integer != kComputeVersion) {
      throw Error("UNSUPPORTED", "model.so asks `runtime.GetDeviceAttr` for attribute " + std::to_string(arguments[2].integer) +
                                     " of device type " + std::to_string(arguments[0].integer) +
                                     "; only the compute capability (4) of CUDA devices (2) is answered");
    }
    thread_local std::string text;
    const char* forced = std::getenv("CUDA_FORCE_PTX_JIT");
    const auto [major, minor] =
        forced && *forced == '1' ? std::pair<int, int>(8, 0) : cuda::computeCapability(static_cast<int>(arguments[1].integer));
    text = std::to_string(major) + "." + std::to_string(minor);
    result->text = text.c_str();
    *resultCode = kCodeText;
  }
};

const std::map<std::string, PackedFunction*>& globalFunctions() {
  static const auto* const kFunctions = new std::map<std::string, PackedFunction*>{
      {"__tvm_set_device", new SetDevice()},
      {"runtime.GetDeviceAttr", new GetDeviceAttr()},
      {"tvm.contrib.cudnn.conv2d.forward", new CudnnConvolution()},
      {"tvm.contrib.cudnn.softmax.forward", new CudnnSoftmax()},
  };
  return *kFunctions;
}

}  // namespace

PackedFunction* findGlobalFunction(const std::string& name) {
  const auto found = globalFunctions().find(name);
  return found == globalFunctions().end() ? nullptr : found->second;
}

std::vector<std::string> globalFunctionNames() {
  std::vector<std::string> names;
  for (const auto& [name, function] : globalFunctions()) names.push_back(name);
  return names;
}

}  // namespace ladder::tvm_abi
