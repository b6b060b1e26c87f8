// The dynamic symbol table by section headers: objects that carry code for nvcc or TVM keep them.
#include "elf_symbols.h"

#include <elf.h>

#include <cstring>
#include <fstream>
#include <iterator>

namespace ladder::runtime {
namespace {

class File {
 public:
  explicit File(const std::string& path) {
    std::ifstream stream(path, std::ios::binary);
    bytes_.assign(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
  }
  template <typename Record>
  bool read(uint64_t offset, Record& record) const {
    if (offset > bytes_.size() || bytes_.size() - offset < sizeof record) return false;
    std::memcpy(&record, bytes_.data() + offset, sizeof record);
    return true;
  }
  /// The NUL-terminated string at `index` of a string table section.
  std::string text(const Elf64_Shdr& table, uint64_t index) const {
    if (table.sh_offset > bytes_.size() || index >= bytes_.size() - table.sh_offset) return {};
    const char* begin = bytes_.data() + table.sh_offset + index;
    return std::string(begin, strnlen(begin, bytes_.size() - table.sh_offset - index));
  }

 private:
  std::vector<char> bytes_;
};

}  // namespace

ElfNeeds readElfNeeds(const std::string& path) {
  ElfNeeds needs;
  const File file(path);
  Elf64_Ehdr header{};
  if (!file.read(0, header) || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64) return needs;
  std::vector<Elf64_Shdr> sections(header.e_shnum);
  for (size_t i = 0; i < sections.size(); ++i) {
    if (!file.read(header.e_shoff + i * sizeof(Elf64_Shdr), sections[i])) return needs;
  }
  for (const Elf64_Shdr& section : sections) {
    if ((section.sh_type != SHT_DYNSYM && section.sh_type != SHT_DYNAMIC) || section.sh_link >= sections.size()) continue;
    const Elf64_Shdr& strings = sections[section.sh_link];
    if (section.sh_type == SHT_DYNSYM) {
      Elf64_Sym symbol{};
      for (uint64_t at = 0; at + sizeof symbol <= section.sh_size && file.read(section.sh_offset + at, symbol); at += sizeof symbol) {
        if (symbol.st_shndx != SHN_UNDEF || symbol.st_name == 0 || ELF64_ST_BIND(symbol.st_info) != STB_GLOBAL) continue;
        needs.symbols.push_back(file.text(strings, symbol.st_name));
      }
    } else {
      Elf64_Dyn entry{};
      for (uint64_t at = 0; at + sizeof entry <= section.sh_size && file.read(section.sh_offset + at, entry); at += sizeof entry) {
        if (entry.d_tag == DT_NULL) break;
        if (entry.d_tag == DT_NEEDED) needs.libraries.push_back(file.text(strings, entry.d_un.d_val));
      }
    }
  }
  return needs;
}

}  // namespace ladder::runtime
