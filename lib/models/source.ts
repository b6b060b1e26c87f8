/**
 * Where the numbers of a parameter lie in a public file of weights, by the names of the library that the model comes from. A model
 * says so of each tensor of its own (Model.source); lib/compiler/pack evaluates it.
 */

/** A convolution of the file and, where there is one, the batch norm behind it, which becomes part of its weight and bias. */
export interface ConvolutionSource {
  /** Names of its weight [n, channels of a group, kernel …] and, where it has one, of its bias [n]. */
  readonly weight: string;
  readonly bias?: string | undefined;
  /** What the norm's weight, bias, running_mean and running_var are called before these words. */
  readonly norm?: string | undefined;
}

/** A tensor, or a module that has some, of so many rows. */
export interface Part {
  readonly name: string;
  readonly rows: number;
}

export type Source =
  /** As it is, row by row; other axes than ours where the numbers are in the same order. */
  | { readonly tensor: string }
  /** Several, one below the other, of so many rows each. */
  | { readonly stack: readonly Part[] }
  /** A convolution's weight as rows over (kernel …, channel), or its bias. */
  | { readonly convolution: ConvolutionSource; readonly part: 'weight' | 'bias' };

/** Of batch norms: PyTorch's default, which no model here changes. */
export const kBatchNormEps = 1e-5;

/** Names of a batch norm's numbers: those that are read, and a count of batches that nothing is made of. */
export const kNormParts = ['weight', 'bias', 'running_mean', 'running_var'] as const;
const kBatchCount = 'num_batches_tracked';

/** The tensors that a parameter is made of, and those that may stand beside them for no use. */
export function sourceNames(source: Source): { readonly wanted: readonly string[]; readonly unused: readonly string[] } {
  if ('tensor' in source) return { wanted: [source.tensor], unused: [] };
  if ('stack' in source) return { wanted: source.stack.map(({ name }) => name), unused: [] };
  const { weight, bias, norm } = source.convolution;
  return {
    wanted: [weight, ...(bias === undefined ? [] : [bias]), ...(norm === undefined ? [] : kNormParts.map((part) => `${norm}.${part}`))],
    unused: norm === undefined ? [] : [`${norm}.${kBatchCount}`],
  };
}

/** Where decoder layers keep the tensor `layer<i>.<module>.<ending>` of ours: behind `<word>.<i>.`, by our module's name. */
export function layerSource(word: string, modules: Readonly<Record<string, readonly Part[]>>): (tensor: string) => Source {
  return (tensor) => {
    const [, layer, module = '', ending = ''] = /^layer(\d+)\.(\w+)\.(\w+)$/.exec(tensor) ?? [];
    const part = fileEnding(ending);
    return { stack: modules[module]!.map(({ name, rows }) => ({ name: `${word}.${layer}.${name}.${part}`, rows })) };
  };
}

/** `gain` and `beta` of norms are called weight and bias in files. */
function fileEnding(ending: string): 'weight' | 'bias' {
  return ending === 'gain' || ending === 'weight' ? 'weight' : 'bias';
}

/** A module of the file whose weight and bias a tensor of ours is. */
export function moduleSource(module: string, ending: string): Source {
  return { tensor: `${module}.${fileEnding(ending)}` };
}
