/**
 * A checkpoint before anything is written: graph.json and checkpoint.json as text, and the sources of model.so.
 * The same request always gives the same bytes, so that a committed checkpoint can be checked against the code.
 */
import { createHash } from 'node:crypto';
import { serialiseGraph } from '../artifact/graph-writer.js';
import type { Manifest } from '../artifact/manifest.js';
import { checkpointName } from '../artifact/names.js';
import { LadderError } from '../errors.js';
import { formatLabel } from '../formats/index.js';
import { findModel, type Model, modelGraph, type NamedModel, type NodeFormats } from '../models/index.js';
import type { Mask } from '../operators/mask.js';
import type { Graph, GraphNode } from '../operators/graph.js';
import { operators } from '../operators/index.js';
import type { Program } from '../operators/program.js';
import type { ModuleSources, PlannedOperator, TargetPlan } from './emit/codegen.js';
import { hashSources } from './emit/sources.js';
import { lower, type LoweredModel, type LoweredOperator } from './graph/lower.js';
import { type Policy, quantiseGraph } from './graph/quantise.js';
import { isSameStorage, Refusal, type Selection, type Storage } from './kernels/family.js';
import { families } from './kernels/index.js';
import type { KernelPlan, WeightRuns } from './kernels/plan.js';
import { buildTargets, layoutTarget, type Target } from './targets.js';
import type { ModelFormat, Tuned } from './types.js';
import { readTuned, tuningOf } from './tune/tuned.js';

