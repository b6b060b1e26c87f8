// Builds a checkpoint out of single operators, each with inputs of its own, and verifies it: how kernels of any shape are held
// against the reference through the same path as real checkpoints (builder, nvcc, loader, verification).
import { createHash } from 'node:crypto';
import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { serialiseGraph } from '../../lib/artifact/graph-writer.js';
import type { Manifest } from '../../lib/artifact/manifest.js';
import { compileModules, findNvcc } from '../../lib/compiler/emit/compile.js';
import { hashSources } from '../../lib/compiler/emit/sources.js';
import { parameterFill, probeFill, staticScaleFill } from '../../lib/compiler/graph/fills.js';
import type { LoweredModel, LoweredTensor } from '../../lib/compiler/graph/lower.js';
import type { Family } from '../../lib/compiler/kernels/family.js';
import type { Tuning } from '../../lib/compiler/kernels/plan.js';
import { buildTargets } from '../../lib/compiler/targets.js';
import { type Fill, native } from '../../lib/native.js';
import type { Role } from '../../lib/operators/graph.js';
import { operators as primitives } from '../../lib/operators/index.js';
import { type Program, programTensors, tensorsOf } from '../../lib/operators/program.js';
import { verifyPrebuilt } from '../../lib/run/run-prebuilt.js';
import { type StoredProgram, storedProgram, type WrittenOperator } from '../fixtures/programs.js';

/** One operator, and how its kernel is instantiated. */
export interface OperatorCase {
  readonly name: string;
  readonly operator: WrittenOperator;
  /** The families that are asked for a kernel; default: all. */
  readonly among?: readonly Family[];
  readonly tuning?: Tuning;
  /** Range of FP16 activations; default −1 … 1. */
  readonly activations?: Fill;
}

/** What an input is for, by the first step that reads it. */
function roleOf({ values, nodes }: Program, input: number): Role {
  const reader = nodes.find(({ inputs }) => inputs.includes(input))!;
  const { role } = primitives.get(reader.kind).operands[reader.inputs.indexOf(input)]!;
  switch (role) {
    case 'weight':
    case 'gain':
    case 'beta':
      return role;
    // A vector beside rows is a bias, rows are a residual.
    case 'scale':
      return 'calibration';
    case 'skip':
      return values[input]!.axes.length === 1 ? 'bias' : 'input';
    default:
      return 'input';
  }
}

/** The tensors that an operator reads. */
function tensorsOfCase({ name, activations }: OperatorCase, { program }: StoredProgram): readonly LoweredTensor[] {
  return program.inputs.flatMap((input) => {
    const value = program.values[input]!;
    const role = roleOf(program, input);
    return tensorsOf(value).map(
      ({ part, dtype, shape }, i): LoweredTensor => ({
        name: `${name}.${input}_${role}${i === 0 ? '' : '_scale'}`,
        dtype,
        shape,
        value,
        role: role === 'weight' && part === 'scales' ? 'scale' : role,
        fill:
          role === 'calibration'
            ? staticScaleFill(String(program.nodes.find(({ inputs }) => inputs.includes(input))!.params['format']))
            : role !== 'input'
              ? parameterFill(role, value, part)
              : part === 'numbers' && activations
                ? activations
                : probeFill(value, part),
      }),
    );
  });
}

/**
 * Writes graph.json, checkpoint.json and model.so of the cases into `folder`, which is made.
 * @param targets ids of the targets to compile for, planned for the first: ['compute_80'] forces the driver to compile from PTX
 */
async function buildOperators(folder: string, cases: readonly OperatorCase[], targets?: readonly string[]): Promise<void> {
  const stored = cases.map(({ operator, among }) => storedProgram(operator, among));
  const tensors: LoweredTensor[] = [];
  const operators = cases.map((one, i): LoweredModel['operators'][number] => {
    const { program, family, match } = stored[i]!;
    const own = tensorsOfCase(one, stored[i]!);
    tensors.push(...own);
    return {
      node: one.name,
      program,
      family,
      match,
      inputs: own.map(({ name }) => name),
      outputs: programTensors(program).outputs.map(({ dtype, shape }, output) => ({ name: `${one.name}_out${output}`, shape, dtype })),
      probe: own.map(({ role, fill }) => (role === 'input' ? fill : null)),
      bytes: 0,
      flops: 0,
    };
  });
  const target = buildTargets.find(({ id }) => id === targets?.[0]);
  const planned = operators.map((operator, i) => ({ operator, plan: stored[i]!.plan(operator.node, cases[i]!.tuning, null, target) }));
  const outputs = operators.flatMap((operator) => operator.outputs.map(({ name }) => name));
  const { sources, hash } = hashSources({ tensors, operators, outputs }, planned);
  const graph = serialiseGraph({
    inputs: tensors,
    operators: operators.map(({ node, inputs, outputs: made }) => ({ name: node, functionName: node, inputs, outputs: made })),
    outputs,
  });
  const manifest: Manifest = {
    schema: 'ladder-checkpoint/2',
    model: 'operators',
    layers: 1,
    batch: 1,
    seq: 1,
    format: { weight: 'fp16', activation: 'fp16', group: -1, label: 'W_FP16 A_FP16' },
    seed: 1,
    tensors: Object.fromEntries(tensors.map(({ name, role, fill }) => [name, { role, fill }])),
    operators: operators.map(({ node, family, program, probe }) => ({
      node,
      kernels: family.id,
      program,
      probe: [...probe],
      bytes: 0,
      flops: 0,
    })),
    bytes: 0,
    flops: 0,
    launch: Object.fromEntries(
      planned
        .flatMap(({ plan }) => plan.launches)
        .map(({ name, programmatic }) => [name, { programmaticStreamSerialization: programmatic }]),
    ),
    targets: [...(targets ?? buildTargets.map(({ id }) => id))],
    build: { sources: hash, tuning: 'default' },
    files: { 'graph.json': createHash('sha256').update(graph).digest('hex') },
  };
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'graph.json'), graph);
  await writeFile(join(folder, 'checkpoint.json'), JSON.stringify(manifest));
  await compileModules([{ name: 'operators', sources }], targets ? { targets } : {}, async (_unit, path) =>
    copyFile(path, join(folder, 'model.so')),
  );
}

/** What this machine lacks for `verifyOperators`, printed; null when nothing. */
export async function missingForOperators(): Promise<string | null> {
  const cuda = native().cudaStatus();
  const missing = !cuda.available ? `no GPU: ${cuda.reason}` : (await findNvcc()) === null ? 'no nvcc' : null;
  if (missing) console.log(`skipped: ${missing}`);
  return missing;
}

/**
 * Builds the cases and expects every operator to agree with the reference in every element, and with itself in a second run.
 * @param maxRows compares samples of so many rows; 0: all
 */
export async function verifyOperators(cases: readonly OperatorCase[], targets?: readonly string[], maxRows = 0): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'ladder-operators-'));
  try {
    await buildOperators(folder, cases, targets);
    const report = await verifyPrebuilt(folder, { maxColumns: 0, maxRows, build: false, endToEnd: 'off' });
    expect(new Set(report.operators.map(({ node }) => node)).size).toBe(cases.length);
    for (const { node, output, failures, deterministic } of report.operators) {
      expect({ node, output, failures, deterministic }).toEqual({ node, output, failures: [], deterministic: true });
    }
    expect(report.passed, JSON.stringify(report.structure.filter(({ passed }) => !passed))).toBe(true);
  } finally {
    await rm(folder, { recursive: true });
  }
}
