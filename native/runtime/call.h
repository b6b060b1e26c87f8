// One prepared step of the executor's loop: TVM's arguments, ready to be passed again and again.
#pragma once

#include "executor.h"

namespace ladder::runtime {

struct Executor::Call {
  OperatorKind kind;
  std::string what;  // "operator `f` (node `n`)"
  bool onDevice;     // an output lies on the device
  bool launchesItself = false;  // seen in the first run: it changed its outputs without a launch of ours

  // packed: one tensor per input, then per output; `values` point to them.
  tvm_abi::PackedCFunction function = nullptr;
  std::vector<tvm_abi::Tensor> tensors;
  std::vector<int64_t> flatExtents;  // the 1-D shapes of `flatten`
  std::vector<tvm_abi::Value> values;
  std::vector<int> codes;

  // copy
  const Storage* source = nullptr;
  const Storage* target = nullptr;
  uint64_t copyBytes = 0;

  // reference
  std::vector<reference::Buffer> inputs;
  std::vector<reference::MutableBuffer> outputs;
  std::optional<reference::Operator> reference;
};

}  // namespace ladder::runtime
