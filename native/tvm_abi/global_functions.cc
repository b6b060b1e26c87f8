// The global packed functions that this runtime provides to model.so, and refusals, in words, of known ones that it does not.
#include <map>
#include <string>

#include "../cuda/handles.h"
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

class Refusal final : public PackedFunction {
 public:
  explicit Refusal(std::string message) : message_(std::move(message)) {}
  void call(Value*, int*, int, Value*, int*) override { throw Error("UNSUPPORTED", message_); }

 private:
  std::string message_;
};

}  // namespace

PackedFunction* findGlobalFunction(const std::string& name) {
  static const auto* const kFunctions = new std::map<std::string, PackedFunction*>{
      {"__tvm_set_device", new SetDevice()},
      {"tvm.contrib.cudnn.conv2d.forward",
       new Refusal("this checkpoint calls `tvm.contrib.cudnn.conv2d.forward`: cuDNN convolutions are not supported here; "
                   "build the checkpoint without cuDNN")},
  };
  const auto found = kFunctions->find(name);
  return found == kFunctions->end() ? nullptr : found->second;
}

}  // namespace ladder::tvm_abi
