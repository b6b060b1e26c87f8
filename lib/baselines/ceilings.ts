/**
 * Ceilings from the vendor's library: cuBLASLt's products of the dense shapes of Figure 8's decoder layers. Which products
 * a bench calls for, the file that keeps their measurements with their provenance, and what they say as a ceiling. Not a
 * system of the figure, so no records; measuring is adapters/cublaslt.ts's.
 */
import { z } from 'zod';
import type { NativeMatmul } from '../native.js';
import { deviceStateSchema, parseAs, recordSchema } from '../run/record.js';

export const matmulTypes = ['fp16', 'fp8_e4m3', 'int8'] as const satisfies readonly NativeMatmul['type'][];
export type MatmulType = (typeof matmulTypes)[number];

const shapeSchema = z.strictObject({
  model: z.enum(['llama2-70b', 'bloom-176b']),
  name: z.string().min(1),
  /** Weights are [n, k]. */
  n: z.number().int().positive(), k: z.number().int().positive(),
});
/** A dense layer. Products that our checkpoints fuse are one shape. */
export type DenseShape = Readonly<z.infer<typeof shapeSchema>>;

/** The dense layers of Figure 8's decoder layers. */
export const denseShapes: readonly DenseShape[] = [
  { model: 'llama2-70b', name: 'qkv', n: 10240, k: 8192 },
  { model: 'llama2-70b', name: 'o', n: 8192, k: 8192 },
  { model: 'llama2-70b', name: 'gate_up', n: 57344, k: 8192 },
  { model: 'llama2-70b', name: 'down', n: 8192, k: 28672 },
  { model: 'bloom-176b', name: 'qkv', n: 43008, k: 14336 },
  { model: 'bloom-176b', name: 'dense', n: 14336, k: 14336 },
  { model: 'bloom-176b', name: 'up', n: 57344, k: 14336 },
  { model: 'bloom-176b', name: 'down', n: 14336, k: 57344 },
];

/** Weights of `shape` times `m` rows of activations. */
export interface MatmulProduct {
  readonly shape: DenseShape;
  readonly m: number;
  readonly type: MatmulType;
}

const ceilingSchema = z.strictObject({
  shape: shapeSchema, m: z.number().int().positive(), type: z.enum(matmulTypes),
  /** As `NativeMatmulResult` says; null where the library has no such product here, and `reason` says so. */
  result: z.strictObject({
    ms: z.number().positive(), flopsPerSecond: z.number().positive(), bytesPerSecond: z.number().positive(),
    algorithms: z.number().int().positive(), samples: z.number().int().positive(), libraryVersion: z.number().int().positive(), weightCopies: z.number().int().positive(),
  }).nullable(),
  reason: z.string().nullable(),
  /** Clocks and throttling right after it. */
  stateAfter: deviceStateSchema.nullable(),
});
/** A product that was measured, or refused. */
export type MatmulCeiling = z.infer<typeof ceilingSchema>;

const fileSchema = z.strictObject({
  schema: z.literal('ladder-cublaslt/1'),
  /** As cublasLtGetVersion says, e.g. 130000. */
  libraryVersion: z.number().int().positive(),
  device: recordSchema.shape.device,
  /** When the first product was measured: ISO 8601, UTC. */
  date: z.string(),
  commit: z.string(),
  products: z.array(ceilingSchema),
});
/** What one library reaches on one GPU. */
export type LibraryCeilings = z.infer<typeof fileSchema>;

/** Beside the rivals' records. */
export const ceilingsFileName = 'cublaslt.json';
/** What tells such a file from records. */
export const ceilingsMark = '"ladder-cublaslt/';

/** Reads the file. @throws LadderError `BAD_RECORD` naming the field */
export function parseCeilings(text: string, source: string): LibraryCeilings {
  return parseAs(fileSchema, text, source);
}

/** From here on the arithmetic binds a product, not the memory. */
const kArithmeticRows = 1024;

/** The type in which a format's activations are multiplied; null for what the library does not have. */
function matmulTypeOf(format: string): MatmulType | null {
  const activation = / A_(FP16|FP8|MXFP8|INT8|INT4)$/.exec(format)?.[1];
  if (activation === undefined) return null;
  return activation === 'FP16' ? 'fp16' : activation.startsWith('INT') ? 'int8' : 'fp8_e4m3';
}

/** Tokens of a setting of a decoder layer; null for a network's. */
function rowsOf(setting: string): number | null {
  const match = /^bs(\d+)_seq(\d+)$/.exec(setting);
  return match === null ? null : Number(match[1]) * Number(match[2]);
}

/** The largest weight of each model, whose product comes nearest to the GPU's rate. */
const largest: readonly DenseShape[] = ['llama2-70b', 'bloom-176b'].map((model) =>
  denseShapes.filter((shape) => shape.model === model).reduce((a, b) => (b.n * b.k > a.n * a.k ? b : a)));

/**
 * The products that measured models, settings and formats call for. Where the arithmetic binds them, types other than FP16
 * (in which the rivals run) are there for the ceiling only: each model's largest product says it.
 */
export function productsFor(models: readonly string[], settings: readonly string[], formats: readonly string[]): readonly MatmulProduct[] {
  const known = <T>(values: readonly (T | null)[]): T[] => [...new Set(values)].filter((value) => value !== null);
  const [rows, types] = [known(settings.map(rowsOf)), known(formats.map(matmulTypeOf))];
  return denseShapes.filter((shape) => models.includes(shape.model))
    .flatMap((shape) => rows.flatMap((m) => types.map((type) => ({ shape, m, type }))))
    .filter(({ shape, m, type }) => m < kArithmeticRows || type === 'fp16' || largest.includes(shape));
}

/** Whether both are the same product. */
export function sameProduct(a: MatmulProduct, b: MatmulProduct): boolean {
  return a.shape.model === b.shape.model && a.shape.name === b.shape.name && a.m === b.m && a.type === b.type;
}

/** FLOP/s (integers: OP/s) that the library reaches in the format's arithmetic; null where no product was measured that it binds. */
export function arithmeticRate(ceilings: LibraryCeilings, format: string): number | null {
  const type = matmulTypeOf(format);
  const rates = ceilings.products.flatMap((product) => (product.type === type && product.m >= kArithmeticRows && product.result !== null ? [product.result.flopsPerSecond] : []));
  return rates.length === 0 ? null : Math.max(...rates);
}
