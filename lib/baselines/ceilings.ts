/**
 * Ceilings from the vendor's library: cuBLASLt's products of the dense shapes of Figure 8's decoder layers. Which products
 * a bench calls for, the file that keeps their measurements with their provenance, and what they say as a ceiling. Not a
 * system of the figure, so no records; measuring is adapters/cublaslt.ts's.
 */
import { z } from 'zod';
import { type ActivationFormatRecord, formatsOfLabel } from '../formats/index.js';
import { figure8Models, models, parseSetting } from '../models/index.js';
import type { NativeMatmul } from '../native.js';
import { deviceStateSchema, parseAs, recordSchema } from '../run/record-schema.js';

export const matmulTypes = ['fp16', 'fp8_e4m3', 'int8'] as const satisfies readonly NativeMatmul['type'][];
export type MatmulType = (typeof matmulTypes)[number];

const shapeSchema = z.strictObject({
  model: z.string().refine((id) => models.has(id), 'expected a model'),
  name: z.string().min(1),
  /** Weights are [n, k]. */
  n: z.number().int().positive(),
  k: z.number().int().positive(),
});
/** A dense layer. Products that our checkpoints fuse are one shape. */
export type DenseShape = Readonly<z.infer<typeof shapeSchema>>;

/** The dense layers of Figure 8's decoder layers: the matrix weights [n, k] of their graphs. */
export function denseShapes(): readonly DenseShape[] {
  return figure8Models()
    .filter(({ kind }) => kind === 'layer')
    .flatMap(({ id: model, graph }) =>
      (graph?.(1, 1, 1).values ?? []).flatMap(({ role, name = '', axes: [n, k] }) =>
        role === 'weight' && n?.name === 'n' && k?.name === 'k'
          ? [{ model, name: name.replace(/^layer0\./, ''), n: n.extent, k: k.extent }]
          : [],
      ),
    );
}

/** Weights of `shape` times `m` rows of activations. */
export interface MatmulProduct {
  readonly shape: DenseShape;
  readonly m: number;
  readonly type: MatmulType;
}

const ceilingSchema = z.strictObject({
  shape: shapeSchema,
  m: z.number().int().positive(),
  type: z.enum(matmulTypes),
  /** As `NativeMatmulResult` says; null where the library has no such product here, and `reason` says so. */
  result: z
    .strictObject({
      ms: z.number().positive(),
      flopsPerSecond: z.number().positive(),
      bytesPerSecond: z.number().positive(),
      algorithms: z.number().int().positive(),
      samples: z.number().int().positive(),
      libraryVersion: z.number().int().positive(),
      weightCopies: z.number().int().positive(),
    })
    .nullable(),
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
  /** SHA-256 of the addon, which measured; absent in files before it was kept. */
  addon: z.string().optional(),
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

/** The library's type for each arithmetic. */
const kMatmulTypes: Readonly<Record<ActivationFormatRecord['arithmetic'], MatmulType>> = { fp16: 'fp16', fp8: 'fp8_e4m3', int8: 'int8' };

/** The type in which a format's activations are multiplied; null for an unknown format. */
function matmulTypeOf(format: string): MatmulType | null {
  const { activation } = formatsOfLabel(format);
  return activation && kMatmulTypes[activation.activation.arithmetic];
}

/** Tokens of a setting of a decoder layer; null for a network's. */
function rowsOf(setting: string): number | null {
  const shape = setting.includes('_seq') ? parseSetting(setting) : null;
  return shape && shape.batch * shape.seq;
}

/** Whether a weight is its model's largest, whose product comes nearest to the GPU's rate. */
function isLargest(shape: DenseShape, shapes: readonly DenseShape[]): boolean {
  return shapes.filter(({ model }) => model === shape.model).reduce((a, b) => (b.n * b.k > a.n * a.k ? b : a)) === shape;
}

/**
 * The products that settings and formats of measured models call for. Where the arithmetic binds them, types other than FP16
 * (in which the rivals run) are there for the ceiling only: each model's largest product says it.
 */
export function productsFor(
  measured: readonly string[],
  settings: readonly string[],
  formats: readonly string[],
): readonly MatmulProduct[] {
  const known = <T>(values: readonly (T | null)[]): T[] => [...new Set(values)].filter((value) => value !== null);
  const [rows, types] = [known(settings.map(rowsOf)), known(formats.map(matmulTypeOf))];
  const shapes = denseShapes().filter(({ model }) => measured.includes(model));
  return shapes
    .flatMap((shape) => rows.flatMap((m) => types.map((type) => ({ shape, m, type }))))
    .filter(({ shape, m, type }) => m < kArithmeticRows || type === 'fp16' || isLargest(shape, shapes));
}

/** Whether both are the same product. */
export function sameProduct(a: MatmulProduct, b: MatmulProduct): boolean {
  return a.shape.model === b.shape.model && a.shape.name === b.shape.name && a.m === b.m && a.type === b.type;
}

/** FLOP/s (integers: OP/s) that the library reaches in the format's arithmetic; null where no product was measured that it binds. */
export function arithmeticRate(ceilings: LibraryCeilings, format: string): number | null {
  const type = matmulTypeOf(format);
  const rates = ceilings.products.flatMap((product) =>
    product.type === type && product.m >= kArithmeticRows && product.result !== null ? [product.result.flopsPerSecond] : [],
  );
  return rates.length === 0 ? null : Math.max(...rates);
}
