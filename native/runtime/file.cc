// open, fstat, pread.
#include "file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "error.h"

namespace ladder::runtime {

File::File(const std::string& path) : path_(path), descriptor_(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
  struct stat status{};
  const bool opened = descriptor_ >= 0 && fstat(descriptor_, &status) == 0;
  if (!opened || !S_ISREG(status.st_mode)) {
    const std::string reason = opened ? "it is no regular file" : std::strerror(errno);
    if (descriptor_ >= 0) close(descriptor_);
    throw Error("IO", "expected a readable file `" + path + "`: " + reason, {{"file", path}});
  }
  sizeBytes_ = static_cast<uint64_t>(status.st_size);
}

File::~File() { close(descriptor_); }

void File::read(void* target, uint64_t offset, uint64_t bytes) const {
  for (uint64_t done = 0; done < bytes;) {
    const ssize_t count = pread(descriptor_, static_cast<char*>(target) + done, bytes - done, static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw Error("IO", "reading `" + path_ + "` failed: " + std::strerror(errno), {{"file", path_}});
    if (count == 0) throw Error("IO", "`" + path_ + "` ended while it was read; it is cut short", {{"file", path_}});
    done += static_cast<uint64_t>(count);
  }
}

}  // namespace ladder::runtime
