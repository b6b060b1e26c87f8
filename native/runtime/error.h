// The one exception type of the native side: a stable code, a message with its remedy, and facts about the failure.
// The codes are those of lib/errors.ts; binding/ turns an Error into the LadderError class that JavaScript handed over.
// Every layer may throw it; nothing here knows of JavaScript or CUDA.
#pragma once

#include <exception>
#include <map>
#include <string>
#include <utility>
#include <variant>

namespace ladder {

/// Facts about an error: operator, shapes, CUDA name, file, offset… Values are text or numbers.
using ErrorContext = std::map<std::string, std::variant<std::string, double>>;

class Error : public std::exception {
 public:
  /// @param code one of lib/errors.ts' ErrorCode
  /// @param message what happened and what to do about it
  Error(std::string code, std::string message, ErrorContext context = {})
      : code_(std::move(code)), message_(std::move(message)), context_(std::move(context)) {}

  const char* what() const noexcept override { return message_.c_str(); }
  const std::string& code() const noexcept { return code_; }
  const std::string& message() const noexcept { return message_; }
  const ErrorContext& context() const noexcept { return context_; }

  /// Adds facts that an outer layer knows (the operator, its shapes) without replacing those that are there.
  Error& add(const std::string& key, std::variant<std::string, double> value) {
    context_.emplace(key, std::move(value));
    return *this;
  }
  /// Puts an outer layer's words before the message.
  Error& prefix(const std::string& text) {
    message_ = text + message_;
    return *this;
  }

 private:
  std::string code_;
  std::string message_;
  ErrorContext context_;
};

}  // namespace ladder
