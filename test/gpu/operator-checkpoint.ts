// Builds a checkpoint out of single operators, each with inputs of its own, and verifies it: how kernels of any shape are held
// against the reference through the same path as real checkpoints (builder, nvcc, loader, verification).
import { createHash } from 'node:crypto';
import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { serialiseGraph } from '../../lib/artifact/graph-writer.js';
import type { Fill, Manifest } from '../../lib/artifact/manifest.js';
import { type Operand, signatureOf } from '../../lib/artifact/operands.js';
import type { DenseOperator, Operator } from '../../lib/artifact/operators.js';
import { compileModules, findNvcc } from '../../lib/compiler/compile.js';
import { kActivationFill, kGainFill, kShiftFill, quantisedProbe, quantisedScaleProbe, scaleFill, weightFill } from '../../lib/compiler/fills.js';
import type { Tuning } from '../../lib/compiler/kernel.js';
import type { LoweredModel, LoweredTensor } from '../../lib/compiler/lower.js';
import { planOperator } from '../../lib/compiler/planners.js';
import { hashSources } from '../../lib/compiler/sources.js';
import { native } from '../../lib/native.js';
import { verifyPrebuilt } from '../../lib/run/run-prebuilt.js';

/** One operator, and how its kernel is instantiated. */
export interface OperatorCase {
  readonly name: string;
  readonly operator: Operator;
  readonly tuning?: Tuning;
  /** Range of FP16 activations; default −1 … 1. */
  readonly activations?: Fill;
}

function tensorOf(prefix: string, index: number, { role, dtype, sizeBytes }: Operand, { operator, activations }: OperatorCase): LoweredTensor {
  const elements = dtype === 'float16' ? sizeBytes / 2 : dtype === 'float32' ? sizeBytes / 4 : sizeBytes;
  const tensor = (manifestRole: LoweredTensor['role'], fill: Fill): LoweredTensor => ({ name: `${prefix}.${index}_${role}`, shape: [elements], dtype, role: manifestRole, fill });
  const dense = operator as DenseOperator;
  switch (role) {
    case 'weight': return tensor('weight', weightFill(dense.weight, dense.k));
    case 'scale': return tensor('scale', scaleFill(dense.weight as Exclude<DenseOperator['weight'], 'fp16'>, dense.k));
    case 'gain': return tensor('gain', kGainFill);
    case 'beta': return tensor('beta', kShiftFill);
    case 'bias': return tensor('bias', kShiftFill);
    case 'xScale': return tensor('input', quantisedScaleProbe(dense.activation as Exclude<DenseOperator['activation'], 'fp16'>));
    default: return tensor('input', dtype === 'float16' ? activations ?? kActivationFill : quantisedProbe(dense.activation as Exclude<DenseOperator['activation'], 'fp16'>));
  }
}

/**
 * Writes graph.json, checkpoint.json and model.so of the cases into `folder`, which is made.
 * @param targets names of the nvcc targets to compile for: ['compute_80'] forces the driver to compile from PTX
 */
async function buildOperators(folder: string, cases: readonly OperatorCase[], targets?: readonly string[]): Promise<void> {
  const tensors: LoweredTensor[] = [];
  const operators = cases.map((one): LoweredModel['operators'][number] => {
    const { inputs, outputs } = signatureOf(one.operator);
    const own = inputs.map((operand, i) => tensorOf(one.name, i, operand, one));
    tensors.push(...own);
    return {
      node: one.name, semantics: one.operator, inputs: own.map(({ name }) => name),
      outputs: outputs.map(({ dtype, sizeBytes }, i) => ({ name: `${one.name}_out${i}`, shape: [dtype === 'float16' ? sizeBytes / 2 : dtype === 'float32' ? sizeBytes / 4 : sizeBytes], dtype })),
      probe: own.map(({ role, fill }) => (role === 'input' ? fill : null)), bytes: 0, flops: 0,
    };
  });
  const planned = operators.map((operator, i) => ({ operator, plan: planOperator(operator.semantics, operator.node, cases[i]!.tuning ?? {}) }));
  const results = operators.flatMap(({ outputs }) => outputs.map(({ name }) => name));
  const { sources, hash } = hashSources({ tensors, operators, output: results[0]! }, planned);
  const graph = serialiseGraph({ inputs: tensors, operators: operators.map(({ node, inputs, outputs }) => ({ name: node, functionName: node, inputs, outputs })), outputs: results });
  const manifest: Manifest = {
    schema: 'ladder-checkpoint/1', model: 'operators', layers: 1, batch: 1, seq: 1,
    format: { weight: 'fp16', activation: 'fp16', group: -1, label: 'W_FP16 A_FP16' }, seed: 1,
    tensors: Object.fromEntries(tensors.map(({ name, role, fill }) => [name, { role, fill }])),
    operators: operators.map(({ node, semantics, probe }) => ({ node, semantics, probe: [...probe], bytes: 0, flops: 0 })),
    bytes: 0, flops: 0,
    launch: Object.fromEntries(planned.flatMap(({ plan }) => plan.launches).map(({ name, programmatic }) => [name, { programmaticStreamSerialization: programmatic }])),
    targets: [...(targets ?? ['compute_80', 'sm_80', 'sm_90a'])],
    build: { sources: hash, tuning: 'default' },
    files: { 'graph.json': createHash('sha256').update(graph).digest('hex') },
  };
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'graph.json'), graph);
  await writeFile(join(folder, 'checkpoint.json'), JSON.stringify(manifest));
  await compileModules([{ name: 'operators', sources }], targets ? { targets } : {}, async (_unit, path) => copyFile(path, join(folder, 'model.so')));
}

/** What this machine lacks for `verifyOperators`, printed; null when nothing. */
export async function missingForOperators(): Promise<string | null> {
  const cuda = native().cudaStatus();
  const missing = !cuda.available ? `no GPU: ${cuda.reason}` : (await findNvcc()) === null ? 'no nvcc' : null;
  if (missing) console.log(`skipped: ${missing}`);
  return missing;
}

/** Builds the cases and expects every operator to agree with the reference in every element, and with itself in a second run. */
export async function verifyOperators(cases: readonly OperatorCase[], targets?: readonly string[]): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'ladder-operators-'));
  try {
    await buildOperators(folder, cases, targets);
    const report = await verifyPrebuilt(folder, { maxColumns: 0, maxRows: 0, build: false, endToEnd: 'off' });
    expect(new Set(report.operators.map(({ node }) => node)).size).toBe(cases.length);
    for (const { node, output, failures, deterministic } of report.operators) {
      expect({ node, output, failures, deterministic }).toEqual({ node, output, failures: [], deterministic: true });
    }
    expect(report.passed, JSON.stringify(report.structure.filter(({ passed }) => !passed))).toBe(true);
  } finally {
    await rm(folder, { recursive: true });
  }
}
