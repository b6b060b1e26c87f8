// Dispatches an operator specification to the host code that computes it.
#include "activation.h"
#include "attention.h"
#include "dense.h"
#include "reference.h"
#include "spec.h"

#include "../runtime/error.h"

namespace ladder::reference {

void runOperator(const OperatorSpec& spec, const std::vector<Buffer>& inputs, const std::vector<MutableBuffer>& outputs,
                 const std::atomic<bool>* cancelled) {
  std::vector<size_t> sizes;
  for (const MutableBuffer& output : outputs) sizes.push_back(output.bytes);
  if (spec.op == "dense") {
    const DenseSpec dense = parseDense(spec);
    const DenseInputs bound = bindDense(dense, inputs);
    checkOutputs(outputBytes(dense), sizes);
    runDense(dense, bound, static_cast<uint16_t*>(outputs[0].data), cancelled);
  } else if (spec.op == "norm" || spec.op == "quantise") {
    const ActivationSpec activation = parseActivation(spec);
    const ActivationInputs bound = bindActivation(activation, inputs);
    checkOutputs(outputBytes(activation), sizes);
    runActivation(activation, bound, outputs, cancelled);
  } else if (spec.op == "attention") {
    const AttentionSpec attention = parseAttention(spec);
    const uint16_t* qkv = bindAttention(attention, inputs);
    checkOutputs(outputBytes(attention), sizes);
    runAttention(attention, qkv, static_cast<uint16_t*>(outputs[0].data), cancelled);
  } else {
    throw Error("UNSUPPORTED", "expected dense, norm, quantise or attention for `op` but received \"" + spec.op + "\"");
  }
}

}  // namespace ladder::reference
