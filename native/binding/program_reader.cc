// From the NativeProgram of lib/native.ts to the reference's plain structs: one function per interface. Shapes and types of
// fields are checked here; what they mean together is reference/program.cc's to check.
#include <initializer_list>

#include "../runtime/error.h"
#include "plan_reader.h"

namespace ladder::binding {
namespace {

/// The value that belongs to one of several texts.
template <typename T>
T readChoice(const Fields& fields, const char* field, std::initializer_list<std::pair<const char*, T>> choices) {
  const std::string text = fields.text(field);
  std::string names;
  for (const auto& [name, value] : choices) {
    if (text == name) return value;
    names += (names.empty() ? "" : ", ") + std::string(name);
  }
  throw Error("BAD_ARGUMENT",
              "expected one of " + names + " for `" + fields.nameOf(field) + "` but received \"" + text.substr(0, 60) + "\"",
              {{"argument", fields.nameOf(field)}});
}

std::vector<reference::Digit> readLayout(const Fields& fields, const char* field) {
  std::vector<reference::Digit> digits;
  fields.each(field, [&](Napi::Value item, const std::string& name) {
    const Fields digit(item, name);
    digits.push_back({digit.text("axis"), digit.integer("stride"), digit.integer("size")});
  });
  return digits;
}

reference::Codes readCodes(const Fields& fields) {
  enum class Kind { kFloat, kInteger, kTable };
  switch (readChoice<Kind>(fields, "kind", {{"float", Kind::kFloat}, {"integer", Kind::kInteger}, {"table", Kind::kTable}})) {
    case Kind::kFloat:
      return reference::FloatCodes{fields.integer("exponentBits"), fields.integer("mantissaBits"), fields.integer("bias"),
                                   fields.integer("maxCode"),      fields.boolean("infinities"),   fields.boolean("saturates"),
                                   fields.integer("nanCode")};
    case Kind::kInteger: return reference::IntegerCodes{fields.integer("min"), fields.integer("max")};
    case Kind::kTable: break;
  }
  reference::TableCodes table{{}, readChoice<bool>(fields, "tie", {{"lower", false}, {"upper", true}})};
  fields.each("values", [&](Napi::Value item, const std::string& name) { table.values.push_back(readNumber(item, name)); });
  return table;
}

}  // namespace

reference::Element readElement(const Fields& fields) { return {fields.integer("bits"), readCodes(fields.object("codes"))}; }

reference::ScaleFit readFit(const Fields& fields) {
  using reference::Fit;
  reference::ScaleFit fit;
  fit.kind = readChoice<Fit>(fields, "kind", {{"absmax", Fit::kAbsmax}, {"mean", Fit::kMean}, {"mx", Fit::kMx}});
  if (fit.kind == Fit::kAbsmax) fit.top = fields.number("top");
  if (fit.kind == Fit::kMx) fit.emax = fields.integer("emax");
  return fit;
}

namespace {

reference::Scale readScale(const Fields& fields) {
  using reference::ScaleType;
  reference::Scale scale;
  scale.type = readChoice<ScaleType>(fields, "type", {{"f16", ScaleType::kF16}, {"f32", ScaleType::kF32}, {"e8m0", ScaleType::kE8m0}});
  fields.each("per", [&](Napi::Value item, const std::string& name) {
    const Fields sharing(item, name);
    scale.per.push_back({sharing.text("axis"), sharing.integer("count")});
  });
  scale.fit = readFit(fields.object("fit"));
  return scale;
}

reference::Value readValue(const Fields& fields) {
  using reference::ValueType;
  reference::Value value;
  fields.each("axes", [&](Napi::Value item, const std::string& name) {
    const Fields axis(item, name);
    value.axes.push_back({axis.text("name"), axis.integer("extent")});
  });
  value.type =
      readChoice<ValueType>(fields, "type", {{"f16", ValueType::kF16}, {"f32", ValueType::kF32}, {"quantised", ValueType::kQuantised}});
  if (!fields.isNull("element")) value.element = readElement(fields.object("element"));
  value.cellBits = fields.integer("cellBits");
  if (!fields.isNull("scale")) value.scale = readScale(fields.object("scale"));
  value.layout = readLayout(fields, "layout");
  value.scaleLayout = readLayout(fields, "scaleLayout");
  return value;
}

reference::Instruction readInstruction(const Fields& fields) {
  using reference::Operation;
  reference::Instruction instruction{readChoice<Operation>(fields, "op",
                                                           {{"input", Operation::kInput},
                                                            {"constant", Operation::kConstant},
                                                            {"add", Operation::kAdd},
                                                            {"sub", Operation::kSub},
                                                            {"mul", Operation::kMul},
                                                            {"div", Operation::kDiv},
                                                            {"min", Operation::kMin},
                                                            {"max", Operation::kMax},
                                                            {"neg", Operation::kNeg},
                                                            {"exp", Operation::kExp},
                                                            {"tanh", Operation::kTanh},
                                                            {"erf", Operation::kErf}})};
  if (instruction.operation == Operation::kConstant) instruction.value = fields.number("value");
  if (instruction.operation != Operation::kInput) return instruction;
  instruction.index = fields.integer("index");
  instruction.part = fields.integer("part");
  instruction.parts = fields.integer("parts");
  return instruction;
}

reference::Node readNode(const Fields& fields) {
  reference::Node node;
  node.kind = fields.text("kind");
  const Fields numbers = fields.object("numbers");
  const Fields strings = fields.object("strings");
  for (const std::string& name : numbers.names()) node.numbers[name] = numbers.number(name.c_str());
  for (const std::string& name : strings.names()) node.strings[name] = strings.text(name.c_str());
  if (!fields.isNull("expression")) {
    node.expression.emplace();
    fields.each("expression",
                [&](Napi::Value item, const std::string& name) { node.expression->push_back(readInstruction(Fields(item, name))); });
  }
  node.inputs = fields.indices("inputs");
  node.outputs = fields.indices("outputs");
  return node;
}

}  // namespace

reference::Program readProgram(Napi::Value value, const std::string& name) {
  const Fields fields(value, name);
  reference::Program program;
  fields.each("values",
              [&](Napi::Value item, const std::string& itemName) { program.values.push_back(readValue(Fields(item, itemName))); });
  fields.each("nodes", [&](Napi::Value item, const std::string& itemName) { program.nodes.push_back(readNode(Fields(item, itemName))); });
  program.inputs = fields.indices("inputs");
  program.outputs = fields.indices("outputs");
  return program;
}

}  // namespace ladder::binding
