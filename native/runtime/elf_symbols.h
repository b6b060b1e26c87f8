// Reads from a shared object's file which symbols and libraries it needs, for the message when it cannot be loaded.
// Follows the ELF-64 specification; every offset is checked, as the file may be anything.
#pragma once

#include <string>
#include <vector>

namespace ladder::runtime {

struct ElfNeeds {
  /// Undefined, not weak, in the dynamic symbol table.
  std::vector<std::string> symbols;
  /// DT_NEEDED.
  std::vector<std::string> libraries;
};

/// Empty lists where the file is not a well-formed little-endian ELF-64 object.
ElfNeeds readElfNeeds(const std::string& path);

}  // namespace ladder::runtime
