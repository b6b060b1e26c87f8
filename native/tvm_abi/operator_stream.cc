// The calling thread's stream.
#include "operator_stream.h"

#include <string>

#include "../runtime/error.h"

namespace ladder::tvm_abi {
namespace {

thread_local const OperatorStream* scopedStream = nullptr;

}  // namespace

const OperatorStream& operatorStream(const char* what) {
  if (!scopedStream) throw Error("UNSUPPORTED", "`" + std::string(what) + "` runs on a GPU only; load the checkpoint on one");
  return *scopedStream;
}

size_t& launches() {
  thread_local size_t count = 0;
  return count;
}

StreamScope::StreamScope(OperatorStream stream) : stream_(stream), previous_(scopedStream) { scopedStream = &stream_; }
StreamScope::~StreamScope() { scopedStream = previous_; }

}  // namespace ladder::tvm_abi
