/**
 * What fake tensors are filled with: random, never zero, and scaled so that a layer's outputs keep the size of its inputs
 * (weights get a mean square of about 1/k, k = input channels), and what verification feeds to an operator's inputs.
 */
import { kPlainFormat, weightFormat } from '../../formats/index.js';
import type { Fill } from '../../native.js';
import type { Role } from '../../operators/graph.js';
import { isQuantised, lastAxis, recordOf, type TensorSpec, type Value } from '../../operators/program.js';

/** FP16 activations: a model's input, and what verification feeds to an operator. */
const kActivationFill: Fill = { kind: 'uniform', low: -1, high: 1 };

const kVectorFills: Readonly<Partial<Record<Role, Fill>>> = {
  input: kActivationFill,
  gain: { kind: 'uniform', low: 0.5, high: 1.5 },
  beta: { kind: 'uniform', low: -0.1, high: 0.1 },
  bias: { kind: 'uniform', low: -0.1, high: 0.1 },
  embedding: kActivationFill,
};

/** What a tensor of an input or parameter holds where no file says it. */
export function parameterFill(role: Role, value: Value, part: TensorSpec['part']): Fill {
  const known = kVectorFills[role];
  if (known) return known;
  const { extent: k } = lastAxis(value);
  const { weight } = weightFormat(isQuantised(value.type) ? value.type.format : kPlainFormat);
  if (part !== 'scales') return weight.fill(k);
  const scale = 1 / Math.sqrt(weight.meanSquare * k);
  return weight.scale?.type === 'e8m0'
    ? { kind: 'code', base: 126 + Math.round(Math.log2(scale)), mask: 1, signed: false }
    : { kind: 'uniform', low: 0.8 * scale, high: 1.2 * scale };
}

/** What verification feeds to an operator where another one made its input. */
export function probeFill(value: Value, part: TensorSpec['part']): Fill {
  if (!isQuantised(value.type)) return kActivationFill;
  const { activation } = recordOf(value.type).format;
  return part === 'scales' ? activation!.scaleProbe : activation!.probe;
}
