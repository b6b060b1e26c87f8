// Reads from a shared object's file whether it is whole, and which symbols and libraries it needs, for the message when it
// cannot be loaded.
// Follows the ELF-64 specification; every offset is checked, as the file may be anything.
#pragma once

#include <string>
#include <vector>

#include "file.h"

namespace ladder::runtime {

struct ElfNeeds {
  /// Undefined, not weak, in the dynamic symbol table.
  std::vector<std::string> symbols;
  /// DT_NEEDED.
  std::vector<std::string> libraries;
};

/// Bytes that the file must have for the linker to map it: a shorter one would end the process with SIGBUS.
/// @return 0 where it is not a well-formed little-endian ELF-64 object
uint64_t mappedFileBytes(const File& file);

/// Empty lists where the file is not a well-formed little-endian ELF-64 object.
ElfNeeds readElfNeeds(const File& file);

}  // namespace ladder::runtime
