/**
 * What a kernel makes of its results as its last step: float16, codes, or both of one number: by one scale that is a parameter, or by
 * those of MX blocks. native/kernels/formats/results.cuh has the other side.
 */
import { formats } from '../../formats/index.js';
import type { Codes } from '../../native.js';
import { isQuantised, lastAxis, type Program, tensorPositions } from '../../operators/program.js';
import type { KernelArgument } from './plan.js';

/** How results are stored. */
export interface Results {
  /** Whether float16 is. */
  readonly halves: boolean;
  /** Id of the codes' format; null: there are none. */
  readonly codes: string | null;
}

export const kHalves: Results = { halves: true, codes: null };

/** A program without its last quantisation, and what that one stores. */
export interface SplitResults {
  readonly program: Program;
  readonly results: Results;
  /** By member of ResultArguments. */
  readonly operands: Readonly<Record<string, KernelArgument>>;
}

const output = (index: number): KernelArgument => ({ kind: 'output', index });

/** Sees what a program's last step stores; null where no kernel's last step does so. */
export function splitResults(program: Program): SplitResults | null {
  const { values, nodes, inputs, outputs } = program;
  const last = nodes.at(-1)!;
  if (last.kind !== 'quantise') return { program, results: kHalves, operands: { y: output(0) } };
  const [x, scale] = last.inputs as [number, number | undefined];
  const codes = last.outputs[0]!;
  const { axes, type } = values[codes]!;
  const halves = outputs.includes(x);
  if (nodes.length < 2 || outputs.join() !== (halves ? [x, codes] : [codes]).join() || !isQuantised(type)) return null;
  const { activation } = formats.get(type.format);
  const isTaken = scale !== undefined || (activation!.group === kMxBlock && lastAxis({ axes }).extent % kMxBlock === 0);
  if (!isTaken || activation!.enumerator === undefined || values[codes]!.layout || values[codes]!.scaleLayout) return null;
  const first = halves ? 1 : 0;
  return {
    program: {
      values: values.map((value, i) => (i === x ? { ...value, type: 'f16' } : value)),
      nodes: nodes.slice(0, -1),
      inputs: inputs.filter((value) => value !== scale),
      outputs: [x],
      hints: program.hints,
    },
    results: { halves, codes: type.format },
    operands: {
      ...(halves && { y: output(0) }),
      codes: output(first),
      codeScales: output(first + 1),
      ...(scale !== undefined && { codeScale: { kind: 'input', index: tensorPositions(program).get(scale)! } }),
    },
  };
}

/** Numbers that share a scale where a kernel finds it itself. */
const kMxBlock = 32;

const kMemberTypes: Readonly<Record<string, string>> = {
  y: '__half*',
  codes: 'uint8_t*',
  codeScales: 'void*',
  codeScale: 'const float*',
};

/** Parameters of a kernel that are members of its ResultArguments, with their types. */
export function resultMembers({ halves, codes }: Results): readonly (readonly [member: string, type: string])[] {
  const isStatic = codes !== null && formats.get(codes).activation!.group <= 0;
  const members = [...(halves ? ['y'] : []), ...(codes !== null ? ['codes', 'codeScales'] : []), ...(isStatic ? ['codeScale'] : [])];
  return members.map((member) => [member, kMemberTypes[member]!]);
}

/** Members of a kernel's configuration. */
export function resultsText({ halves, codes }: Results): string {
  const record = formats.get(codes ?? 'fp16');
  const range = (element: Codes): readonly number[] => (element.kind === 'integer' ? [element.min, element.max] : [0, 0]);
  const [least, most] = codes === null ? [0, 0] : range(record.element.codes);
  return `static constexpr bool kHalves = ${halves};
  static constexpr ladder::ActivationFormat kCodes = ladder::ActivationFormat::${record.activation!.enumerator!};
  static constexpr int kLeastCode = ${least}, kMostCode = ${most};`;
}

/** Of a kernel's key. */
export function resultsKey({ halves, codes }: Results): readonly string[] {
  return codes === null ? [] : [`y=${halves ? 'fp16+' : ''}${codes}`];
}
