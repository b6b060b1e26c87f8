// The checks.
#include "reader.h"

#include <cmath>
#include <cstdio>

#include "../runtime/error.h"

namespace ladder::binding {
namespace {

constexpr double kMaxSafeInteger = 9007199254740991.0;

[[noreturn]] void refuse(const char* expected, const std::string& name, Napi::Value received) {
  throw Error("BAD_ARGUMENT", std::string("expected ") + expected + " for `" + name + "` but received " + describe(received),
              {{"argument", name}});
}

}  // namespace

std::string describe(Napi::Value value) {
  if (value.IsEmpty() || value.IsUndefined()) return "nothing";
  if (value.IsNull()) return "null";
  if (value.IsNumber()) {
    char text[40];
    std::snprintf(text, sizeof text, "number %.17g", value.As<Napi::Number>().DoubleValue());
    return text;
  }
  if (value.IsString()) return "string \"" + value.As<Napi::String>().Utf8Value().substr(0, 60) + "\"";
  if (value.IsBoolean()) return value.As<Napi::Boolean>().Value() ? "true" : "false";
  if (value.IsBigInt()) return "a BigInt";
  if (value.IsFunction()) return "a function";
  if (value.IsArray()) return "an array";
  if (value.IsTypedArray()) return "a typed array of another kind";
  return value.IsObject() ? "an object" : "something else";
}

double readNumber(Napi::Value value, const std::string& name) {
  if (!value.IsNumber()) refuse("a number", name, value);
  const double number = value.As<Napi::Number>().DoubleValue();
  if (!std::isfinite(number)) refuse("a finite number", name, value);
  return number;
}

uint64_t readCount(Napi::Value value, const std::string& name) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
  if (!(number >= 0 && number <= kMaxSafeInteger && std::floor(number) == number)) refuse("an integer of at least 0", name, value);
  return static_cast<uint64_t>(number);
}

int64_t readInteger(Napi::Value value, const std::string& name) {
  const double number = readNumber(value, name);
  if (std::floor(number) != number || std::fabs(number) > kMaxSafeInteger) refuse("an integer", name, value);
  return static_cast<int64_t>(number);
}

bool readBoolean(Napi::Value value, const std::string& name) {
  if (!value.IsBoolean()) refuse("a boolean", name, value);
  return value.As<Napi::Boolean>().Value();
}

std::string readText(Napi::Value value, const std::string& name) {
  if (!value.IsString()) refuse("a string", name, value);
  std::string text = value.As<Napi::String>().Utf8Value();
  if (text.find('\0') != std::string::npos) refuse("a string without NUL characters", name, value);
  return text;
}

uint64_t readBigInt(Napi::Value value, const std::string& name) {
  if (!value.IsBigInt()) refuse("a BigInt", name, value);
  bool lossless = false;
  const uint64_t number = value.As<Napi::BigInt>().Uint64Value(&lossless);
  if (!lossless) refuse("a BigInt of 0 to 2^64-1", name, value);
  return number;
}

ByteView readBytes(Napi::Value value, const std::string& name) {
  napi_typedarray_type type{};
  size_t length = 0;
  void* data = nullptr;
  // By the C interface: node-addon-api would look for an ArrayBuffer, which a view of shared memory does not have.
  if (!value.IsTypedArray() || napi_get_typedarray_info(value.Env(), value, &type, &length, &data, nullptr, nullptr) != napi_ok ||
      type != napi_uint8_array) {
    refuse("a Uint8Array", name, value);
  }
  return {static_cast<uint8_t*>(data), length};
}

Fields::Fields(Napi::Value value, std::string name) : name_(std::move(name)) {
  if (!value.IsObject() || value.IsArray() || value.IsFunction()) refuse("an object", name_, value);
  object_ = value.As<Napi::Object>();
}

Napi::Value Fields::value(const char* field) const { return object_.Get(field); }

uint32_t Fields::index(const char* field) const {
  const uint64_t number = count(field);
  if (number > UINT32_MAX) refuse("an index", nameOf(field), value(field));
  return static_cast<uint32_t>(number);
}

std::vector<uint32_t> Fields::indices(const char* field) const {
  std::vector<uint32_t> list;
  each(field, [&](Napi::Value item, const std::string& name) {
    const uint64_t index = readCount(item, name);
    if (index > UINT32_MAX) refuse("an index", name, item);
    list.push_back(static_cast<uint32_t>(index));
  });
  return list;
}

std::vector<std::string> Fields::names() const {
  std::vector<std::string> names;
  const Napi::Array keys = object_.GetPropertyNames();
  for (uint32_t i = 0; i < keys.Length(); ++i) names.push_back(keys.Get(i).ToString().Utf8Value());
  return names;
}

void Fields::requireArray(Napi::Value value, const std::string& name) {
  if (!value.IsArray()) refuse("an array", name, value);
}

}  // namespace ladder::binding
