/**
 * The tuner's search space: every dense operator of a checkpoint with each of its candidate tunings, all in one model.so,
 * so that a trial only chooses which function a node calls.
 */
import { serialiseGraph } from '../../artifact/graph-writer.js';
import type { Manifest } from '../../artifact/manifest.js';
import type { ModuleSources, PlannedOperator } from '../emit/codegen.js';
import { designCheckpoint, selectionOn, type CheckpointRequest } from '../design.js';
import type { Tuning } from '../kernels/plan.js';
import type { LoweredOperator } from '../graph/lower.js';
import { hashSources } from '../emit/sources.js';
import { layoutTarget, type Target } from '../targets.js';
import type { Tuned } from '../types.js';
import { tuningKey } from './tuned.js';

/** One way to run an operator. */
export interface Candidate {
  readonly parameters: Tuning;
  readonly functionName: string;
  /** Index of its device image in the module. */
  readonly image: number;
}

/** All ways to run one operator; nodes that compute the same share it. */
export interface Choice {
  readonly key: string;
  /** Indices of the checkpoint's operators. */
  readonly nodes: readonly number[];
  /** The default tuning first. */
  readonly candidates: readonly Candidate[];
}

/** Everything that trials need. */
export interface VariantModule {
  /** By operator of the checkpoint; operators without tunings have one candidate. */
  readonly choices: readonly Choice[];
  readonly sources: ModuleSources;
  readonly sourcesHash: string;
  /** graph.json in which every node calls its first candidate. */
  readonly graphText: string;
  readonly manifest: Manifest;
}

/**
 * Plans all candidates, at most `limit` per operator: the default, then a spread over the planner's list.
 * @param target what the module is compiled for
 * @param kept operators that have a winner here have no other candidate
 */
export function planVariants(
  request: CheckpointRequest,
  limit: number,
  target: Target = layoutTarget,
  kept: Tuned | null = null,
): VariantModule {
  const design = designCheckpoint(request, null);
  const planned: PlannedOperator[] = [];
  const byKey = new Map<string, { nodes: number[]; candidates: Candidate[] }>();
  design.model.operators.forEach((lowered, index) => {
    const operator: LoweredOperator = { ...lowered, ...selectionOn(lowered, target) };
    const key = tuningKey(operator);
    const known = byKey.get(key);
    if (known) {
      known.nodes.push(index);
      return;
    }
    const next = design.planned.slice(index + 1).find(({ plan }) => plan.reads)?.plan.reads ?? null;
    const winner = kept?.operators[key];
    const candidates = (winner ? [winner.parameters] : tuningsOf(operator, limit, target)).map((parameters, i): Candidate => {
      const functionName = `${operator.node}__v${i}`;
      const image =
        planned.push({
          operator: { ...operator, node: functionName },
          plan: operator.family.plan(operator.match, functionName, parameters, {
            target,
            next: operator.program.hints ? next : null,
          }),
        }) - 1;
      return { parameters, functionName, image };
    });
    byKey.set(key, { nodes: [index], candidates });
  });
  const choices = [...byKey].map(([key, { nodes, candidates }]) => ({ key, nodes, candidates }));
  const functionOf = new Map(choices.flatMap(({ nodes, candidates }) => nodes.map((node) => [node, candidates[0]!.functionName] as const)));
  const { sources, hash } = hashSources(design.model, planned);
  return {
    choices,
    sources,
    sourcesHash: hash,
    graphText: serialiseGraph({
      inputs: design.model.tensors,
      operators: design.model.operators.map(({ node, inputs, outputs }, index) => ({
        name: node,
        functionName: functionOf.get(index)!,
        inputs,
        outputs,
      })),
      outputs: design.model.outputs,
    }),
    manifest: {
      ...design.manifest,
      launch: Object.fromEntries(
        planned
          .flatMap(({ plan }) => plan.launches)
          .map(({ name, programmatic }) => [name, { programmaticStreamSerialization: programmatic }]),
      ),
      files: {},
    },
  };
}

/** The default first, then a spread over the others from the first to the last; each once, as the default is mostly among them. */
function tuningsOf({ family, match }: LoweredOperator, limit: number, target: Target): readonly Tuning[] {
  const [first, ...others] = [...new Map(family.configurations(match, target).map((one) => [textOf(one), one])).values()];
  if (others.length < limit) return [first!, ...others];
  return [first!, ...Array.from({ length: limit - 1 }, (_, i) => others[Math.round((i * (others.length - 1)) / Math.max(1, limit - 2))]!)];
}

/** The same for tunings that have the same, in whatever order. */
function textOf(tuning: Tuning): string {
  return JSON.stringify(Object.entries(tuning).sort());
}
