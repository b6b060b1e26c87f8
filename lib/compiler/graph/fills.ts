/**
 * What fake tensors are filled with: random, never zero, and scaled so that a layer's outputs keep the size of its inputs
 * (weights get a mean square of about 1/k, k = input channels), and what verification feeds to an operator's inputs.
 */
import { LadderError } from '../../errors.js';
import { formats, kPlainFormat, weightFormat } from '../../formats/index.js';
import type { Fill } from '../../native.js';
import type { GraphValue, Role } from '../../operators/graph.js';
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
export function parameterFill(role: Role, value: GraphValue, part: TensorSpec['part']): Fill {
  const known = kVectorFills[role];
  if (known) return known;
  const k = lastAxis(value).extent / (value.gain ?? 1) ** 2;
  const { weight } = weightFormat(isQuantised(value.type) ? value.type.format : kPlainFormat);
  if (part !== 'scales') return weight.fill(k);
  const scale = 1 / Math.sqrt(weight.meanSquare * k);
  return weight.scale?.type === 'e8m0'
    ? { kind: 'code', base: 126 + Math.round(Math.log2(scale)), mask: 1, signed: false }
    : { kind: 'uniform', low: 0.8 * scale, high: 1.2 * scale };
}

/** What a static scale maps to the largest code where nothing is calibrated: models' fake weights keep activations at an rms of about 1. */
const kStaticRange = 4;

/** One scale for a whole tensor of a format that maps the largest magnitude to its top. */
export function staticScaleFill(format: string): Fill {
  const fit = formats.get(format).activation?.scale?.fit;
  if (fit?.kind !== 'absmax') throw new LadderError('INTERNAL', `${format} has no scale of a whole tensor`);
  const scale = kStaticRange / fit.top;
  return { kind: 'uniform', low: scale, high: scale };
}

/** What verification feeds to an operator where another one made its input. */
export function probeFill(value: Value, part: TensorSpec['part']): Fill {
  if (!isQuantised(value.type)) return kActivationFill;
  const { activation } = recordOf(value.type).format;
  return part === 'scales' ? activation!.scaleProbe : activation!.probe;
}
