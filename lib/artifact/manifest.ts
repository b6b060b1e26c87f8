/**
 * checkpoint.json: what our own checkpoints add to TVM's three files, so that a checkpoint can be verified, rated against
 * the roofline and rebuilt. Foreign checkpoints have none.
 */
import { z } from 'zod';
import { LadderError } from '../errors.js';
import type { Group } from '../formats/index.js';
import { modelConfigSchema } from '../models/config-schema.js';
import type { ModelConfig } from '../models/config.js';
import type { Role } from '../operators/graph.js';
import { kMasks, type Mask } from '../operators/mask.js';
import { programSchema } from '../operators/check.js';
import type { Program } from '../operators/program.js';
import type { Fill } from '../native.js';
import { upgradeManifest } from './upgrade.js';

/** As `Fill`. */
const fillSchema: z.ZodType<Fill> = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('bits') }),
  z.strictObject({ kind: z.literal('uniform'), low: z.number(), high: z.number() }),
  z.strictObject({
    kind: z.literal('code'),
    base: z.number().int().min(0).max(255),
    mask: z.number().int().min(0).max(127),
    signed: z.boolean(),
  }),
]);

const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const sha256 = z.string().regex(/^[0-9a-f]{64}$/);

/** checkpoint.json. */
export interface Manifest {
  schema: 'ladder-checkpoint/2';
  /** As in Figure 8: llama2-70b, bloom-176b, resnet-50, shufflenet-v2, conformer, vit. */
  model: string;
  /** Sizes of a model of the user's own; absent: one of lib/models. */
  config?: ModelConfig | undefined;
  layers: number;
  batch: number;
  /** Tokens per sequence; 1 for networks. */
  seq: number;
  /** Which tokens attention sees; absent: none, all of the sequence. */
  mask?: Mask | undefined;
  format: {
    weight: string;
    activation: string;
    group: Group;
    /** As the paper writes it: `W_INT4 A_FP16`. */
    label: string;
  };
  seed: number;
  /** Every `null` node of the graph, by name. */
  tensors: Record<string, { role: Role; fill: Fill }>;
  /** Every `tvm_op` node of the graph, in order. */
  operators: {
    node: string;
    /** Kernel family that was chosen for it, those below `simple/` being right and slow; absent in manifests of version 1. */
    kernels?: string | undefined;
    /** What it computes: its tensors are the node's, in order. */
    program: Program;
    /** Bytes that must cross device memory, each once: weights, scales, activations in and out. */
    bytes: number;
    flops: number;
    /** How verification fills each activation input, by input position; null keeps what is there (weights and the like). */
    probe: (Fill | null)[];
  }[];
  bytes: number;
  flops: number;
  /** Launch attributes by kernel name; a runtime that ignores them still gets right results. */
  launch: Record<
    string,
    {
      programmaticStreamSerialization: boolean;
      /** Targets that its image was compiled for; absent: all, so that it is loaded at once. */
      targets?: string[] | undefined;
    }
  >;
  /** nvcc targets in model.so: compute_80 (PTX), sm_80, sm_90a. */
  targets: string[];
  build: {
    /** SHA-256 over the generated sources and the kernel files that they include: model.so is stale when it differs. */
    sources: string;
    /** The tuning that kernels have whose target has none of its own, e.g. "sm_90a", or "default". */
    tuning: string;
  };
  /** SHA-256 of graph.json, and of graph.params where it was packed. model.so, compiled on each machine, carries its own (seal.ts). */
  files: Record<string, string>;
}

const manifestSchema: z.ZodType<Manifest> = z.strictObject({
  schema: z.literal('ladder-checkpoint/2'),
  model: z.string().min(1),
  config: modelConfigSchema.optional(),
  layers: z.number().int().min(1),
  batch: z.number().int().min(1),
  seq: z.number().int().min(1),
  mask: z.enum(kMasks).optional(),
  format: z.strictObject({
    weight: z.string().min(1),
    activation: z.string().min(1),
    group: z.union([z.literal(-1), z.literal(32), z.literal(64), z.literal(128)]),
    label: z.string().min(1),
  }),
  seed: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER),
  tensors: z.record(
    z.string(),
    z.strictObject({
      role: z.enum(['input', 'weight', 'scale', 'gain', 'beta', 'bias', 'embedding', 'calibration']),
      fill: fillSchema,
    }),
  ),
  operators: z.array(
    z.strictObject({
      node: z.string().min(1),
      kernels: z.string().min(1).optional(),
      program: programSchema,
      bytes: count,
      flops: count,
      probe: z.array(fillSchema.nullable()),
    }),
  ),
  bytes: count,
  flops: count,
  launch: z.record(
    z.string(),
    z.strictObject({
      programmaticStreamSerialization: z.boolean(),
      targets: z.array(z.string().min(1)).min(1).optional(),
    }),
  ),
  targets: z.array(z.string().min(1)).min(1),
  build: z.strictObject({
    sources: sha256,
    tuning: z.string(),
  }),
  files: z.record(z.string(), sha256),
});

/**
 * Parses and checks checkpoint.json.
 * @throws LadderError `BAD_MANIFEST` naming the first field that does not fit
 */
export function parseManifest(text: string): Manifest {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new LadderError('BAD_MANIFEST', `checkpoint.json is not JSON: ${(cause as Error).message}`, {}, { cause });
  }
  const result = manifestSchema.safeParse(upgradeManifest(json));
  if (!result.success) {
    const issue = result.error.issues[0];
    throw new LadderError(
      'BAD_MANIFEST',
      `checkpoint.json: ${issue?.path.join('.') || 'root'}: ${issue?.message ?? 'does not fit the schema'}; rebuild it with \`ladder build\``,
    );
  }
  // The schema library drops this key from records without a word; nothing may vanish from a manifest.
  const { tensors, launch, files } = json as Record<'tensors' | 'launch' | 'files', object>;
  for (const [field, record] of Object.entries({ tensors, launch, files })) {
    if (Object.hasOwn(record, '__proto__'))
      throw new LadderError('BAD_MANIFEST', `checkpoint.json: ${field}.__proto__: not a possible name`, { field });
  }
  return result.data;
}
