// One model.so in the process: opened, found symbols in, closed. Each ModelLibrary has a mapping of its own, since compiled
// operators keep handles in static variables: a file that is mapped already is loaded again from a private copy.
#pragma once

#include <cstdint>
#include <string>

namespace ladder::runtime {

class ModelLibrary {
 public:
  /// @throws Error MISSING_SYMBOL naming each symbol that the process lacks; LOAD_FAILED, OUT_OF_MEMORY, IO
  explicit ModelLibrary(const std::string& path);
  ~ModelLibrary();
  ModelLibrary(const ModelLibrary&) = delete;
  ModelLibrary& operator=(const ModelLibrary&) = delete;

  /// The address of what the object itself exports, or null.
  void* find(const std::string& symbol) const;
  /// The same, or of a library that the object needs.
  void* findInNeeded(const std::string& symbol) const;
  /// Where an address of the object's file lies in the process.
  void* at(uint64_t address) const;
  const std::string& path() const noexcept { return path_; }

 private:
  std::string path_;
  std::string mappedPath_;
  void* handle_ = nullptr;
  int copyDescriptor_ = -1;
};

}  // namespace ladder::runtime
