// The two C++ functions that objects built with TVM's packed-function headers (Ladder's wrappers) need of their process:
// tvm::runtime::Backtrace() and tvm::runtime::detail::LogFatal::GetEntry(). The inlined code of those headers fills the entry,
// throws, and catches in the same object; only names, results and layouts are fixed from here.
#include <sstream>
#include <string>

#include "c_symbols.h"

namespace tvm::runtime {

/// Appended by TVM to the text of an error. A trace of this process would not help the reader of the message.
LADDER_EXPORT std::string Backtrace() { return std::string(); }

namespace detail {

class LogFatal {
 public:
  /// The layout is TVM's, as its inlined code writes to the members.
  struct Entry {
    std::ostringstream stream;
    std::string file;
    int line = 0;
  };
  LADDER_EXPORT static Entry& GetEntry();
};

LogFatal::Entry& LogFatal::GetEntry() {
  thread_local Entry entry;
  return entry;
}

}  // namespace detail
}  // namespace tvm::runtime
