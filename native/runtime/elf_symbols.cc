// The dynamic symbol table by section headers: objects that carry code for nvcc or TVM keep them.
#include "elf_symbols.h"

#include <elf.h>

#include <algorithm>
#include <cstring>

namespace ladder::runtime {
namespace {

constexpr size_t kMaxNameBytes = 4096;

template <typename Record>
bool readRecord(const File& file, uint64_t offset, Record& record) {
  if (!file.holds(offset, sizeof record)) return false;
  file.read(&record, offset, sizeof record);
  return true;
}

bool readHeader(const File& file, Elf64_Ehdr& header) {
  return readRecord(file, 0, header) && std::memcmp(header.e_ident, ELFMAG, SELFMAG) == 0 && header.e_ident[EI_CLASS] == ELFCLASS64;
}

/// The NUL-terminated string at `index` of a string table section.
std::string textAt(const File& file, const Elf64_Shdr& table, uint64_t index) {
  if (table.sh_offset > file.sizeBytes() || index >= file.sizeBytes() - table.sh_offset) return {};
  const uint64_t offset = table.sh_offset + index;
  std::string text(std::min<uint64_t>(kMaxNameBytes, file.sizeBytes() - offset), '\0');
  file.read(text.data(), offset, text.size());
  text.resize(strnlen(text.data(), text.size()));
  return text;
}

}  // namespace

uint64_t mappedFileBytes(const File& file) {
  Elf64_Ehdr header{};
  if (!readHeader(file, header)) return 0;
  uint64_t bytes = 0;
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment{};
    const uint64_t at = header.e_phoff + i * sizeof segment;
    uint64_t end = 0;
    if (!readRecord(file, at, segment)) return at + sizeof segment;
    if (segment.p_type != PT_LOAD || __builtin_add_overflow(segment.p_offset, segment.p_filesz, &end)) continue;
    bytes = std::max(bytes, end);
  }
  return bytes;
}

ElfNeeds readElfNeeds(const File& file) {
  ElfNeeds needs;
  Elf64_Ehdr header{};
  if (!readHeader(file, header)) return needs;
  std::vector<Elf64_Shdr> sections(header.e_shnum);
  for (size_t i = 0; i < sections.size(); ++i) {
    if (!readRecord(file, header.e_shoff + i * sizeof(Elf64_Shdr), sections[i])) return needs;
  }
  for (const Elf64_Shdr& section : sections) {
    if ((section.sh_type != SHT_DYNSYM && section.sh_type != SHT_DYNAMIC) || section.sh_link >= sections.size()) continue;
    const Elf64_Shdr& strings = sections[section.sh_link];
    if (section.sh_type == SHT_DYNSYM) {
      Elf64_Sym symbol{};
      for (uint64_t at = 0; at + sizeof symbol <= section.sh_size && readRecord(file, section.sh_offset + at, symbol);
           at += sizeof symbol) {
        if (symbol.st_shndx != SHN_UNDEF || symbol.st_name == 0 || ELF64_ST_BIND(symbol.st_info) != STB_GLOBAL) continue;
        needs.symbols.push_back(textAt(file, strings, symbol.st_name));
      }
    } else {
      Elf64_Dyn entry{};
      for (uint64_t at = 0; at + sizeof entry <= section.sh_size && readRecord(file, section.sh_offset + at, entry); at += sizeof entry) {
        if (entry.d_tag == DT_NULL) break;
        if (entry.d_tag == DT_NEEDED) needs.libraries.push_back(textAt(file, strings, entry.d_un.d_val));
      }
    }
  }
  return needs;
}

}  // namespace ladder::runtime
