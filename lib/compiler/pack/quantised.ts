/**
 * Weights that others quantised, as matrices in codes with their scales: GPTQ (AutoGPTQ's files), AWQ (its gemm order), and FP8 of a
 * tensor or of rows. Codes stay what they are. GPTQ and AWQ store q in 0 … 15 for (q − zero)·scale, which is INT4's −8 … 7 where zero is 8,
 * the middle; other zeros are refused. Scales are FP16 here: those of FP8 are rounded to the nearest, others must be FP16 already.
 */
import { LadderError } from '../../errors.js';
import { bfloatToFloat, decode, floatToHalf, halfToFloat } from '../../formats/codes.js';
import { weightFormat } from '../../formats/index.js';
import type { StoredQuantisation } from '../../models/index.js';
import type { ScaledMatrix, StoredFile, WeightFile } from './safetensors.js';

/** How a method stores a matrix. */
interface Method {
  /** What a matrix's tensor is called instead of `weight`. */
  readonly codes: string;
  /** Tensors beside it that it takes. */
  readonly others: readonly string[];
  /** [n, k] of the matrix, from the shape of its codes. */
  shape(codes: readonly number[]): readonly number[];
  matrix(files: StoredFile, module: string, stored: StoredQuantisation): ScaledMatrix;
}

/** Codes per 32-bit word, and the code that stands for zero. */
const kPerWord = 8;
const kMiddle = 8;
/** Place within a word of AWQ's column 0 … 7. */
const kAwqOrder = [0, 4, 1, 5, 2, 6, 3, 7];

const kMethods: Readonly<Record<StoredQuantisation['method'], Method>> = {
  gptq: {
    codes: 'qweight',
    others: ['qzeros', 'scales', 'g_idx'],
    shape: ([words = 0, n = 0]) => [n, words * kPerWord],
    matrix(files, module, { group }) {
      const [words, n] = sized(files, `${module}.qweight`, 2) as [number, number];
      const k = words * kPerWord;
      // qzeros hold one less than the zero.
      checkZeros(files, `${module}.qzeros`, kMiddle - 1);
      checkOrder(files, `${module}.g_idx`, group);
      const codes = wordsOf(files, `${module}.qweight`);
      return scaled(files, module, n, k, group, (row, column) => nibble(codes[(column >> 3) * n + row]!, column & 7));
    },
  },
  awq: {
    codes: 'qweight',
    others: ['qzeros', 'scales'],
    shape: ([k = 0, words = 0]) => [words * kPerWord, k],
    matrix(files, module, { group }) {
      const [k, words] = sized(files, `${module}.qweight`, 2) as [number, number];
      checkZeros(files, `${module}.qzeros`, kMiddle);
      const codes = wordsOf(files, `${module}.qweight`);
      return scaled(files, module, words * kPerWord, k, group, (row, column) =>
        nibble(codes[column * words + (row >> 3)]!, kAwqOrder[row & 7]!),
      );
    },
  },
  fp8: {
    codes: 'weight',
    others: ['weight_scale', 'weight_scale_inv'],
    shape: (codes) => codes,
    matrix(files, module, { weight }) {
      const [n, k] = sized(files, `${module}.weight`, 2) as [number, number];
      const name = ['weight_scale', 'weight_scale_inv'].map((one) => `${module}.${one}`).find((one) => files.shapes.has(one));
      if (name === undefined) throw new LadderError('MISSING_PARAMETER', `${files.name} has no ${module}.weight_scale`, { module });
      const given = floatsOf(files, name);
      if (given.length !== 1 && given.length !== n)
        throw new LadderError(
          'UNSUPPORTED',
          `${name} has ${given.length} scales; one for all, or one for each of ${n} rows can be taken over`,
          {
            name,
          },
        );
      const scales = Float32Array.from({ length: n }, (_, row) => {
        const scale = given[given.length === 1 ? 0 : row]!;
        const rounded = halfToFloat(floatToHalf(scale));
        if (scale > 0 && Math.abs(rounded - scale) <= scale * 2 ** -11) return rounded;
        throw new LadderError('UNSUPPORTED', `${name} holds ${scale}, which float16 cannot hold to full precision`, { name, row });
      });
      const { element } = weightFormat(weight);
      const table = Float32Array.from({ length: 256 }, (_, code) => decode(element, code));
      const { bytes } = files.raw(`${module}.weight`);
      return { values: Float32Array.from({ length: n * k }, (_, i) => table[bytes[i]!]! * scales[Math.floor(i / k)]!), scales };
    },
  },
};

