// A regular file, read by ranges: parameters in graph.params, constants and symbols in model.so.
#pragma once

#include <cstdint>
#include <string>

namespace ladder::runtime {

class File {
 public:
  /// @throws Error IO for what cannot be opened, or is no regular file
  explicit File(const std::string& path);
  ~File();
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  const std::string& path() const noexcept { return path_; }
  uint64_t sizeBytes() const noexcept { return sizeBytes_; }
  bool holds(uint64_t offset, uint64_t bytes) const noexcept { return offset <= sizeBytes_ && bytes <= sizeBytes_ - offset; }
  /// Reads exactly that range. Not by mapping: a file that shrinks meanwhile is then an error and no signal.
  /// @throws Error IO
  void read(void* target, uint64_t offset, uint64_t bytes) const;

 private:
  std::string path_;
  int descriptor_;
  uint64_t sizeBytes_ = 0;
};

}  // namespace ladder::runtime
