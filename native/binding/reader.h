// Reads JavaScript objects field by field. What does not fit is BAD_ARGUMENT: expected X for `name` but received Y.
#pragma once

#include <napi.h>

#include <cstdint>
#include <string>
#include <vector>

namespace ladder::binding {

/// Bytes of a Uint8Array, which JavaScript keeps.
struct ByteView {
  uint8_t* data;
  size_t size;
};

/// e.g. "string \"x\"", "null", "number 3.5": for messages.
std::string describe(Napi::Value value);

double readNumber(Napi::Value value, const std::string& name);
/// An integer 0…2^53−1.
uint64_t readCount(Napi::Value value, const std::string& name);
int64_t readInteger(Napi::Value value, const std::string& name);
bool readBoolean(Napi::Value value, const std::string& name);
std::string readText(Napi::Value value, const std::string& name);
/// A BigInt 0…2^64−1.
uint64_t readBigInt(Napi::Value value, const std::string& name);
ByteView readBytes(Napi::Value value, const std::string& name);

/// An object with a name for messages.
class Fields {
 public:
  Fields(Napi::Value value, std::string name);

  Napi::Value value(const char* field) const;
  std::string nameOf(const char* field) const { return name_ + "." + field; }
  bool isNull(const char* field) const { return value(field).IsNull(); }
  double number(const char* field) const { return readNumber(value(field), nameOf(field)); }
  uint64_t count(const char* field) const { return readCount(value(field), nameOf(field)); }
  uint32_t index(const char* field) const;
  int64_t integer(const char* field) const { return readInteger(value(field), nameOf(field)); }
  bool boolean(const char* field) const { return readBoolean(value(field), nameOf(field)); }
  std::string text(const char* field) const { return readText(value(field), nameOf(field)); }
  ByteView bytes(const char* field) const { return readBytes(value(field), nameOf(field)); }
  std::vector<uint32_t> indices(const char* field) const;
  Fields object(const char* field) const { return Fields(value(field), nameOf(field)); }

  /// Calls read(item, name) for each item of an array field.
  template <typename Read>
  void each(const char* field, Read read) const {
    const Napi::Value list = value(field);
    requireArray(list, nameOf(field));
    const auto array = list.As<Napi::Array>();
    for (uint32_t i = 0; i < array.Length(); ++i) {
      const Napi::HandleScope scope(array.Env());
      read(array.Get(i), nameOf(field) + "[" + std::to_string(i) + "]");
    }
  }

  /// Of its enumerable properties.
  std::vector<std::string> names() const;

 private:
  static void requireArray(Napi::Value value, const std::string& name);
  std::string name_;
  Napi::Object object_;
};

}  // namespace ladder::binding
