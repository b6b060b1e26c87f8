/**
 * A checkpoint before anything is written: graph.json and checkpoint.json as text, and the sources of model.so.
 * The same request always gives the same bytes, so that a committed checkpoint can be checked against the code.
 */
import { createHash } from 'node:crypto';
import { serialiseGraph } from '../artifact/graph-writer.js';
import type { Manifest } from '../artifact/manifest.js';
import { checkpointName } from '../artifact/names.js';
import type { ModuleSources, PlannedOperator } from './codegen.js';
import { buildTargets } from './compile.js';
import { formatLabel } from './formats.js';
import type { KernelPlan, WeightRuns } from './kernel.js';
import { lower, type LoweredModel, type ModelFormat } from './lower.js';
import { modelFactory } from './models/index.js';
import { planOperator } from './planners.js';
import { hashSources } from './sources.js';
import { type Tuned, tuningOf } from './tuned.js';

/** What to build. */
export interface CheckpointRequest {
  readonly model: string;
  readonly batch: number;
  /** Tokens per sequence. */
  readonly seq: number;
  readonly layers: number;
  readonly format: ModelFormat;
  /** Seed of the fake weights. */
  readonly seed: number;
}

/** Everything about one checkpoint. */
export interface CheckpointDesign {
  readonly request: CheckpointRequest;
  /** Folder name, as the authors name theirs. */
  readonly name: string;
  readonly model: LoweredModel;
  readonly planned: readonly PlannedOperator[];
  readonly graphText: string;
  readonly manifest: Manifest;
  readonly sources: ModuleSources;
}

/**
 * Lowers, plans and generates; pure but for reading the kernel templates.
 * @throws LadderError `BAD_ARGUMENT`, `UNSUPPORTED`
 */
export function designCheckpoint(request: CheckpointRequest, tuned: Tuned | null): CheckpointDesign {
  const model = lower(modelFactory(request.model)(request.batch, request.seq, request.layers), request.format);
  const planned = planModel(model, tuned);
  const { sources, hash } = hashSources(model, planned);
  const graphText = serialiseGraph({
    inputs: model.tensors,
    operators: model.operators.map(({ node, inputs, outputs }) => ({ name: node, functionName: node, inputs, outputs })),
    outputs: [model.output],
  });
  const { weight, activation, group } = request.format;
  const manifest: Manifest = {
    schema: 'ladder-checkpoint/1',
    model: request.model, layers: request.layers, batch: request.batch, seq: request.seq,
    format: { weight, activation, group, label: formatLabel(weight, activation) },
    seed: request.seed,
    tensors: Object.fromEntries(model.tensors.map(({ name, role, fill, logicalShape, layout }) =>
      [name, { role, fill, ...(logicalShape && { logicalShape: [...logicalShape] }), ...(layout && { layout: [...layout] }) }])),
    operators: model.operators.map(({ node, semantics, bytes, flops, probe }) => ({ node, semantics, bytes, flops, probe: [...probe] })),
    bytes: sum(model.operators.map(({ bytes }) => bytes)),
    flops: sum(model.operators.map(({ flops }) => flops)),
    launch: Object.fromEntries(planned.flatMap(({ plan }) => plan.launches).map(({ name, programmatic }) => [name, { programmaticStreamSerialization: programmatic }])),
    targets: buildTargets.map(({ name }) => name),
    build: { sources: hash, tuning: tuned?.arch ?? 'default' },
    files: { 'graph.json': createHash('sha256').update(graphText).digest('hex') },
  };
  return { request, name: checkpointName(request), model, planned, graphText, manifest, sources };
}

/** The last operator first: each product must know where the next one begins to read. */
function planModel(model: LoweredModel, tuned: Tuned | null): readonly PlannedOperator[] {
  const planned: PlannedOperator[] = [];
  let next: WeightRuns | null = null;
  for (const operator of [...model.operators].reverse()) {
    const { semantics, node } = operator;
    const plan: KernelPlan = planOperator(semantics, node, tuningOf(tuned, semantics), next);
    planned.unshift({ operator, plan });
    next = plan.reads ?? next;
  }
  return planned;
}

/** The request that a manifest was made from. */
export function requestOf(manifest: Manifest): CheckpointRequest {
  const { model, batch, seq, layers, seed, format } = manifest;
  return { model, batch, seq, layers, seed, format: { weight: format.weight, activation: format.activation, group: format.group } };
}

function sum(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0);
}