/** What to build. */
export interface CheckpointRequest extends NamedModel {
  readonly batch: number;
  /** Tokens per sequence. */
  readonly seq: number;
  readonly layers: number;
  readonly format: ModelFormat;
  /** Seed of the fake weights. */
  readonly seed: number;
  /** Which tokens attention sees. Default none: all of the sequence. */
  readonly mask?: Mask | undefined;
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
 * Designs what stands in a checkpoint's folder, or is to: with the tunings that are there.
 * @param arch nvcc's name of the architecture of the GPU at hand
 * @throws LadderError as {@link designCheckpoint}, `BAD_RECORD`, `IO`
 */
export async function designStored(request: CheckpointRequest, folder: string, arch: string): Promise<CheckpointDesign> {
  const archs = new Set([arch, ...buildTargets.map(({ id }) => id)]);
  const tunings = new Map(await Promise.all([...archs].map(async (id) => [id, await readTuned(folder, id)] as const)));
  return designCheckpoint(request, tunings.get(arch) ?? null, tunings);
}

/**
 * Lowers, plans and generates; pure but for reading the kernel templates.
 * @param tuned of the GPU at hand: for every target that has no tuning of its own
 * @param own by target
 * @throws LadderError `BAD_ARGUMENT`, `UNSUPPORTED`
 */
export function designCheckpoint(
  request: CheckpointRequest,
  tuned: Tuned | null,
  own: ReadonlyMap<string, Tuned | null> = new Map(),
): CheckpointDesign {
  return designGraph(request, quantisedGraph(request), tuned, own);
}

/** A request's model before quantisation. @throws LadderError `BAD_ARGUMENT` */
export function plainGraph(request: CheckpointRequest): Graph {
  return modelGraph(request)(request.batch, request.seq, request.layers, request.mask);
}

/** The same with what its format quantises; values of the plain graph keep their indices. */
export function quantisedGraph(request: CheckpointRequest): Graph {
  return quantiseGraph(plainGraph(request), policyOf(findModel(request)!, request.format), request.format.group);
}

/** The same as {@link designCheckpoint} for a graph that is at hand. */
export function designGraph(
  request: CheckpointRequest,
  graph: Graph,
  tuned: Tuned | null,
  own: ReadonlyMap<string, Tuned | null> = new Map(),
): CheckpointDesign {
  const { weight, activation, group } = request.format;
  const model = lower(graph, layoutTarget);
  const planned = planModel(model, (target) => own.get(target.id) ?? tuned);
  const { sources, hash } = hashSources(model, planned);
  const graphText = serialiseGraph({
    inputs: model.tensors,
    operators: model.operators.map(({ node, inputs, outputs }) => ({ name: node, functionName: node, inputs, outputs })),
    outputs: model.outputs,
  });
  const manifest: Manifest = {
    schema: 'ladder-checkpoint/2',
    model: request.model,
    ...(request.config && { config: request.config }),
    layers: request.layers,
    batch: request.batch,
    seq: request.seq,
    ...(request.mask !== undefined && { mask: request.mask }),
    format: { weight, activation, group, label: formatLabel(weight, activation) },
    seed: request.seed,
    tensors: Object.fromEntries(model.tensors.map(({ name, role, fill }) => [name, { role, fill }])),
    operators: model.operators.map(({ node, family, program, bytes, flops, probe }) => ({
      node,
      kernels: family.id,
      program,
      bytes,
      flops,
      probe: [...probe],
    })),
    bytes: sum(model.operators.map(({ bytes }) => bytes)),
    flops: sum(model.operators.map(({ flops }) => flops)),
    launch: Object.fromEntries(planned.flatMap(launchAttributes)),
    targets: buildTargets.map(({ id }) => id),
    build: { sources: hash, tuning: tuned?.arch ?? 'default' },
    files: { 'graph.json': createHash('sha256').update(graphText).digest('hex') },
  };
  return { request, name: checkpointName(request), model, planned, graphText, manifest, sources };
}

/** By kernel: how it is launched, and which targets it is for where they differ. */
function launchAttributes({ plan, alternatives = [] }: PlannedOperator): readonly (readonly [string, Manifest['launch'][string]])[] {
  const all = [
    { plan, targets: buildTargets.map(({ id }) => id).filter((id) => !alternatives.some(({ targets }) => targets.includes(id))) },
    ...alternatives,
  ];
  return all.flatMap((one) =>
    one.plan.launches.map(
      ({ name, programmatic }) =>
        [name, { programmaticStreamSerialization: programmatic, ...(alternatives.length > 0 && { targets: [...one.targets] }) }] as const,
    ),
  );
}

/** The model's own policy; without one, everything that has a weight is quantised alike. */
function policyOf({ policy }: Model, formats: ModelFormat): Policy {
  if (policy) return (node) => policy(node, formats);
  const all: NodeFormats = { weight: formats.weight, input: formats.activation };
  return ({ kind }: GraphNode) => (operators.get(kind).operands.some(({ role }) => role === 'weight') ? all : null);
}

/** The tuning that a target's kernels have. */
type TunedFor = (target: Target) => Tuned | null;

/** The last operator first: each product must know where the next one begins to read. */
function planModel(model: LoweredModel, tunedFor: TunedFor): readonly PlannedOperator[] {
  const planned: PlannedOperator[] = [];
  let next: WeightRuns | null = null;
  for (const operator of [...model.operators].reverse()) {
    const { family, match, node, program } = operator;
    const plan = family.plan(match, node, tuningOf(tunedFor(layoutTarget), operator), {
      target: layoutTarget,
      next: program.hints ? next : null,
    });
    planned.unshift({ operator, plan, alternatives: alternativesOf(operator, plan, tunedFor, program.hints ? next : null) });
    next = plan.reads ?? next;
  }
  return sharedKernels(planned);
}

/**
 * Operators whose kernels are the same but for their names have the first one's: a layer's instructions are in the multiprocessors'
 * caches when the next layer's turn comes, which is a tenth of the time of ResNet-50 at one image (bench/NOTES.md), and nvcc compiles them
 * once.
 */
function sharedKernels(planned: readonly PlannedOperator[]): readonly PlannedOperator[] {
  const known = new Map<string, PlannedOperator>();
  return planned.map((one) => {
    const { operator, ...kernels } = one;
    const text = JSON.stringify(kernels).replaceAll(operator.node, '');
    const first = known.get(text);
    if (!first) known.set(text, one);
    return first ? { ...first, operator } : one;
  });
}

/**
 * The kernels of the targets that have others: of each the first family that reads the weights as they are stored. Plans that are
 * the same but for their kernels' names share an image.
 */
function alternativesOf(operator: LoweredOperator, plan: KernelPlan, tunedFor: TunedFor, next: WeightRuns | null): readonly TargetPlan[] {
  const { node } = operator;
  const others: { targets: string[]; plan: KernelPlan }[] = [];
  for (const target of buildTargets) {
    if (target.id === layoutTarget.id) continue;
    const { family, match } = selectionOn(operator, target);
    const planFor = (name: string): KernelPlan => family.plan(match, name, tuningOf(tunedFor(target), { family, match }), { target, next });
    if (JSON.stringify(planFor(node)) === JSON.stringify(plan)) continue;
    const same = others.find((one) => JSON.stringify(planFor(`${node}__${one.targets[0]!}`)) === JSON.stringify(one.plan));
    if (same) same.targets.push(target.id);
    else others.push({ targets: [target.id], plan: planFor(`${node}__${target.id}`) });
  }
  return others;
}

/**
 * Who plans an operator for a target: its own family where values are laid out for it, elsewhere the first that reads weights and
 * activations as they are stored.
 * @throws LadderError `UNSUPPORTED` where there is none
 */
export function selectionOn({ node, program, family: chosen, match: own }: LoweredOperator, target: Target): Selection {
  if (target.id === layoutTarget.id) return { family: chosen, match: own };
  for (const family of families.all()) {
    const match = family.accepts(program, target);
    if (!(match instanceof Refusal) && [family.storage(match), family.reads?.(match)].every((wanted) => isStoredSo(program, wanted)))
      return { family, match };
  }
  throw new LadderError('UNSUPPORTED', `${node}: no kernel for ${target.id} reads values as they are stored for ${chosen.id}`, {
    target: target.id,
  });
}

/** Whether values have the orders that a family wants. */
function isStoredSo({ values }: Program, storage: ReadonlyMap<number, Storage> = new Map()): boolean {
  return [...storage].every(([value, wanted]) => isSameStorage(values[value]!, wanted));
}

/** The request that a manifest was made from. */
export function requestOf(manifest: Manifest): CheckpointRequest {
  const { model, config, batch, seq, layers, seed, format, mask } = manifest;
  return {
    model,
    ...(config && { config }),
    batch,
    seq,
    layers,
    seed,
    format: { weight: format.weight, activation: format.activation, group: format.group },
    ...(mask !== undefined && { mask }),
  };
}

function sum(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0);
}
