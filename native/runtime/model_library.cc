// dlopen, private copies, and what to say when it fails.
#include "model_library.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <vector>

#include "../tvm_abi/visibility.h"
#include "elf_symbols.h"
#include "error.h"

namespace ladder::runtime {
namespace {

bool isMapped(const std::string& path) {
  void* handle = dlopen(path.c_str(), RTLD_LAZY | RTLD_NOLOAD);
  if (handle) dlclose(handle);
  return handle != nullptr;
}

/// An anonymous file with the same bytes.
int copyToMemory(const std::string& path) {
  const int source = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (source < 0) throw Error("IO", "expected a readable file `" + path + "`: " + std::strerror(errno), {{"file", path}});
  const int copy = memfd_create("model.so", MFD_CLOEXEC);
  struct stat status{};
  bool complete = copy >= 0 && fstat(source, &status) == 0;
  for (off_t offset = 0; complete && offset < status.st_size;) {
    complete = sendfile(copy, source, &offset, static_cast<size_t>(status.st_size - offset)) > 0;
  }
  const std::string reason = std::strerror(errno);
  close(source);
  if (complete) return copy;
  if (copy >= 0) close(copy);
  throw Error("IO", "copying `" + path + "` to memory, to load it a second time, failed: " + reason, {{"file", path}});
}

bool processHas(const std::string& symbol, const std::vector<void*>& libraries) {
  if (dlsym(RTLD_DEFAULT, symbol.c_str())) return true;
  for (void* library : libraries) {
    if (dlsym(library, symbol.c_str())) return true;
  }
  return false;
}

Error loadFailure(const std::string& path, const std::string& reason) {
  if (reason.find("undefined symbol") == std::string::npos) {
    return Error("LOAD_FAILED",
                 "the dynamic linker refused `" + path + "`: " + reason +
                     "; check that it was built for this machine and that the libraries it names are installed",
                 {{"file", path}});
  }
  const ElfNeeds needs = readElfNeeds(File(path));
  std::vector<void*> libraries;
  for (const std::string& name : needs.libraries) {
    if (void* library = dlopen(name.c_str(), RTLD_LAZY | RTLD_LOCAL)) libraries.push_back(library);
  }
  std::string missing;
  for (const std::string& symbol : needs.symbols) {
    if (!processHas(symbol, libraries)) missing += (missing.empty() ? "" : ", ") + symbol;
  }
  for (void* library : libraries) dlclose(library);
  if (missing.empty()) missing = reason;
  return Error("MISSING_SYMBOL",
               "`" + path + "` needs symbols that this process does not have: " + missing +
                   "; it was built against a TVM runtime with more than checkpoints need: rebuild it without them",
               {{"file", path}, {"symbols", missing}});
}

/// @throws Error IO for what is no regular file, LOAD_FAILED for one that is cut short
void refuseCutShort(const std::string& path) {
  const File file(path);
  const uint64_t wanted = mappedFileBytes(file);
  if (wanted <= file.sizeBytes()) return;
  throw Error("LOAD_FAILED",
              "`" + path + "` is cut short: it has " + std::to_string(file.sizeBytes()) + " bytes, of which the linker maps " +
                  std::to_string(wanted) + "; copy or build it again",
              {{"file", path}});
}

}  // namespace

ModelLibrary::ModelLibrary(const std::string& path) : path_(path) {
  refuseCutShort(path);
  tvm_abi::exportSymbols();
  // Between the question whether a file is mapped and its mapping no other load may come.
  static std::mutex* const loading = new std::mutex();
  const std::lock_guard<std::mutex> lock(*loading);
  mappedPath_ = path.find('/') == std::string::npos ? "./" + path : path;  // a bare name would be looked for in the library folders
  if (isMapped(mappedPath_)) {
    copyDescriptor_ = copyToMemory(mappedPath_);
    mappedPath_ = "/proc/self/fd/" + std::to_string(copyDescriptor_);
  }
  handle_ = dlopen(mappedPath_.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle_) return;
  const char* text = dlerror();
  const std::string reason = text ? text : "no reason given";
  if (copyDescriptor_ >= 0) close(copyDescriptor_);
  throw loadFailure(path, reason);
}

ModelLibrary::~ModelLibrary() {
  dlclose(handle_);
  // The linker knows a mapping by its name. An object that cannot be unmapped (GNU unique symbols) keeps its descriptor, so
  // that the number, and with it the name, is never used for another.
  if (copyDescriptor_ >= 0 && !isMapped(mappedPath_)) close(copyDescriptor_);
}

void* ModelLibrary::find(const std::string& symbol) const {
  // dlsym goes on to the libraries that the object needs: an operator must not turn out to be a function of libc.
  void* address = findInNeeded(symbol);
  Dl_info info{};
  if (!address || !dladdr(address, &info)) return nullptr;
  return info.dli_fbase == at(0) ? address : nullptr;
}

void* ModelLibrary::findInNeeded(const std::string& symbol) const { return dlsym(handle_, symbol.c_str()); }

void* ModelLibrary::at(uint64_t address) const {
  link_map* map = nullptr;
  if (dlinfo(handle_, RTLD_DI_LINKMAP, &map) != 0) return nullptr;
  return reinterpret_cast<void*>(map->l_addr + address);
}

}  // namespace ladder::runtime
