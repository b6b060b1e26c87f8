/** A vision transformer's patches, tokens with positions, and first rows: native/kernels/tokens/tokens.cuh. */
import { isStraight, type Program } from '../../operators/program.js';
import { defineFamily, kOtherKind, Refusal } from './family.js';
import { parameters, singleLaunch } from './launch.js';

const kThreads = 256;
/** Numbers of a thread. */
const kVector = 8;

/** By kind: the kernel, its operands, its constants, and which number must be a multiple of eight. */
interface TokenKernel {
  readonly kernel: string;
  readonly inputs: readonly string[];
  constants(program: Program): Readonly<Record<string, number>>;
  /** Numbers of y. */
  items(constants: Readonly<Record<string, number>>): number;
  readonly aligned: string;
}

/** Of rows [batch · t, c]. */
function rowsOf({ values, inputs, nodes }: Program): Readonly<Record<string, number>> {
  const [rows, columns] = values[inputs[0]!]!.axes.map(({ extent }) => extent) as [number, number];
  const images = Number(nodes[0]!.params['batch']);
  return { kImages: images, kPatches: rows / images, kChannels: columns };
}

const kKernels: Readonly<Record<string, TokenKernel>> = {
  patches: {
    kernel: 'patches',
    inputs: ['x'],
    constants({ values, inputs, nodes }) {
      const [images, channels, height, width] = values[inputs[0]!]!.axes.map(({ extent }) => extent) as [number, number, number, number];
      return { kImages: images, kChannels: channels, kHeight: height, kWidth: width, kSize: Number(nodes[0]!.params['size']) };
    },
    items: ({ kImages, kChannels, kHeight, kWidth }) => kImages! * kChannels! * kHeight! * kWidth!,
    aligned: 'kSize',
  },
  embed_tokens: {
    kernel: 'embedTokens',
    inputs: ['x', 'token', 'positions'],
    constants: rowsOf,
    items: ({ kImages, kPatches, kChannels }) => kImages! * (kPatches! + 1) * kChannels!,
    aligned: 'kChannels',
  },
  first_rows: {
    kernel: 'firstRows',
    inputs: ['x'],
    constants: rowsOf,
    items: ({ kImages, kChannels }) => kImages! * kChannels!,
    aligned: 'kChannels',
  },
};

interface TokensMatch {
  readonly kind: string;
  readonly constants: Readonly<Record<string, number>>;
}

export const tokens = defineFamily<TokensMatch>({
  id: 'tokens',
  version: 1,
  accepts(program) {
    const { values, nodes, inputs, outputs, hints } = program;
    const found = kKernels[nodes[0]?.kind ?? ''];
    if (!found || nodes.length !== 1 || !isStraight(program) || hints) return kOtherKind;
    if (!nodes[0]!.inputs.every((value, i) => inputs[i] === value)) return kOtherKind;
    if ([...inputs, ...outputs].some((value) => values[value]!.type !== 'f16' || values[value]!.layout))
      return new Refusal('x', 'expected float16 in rows');
    const constants = found.constants(program);
    const aligned = constants[found.aligned]!;
    if (aligned % kVector !== 0) return new Refusal('c', `expected a multiple of ${kVector} numbers side by side but received ${aligned}`);
    return { kind: nodes[0]!.kind, constants };
  },
  storage: () => new Map(),
  configurations: () => [{}],
  key: ({ kind, constants }) =>
    [kind, ...Object.entries(constants).map(([name, value]) => `${name.slice(1).toLowerCase()}=${value}`)].join(' '),
  plan({ kind, constants }, name) {
    const { kernel, inputs, items } = kKernels[kind]!;
    const blocks = Math.ceil(items(constants) / kVector / kThreads);
    const types = Object.entries(constants).map(([constant, value]) => `${constant} = ${value}`);
    const halves = (names: readonly string[]): string => names.map((one) => `static_cast<const __half*>(${one})`).join(', ');
    const definitions = `struct ${name}_config {
  static constexpr int ${types.join(', ')};
};
extern "C" __global__ void __launch_bounds__(${kThreads}) ${name}(${parameters(inputs, ['y'])}) {
  static_assert(ladder::${kernel[0]!.toUpperCase()}${kernel.slice(1)}Grid<${name}_config>::kBlocks == ${blocks});
  ladder::${kernel}Kernel<${name}_config>(${halves(inputs)}, static_cast<__half*>(y));
}
`;
    return singleLaunch('tokens/tokens.cuh', definitions, {
      name,
      blocks,
      threads: kThreads,
      dynamicSharedBytes: 0,
      inputs: inputs.length,
      outputs: 1,
    });
  },
});
