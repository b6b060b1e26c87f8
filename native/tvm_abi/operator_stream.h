// Where operators on this thread launch: what the executor lends to kernels of the blob and to global functions.
#pragma once

#include <cstddef>

#include "../cuda/handles.h"

namespace ladder::tvm_abi {

/// A device and a stream of it.
struct OperatorStream {
  int ordinal;
  const cuda::Stream& stream;
};

/// The scope's. @throws Error UNSUPPORTED where operators run on the CPU; `what` names who asks
const OperatorStream& operatorStream(const char* what);

/// Launches on this thread so far: how the executor notices an operator that launched nothing on the stream.
size_t& launches();

/// Lends `stream` to this thread's operators while it lives.
class StreamScope {
 public:
  explicit StreamScope(OperatorStream stream);
  ~StreamScope();
  StreamScope(const StreamScope&) = delete;
  StreamScope& operator=(const StreamScope&) = delete;

 private:
  OperatorStream stream_;
  const OperatorStream* previous_;
};

}  // namespace ladder::tvm_abi
