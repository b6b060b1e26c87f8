// Promotes the addon's own symbols from local to global scope.
#include "visibility.h"

#include <dlfcn.h>

#include <string>

#include "../runtime/error.h"
#include "c_symbols.h"

namespace ladder::tvm_abi {
namespace {

void promote() {
  Dl_info info{};
  if (!dladdr(reinterpret_cast<void*>(&TVMFuncCall), &info) || !info.dli_fname ||
      !dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_GLOBAL)) {
    const char* reason = dlerror();
    throw Error("LOAD_FAILED", std::string("the addon could not make its TVM symbols visible to model.so: ") +
                                   (reason ? reason : "its own file was not found") + "; rebuild it with `node native/build.mjs`");
  }
}

}  // namespace

void exportSymbols() {
  static const bool done = (promote(), true);
  static_cast<void>(done);
}

}  // namespace ladder::tvm_abi