/** The files with every quantised matrix under the name `<module>.weight`, [n, k]. */
export function dequantised(files: StoredFile, stored: StoredQuantisation): WeightFile {
  const { codes, others, shape, matrix } = kMethods[stored.method];
  const isCodes = (name: string): boolean =>
    name.endsWith(`.${codes}`) && (codes !== 'weight' || others.some((other) => files.shapes.has(`${moduleOf(name)}.${other}`)));
  const modules = new Set([...files.shapes.keys()].filter(isCodes).map(moduleOf));
  const shapes = new Map<string, readonly number[]>();
  for (const [name, own] of files.shapes) {
    const module = moduleOf(name);
    if (!modules.has(module) || ![codes, ...others].includes(name.slice(module.length + 1))) shapes.set(name, own);
    else if (isCodes(name)) shapes.set(`${module}.weight`, shape(own));
  }
  const isMatrix = (name: string): boolean => name === `${moduleOf(name)}.weight` && modules.has(moduleOf(name));
  return {
    name: files.name,
    shapes,
    read: async (name) => (isMatrix(name) ? matrix(files, moduleOf(name), stored) : files.read(name)),
    rows: (name) => (isMatrix(name) ? null : files.rows(name)),
    close: () => files.close(),
  };
}

const moduleOf = (name: string): string => name.slice(0, name.lastIndexOf('.'));
const nibble = (word: number, place: number): number => (word >>> (4 * place)) & 15;

/** A matrix from its codes, and scales [k/group, n] of the file. */
function scaled(
  files: StoredFile,
  module: string,
  n: number,
  k: number,
  group: number,
  code: (row: number, column: number) => number,
): ScaledMatrix {
  const name = `${module}.scales`;
  const groups = k / group;
  const found = sized(files, name, 2);
  if (found[0] !== groups || found[1] !== n)
    throw new LadderError('WRONG_LENGTH', `${name} has shape [${found.join(', ')}] where [${groups}, ${n}] is expected`, { name });
  const given = floatsOf(files, name);
  const values = new Float32Array(n * k);
  const scales = new Float32Array(n * groups);
  for (let row = 0; row < n; ++row)
    for (let index = 0; index < groups; ++index) {
      const scale = given[index * n + row]!;
      if (!Number.isFinite(scale) || halfToFloat(floatToHalf(scale)) !== scale)
        throw new LadderError('UNSUPPORTED', `${name} holds ${scale}, which is no float16 number`, { name });
      scales[row * groups + index] = scale;
      for (let column = index * group; column < (index + 1) * group; ++column)
        values[row * k + column] = (code(row, column) - kMiddle) * scale;
    }
  return { values, scales };
}

function checkZeros(files: StoredFile, name: string, wanted: number): void {
  for (const word of wordsOf(files, name))
    for (let place = 0; place < kPerWord; ++place)
      if (nibble(word, place) !== wanted)
        throw new LadderError('UNSUPPORTED', `${name} holds zero points other than the middle; asymmetric weights cannot be taken over`, {
          name,
        });
}

/** Columns must be in groups one after the other. */
function checkOrder(files: StoredFile, name: string, group: number): void {
  if (!files.shapes.has(name)) return;
  if (wordsOf(files, name).some((index, column) => index !== Math.floor(column / group)))
    throw new LadderError('UNSUPPORTED', `${name} orders the columns by activation (desc_act), which cannot be taken over`, { name });
}

function sized(files: StoredFile, name: string, axes: number): readonly number[] {
  const shape = files.shapes.get(name);
  if (!shape) throw new LadderError('MISSING_PARAMETER', `${files.name} has no ${name}`, { name });
  if (shape.length !== axes) throw new LadderError('WRONG_LENGTH', `${name} has ${shape.length} axes where ${axes} are expected`, { name });
  return shape;
}

/** 32-bit integers of a tensor. */
function wordsOf(files: StoredFile, name: string): Int32Array {
  sized(files, name, files.shapes.get(name)?.length ?? 0);
  const { dtype, bytes } = files.raw(name);
  if (dtype !== 'I32') throw new LadderError('UNSUPPORTED', `${name} has elements of type ${dtype} where I32 is expected`, { name });
  return new Int32Array(bytes.slice().buffer);
}

function floatsOf(files: StoredFile, name: string): Float32Array {
  const { dtype, bytes } = files.raw(name);
  const copy = bytes.slice().buffer;
  if (dtype === 'F32') return new Float32Array(copy);
  if (dtype === 'F16') return Float32Array.from(new Uint16Array(copy), halfToFloat);
  if (dtype === 'BF16') return Float32Array.from(new Uint16Array(copy), bfloatToFloat);
  throw new LadderError('UNSUPPORTED', `${name} has elements of type ${dtype} where F16, BF16 or F32 is expected`, { name });
}
