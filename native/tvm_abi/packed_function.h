// What a function handle and a module context are on this side of TVM's C ABI, and how errors cross it.
// Exceptions never pass through model.so: they are kept per thread while its C code returns −1, and thrown again behind it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "../runtime/error.h"
#include "abi.h"

namespace ladder::tvm_abi {

/// What TVMBackendGetFuncFromEnv hands out and TVMFuncCall calls.
class PackedFunction {
 public:
  virtual ~PackedFunction() = default;
  /// @throws Error
  virtual void call(Value* arguments, int* codes, int count, Value* result, int* resultCode) = 0;
};

/// What `__tvm_module_ctx` points to: finds kernels of the blob and functions of the object by name.
class FunctionSource {
 public:
  virtual ~FunctionSource() = default;
  /// Null when there is none. The function lives as long as the source.
  virtual PackedFunction* find(const std::string& name) = 0;
};

/// The text that TVMAPISetLastError left on this thread.
std::string& lastErrorText();

/// The Error that a function of ours threw below model.so's C code on this thread, if any.
std::optional<Error>& pendingError();

/// A function of the process that model.so may call by name, or null. Lives forever.
PackedFunction* findGlobalFunction(const std::string& name);

/// The names of all of them.
std::vector<std::string> globalFunctionNames();

}  // namespace ladder::tvm_abi
