/**
 * Whether a checkpoint computes what it says: structure, then every operator against the reference on the device's own
 * inputs, then the whole. Tolerances are tolerance.ts's; the comparison itself is native. Checkpoints without a manifest
 * are checked as far as that needs no semantics (verify-foreign.ts).
 */
import { freemem } from 'node:os';
import { checkHashes, paramsRemarks } from '../artifact/checkpoint.js';
import { planExecutor } from '../artifact/plan.js';
import { native } from '../native.js';
import { cancellable } from './benchmark.js';
import { fillWeights, type Loaded } from './load.js';
import { type CheckedVerifyOptions, throwIfAborted } from './options.js';
import type { EndToEndVerdict, OperatorVerdict, StructureCheck, VerifyReport } from './verdict.js';
import { tensorInfo } from './tensors.js';
import { allowanceOf, endToEndTolerance, judge, toleranceOf } from './tolerance.js';
import { kFakeOverflow, verifyForeignOperators } from './verify-foreign.js';

/** The whole layer through the reference takes seconds below these: a 70B layer of one token fits, a prefill does not. */
const kCheapFlops = 2e10;
const kCheapBytes = 6e9;

/**
 * Verifies a loaded checkpoint. Inputs that were set are overwritten.
 * @throws LadderError `ABORTED`, what operators throw; a mismatch is no error but `passed: false`
 */
export async function verifyLoaded(loaded: Loaded, options: CheckedVerifyOptions): Promise<VerifyReport> {
  const { checkpoint, device } = loaded;
  const structure = await verifyStructure(loaded);
  const operators = checkpoint.manifest ? await verifyOperators(loaded, options) : await verifyForeignOperators(loaded, options);
  const { outputs: endToEnd, scope } = await verifyEndToEnd(loaded, options);
  return {
    passed: [...structure, ...operators, ...endToEnd].every(({ passed }) => passed),
    kind: checkpoint.manifest ? 'semantic' : 'structural',
    structure,
    operators,
    endToEnd,
    endToEndScope: scope,
    device,
    seed: options.seed,
  };
}

/** What reading and planning have checked already, in words, and the hashes. */
async function verifyStructure({ checkpoint, plan, usesReference }: Loaded): Promise<readonly StructureCheck[]> {
  const { graph, manifest, params, module } = checkpoint;
  const passed = (name: string, detail: string): StructureCheck => ({ name, passed: true, detail });
  const functions = new Set(plan.operators.filter(({ kind }) => kind === 'packed').map(({ functionName }) => functionName)).size;
  return [
    passed(
      'graph.json',
      `${graph.nodes.length} nodes, ${graph.entries.length} tensors in ${plan.storages.length} buffers; indices, shapes and types fit`,
    ),
    usesReference
      ? passed('model.so', 'not used: the reference operators run on the CPU')
      : passed(
          'model.so',
          `${functions} functions called, all exported; ${module?.blob?.images.reduce((sum, { kernels }) => sum + kernels.length, 0) ?? 0} kernels in its blob`,
        ),
    passed(
      'graph.params',
      params
        ? [`${params.tensors.length} tensors, all of the graph's shapes and types`, ...paramsRemarks(checkpoint)].join('; ')
        : 'absent: weights are generated',
    ),
    manifest
      ? passed('checkpoint.json', `describes each of ${manifest.operators.length} operators; operands fit`)
      : passed('checkpoint.json', 'absent: a foreign checkpoint'),
    ...(await checkHashes(checkpoint))
      .filter(({ file }) => !usesReference || !file.startsWith('model.so'))
      .map(({ file, matches, detail }): StructureCheck => ({ name: file, passed: matches, detail })),
  ];
}

async function verifyOperators({ checkpoint, plan, executor }: Loaded, options: CheckedVerifyOptions): Promise<readonly OperatorVerdict[]> {
  const described = new Map(checkpoint.manifest?.operators.map((operator) => [operator.node, operator]));
  const verdicts: OperatorVerdict[] = [];
  for (const [index, operator] of plan.operators.entries()) {
    const described_ = described.get(operator.node);
    if (!described_) continue;
    options.onProgress?.({ phase: 'verify', fraction: index / plan.operators.length, detail: operator.node });
    const results = await cancellable(executor, options.signal, () =>
      executor.verifyOperator(index, {
        seed: BigInt(options.seed),
        inputs: described_.probe,
        maxColumns: options.maxColumns,
        maxRows: options.maxRows,
      }),
    );
    results.forEach((result, output) => {
      const entry = plan.entries[operator.outputs[output]!]!;
      const tolerance = toleranceOf(described_.program, output);
      const failures = judge(tolerance, result);
      const isCodes = tolerance.kind === 'codes';
      verdicts.push({
        node: operator.node,
        output,
        shape: entry.shape,
        dtype: entry.dtype.name,
        passed: failures.length === 0,
        failures,
        remarks: [],
        elements: result.elements,
        compared: result.compared,
        maxAbsolute: result.maxAbsolute,
        relativeL2: result.relativeL2,
        maxOverRms: result.maxOverRms,
        tolerance: allowanceOf(tolerance, result.compared),
        differing: isCodes ? result.differing : null,
        terms: tolerance.terms,
        deterministic: result.deterministic,
      });
    });
  }
  return verdicts;
}

async function verifyEndToEnd(
  loaded: Loaded,
  options: CheckedVerifyOptions,
): Promise<{ outputs: readonly EndToEndVerdict[]; scope: string }> {
  if (options.endToEnd === 'off') return { outputs: [], scope: 'not run (endToEnd off)' };
  const { checkpoint, weights } = loaded;
  const heads = checkpoint.graph.heads;
  options.onProgress?.({ phase: 'verify', fraction: null, detail: 'two runs of the whole' });
  const first = await poisonAndRun(loaded, options, 0xff);
  const second = await poisonAndRun(loaded, options, 0xfe);
  const { why, run } = referencePlan(loaded, options);
  const reference = run ? await referenceOutputs(loaded, options) : null;
  const tolerance = reference ? endToEndTolerance(checkpoint.manifest?.operators.map(({ program }) => program) ?? []).relativeL2 : null;
  const outputs: EndToEndVerdict[] = [];
  for (const [i, entry] of heads.entries()) {
    throwIfAborted(options.signal);
    const { shape, dtype, node } = checkpoint.graph.entries[entry]!;
    const { name, elements } = tensorInfo(checkpoint.graph.nodes[node]!.name, shape, dtype);
    const { nonFinite, equal, maxDifference, relativeL2 } = await native().compareTensors(
      dtype,
      first[i]!,
      second[i]!,
      reference && reference[i]!,
    );
    const failures: string[] = [];
    const remarks: string[] = [];
    if (nonFinite > 0) {
      if (weights === 'fake') remarks.push(`${kFakeOverflow}: ${nonFinite} elements are not finite`);
      else failures.push(`${nonFinite} elements are not finite`);
    }
    if (relativeL2 !== null && tolerance !== null && !(relativeL2 <= tolerance))
      failures.push(`relative L2 error ${relativeL2.toExponential(2)} exceeds ${tolerance.toExponential(2)}`);
    const passed = failures.length === 0;
    outputs.push({ name, elements, passed, failures, remarks, nonFinite, bitEqual: equal, maxDifference, relativeL2, tolerance });
  }
  return { outputs, scope: `two runs, outputs poisoned before: finite, and compared bit by bit; ${why}` };
}

/** Whether the whole also runs through the reference, and why (not). */
function referencePlan(
  { checkpoint: { manifest }, usesReference }: Loaded,
  { endToEnd }: CheckedVerifyOptions,
): { run: boolean; why: string } {
  if (!manifest) return { run: false, why: 'without checkpoint.json there is no reference to compare with' };
  if (usesReference) return { run: false, why: 'this is the reference itself' };
  if (endToEnd === 'full') return { run: true, why: 'compared with all operators chained through the reference' };
  if (manifest.flops > kCheapFlops || manifest.bytes > kCheapBytes || manifest.bytes > 0.6 * freemem()) {
    return {
      run: false,
      why: 'too large to chain through the reference in seconds, so not compared with it (endToEnd full does it all the same)',
    };
  }
  return { run: true, why: 'compared with all operators chained through the reference' };
}

/** Generates the inputs anew, poisons the outputs, runs, and reads the outputs. */
async function poisonAndRun(
  { checkpoint, fills, plan, executor }: Pick<Loaded, 'checkpoint' | 'fills' | 'plan' | 'executor'>,
  options: CheckedVerifyOptions,
  poison: number,
): Promise<readonly Uint8Array[]> {
  const { heads, nodes, argumentNodes } = checkpoint.graph;
  const inputs = new Set(
    checkpoint.manifest
      ? Object.entries(checkpoint.manifest.tensors)
          .filter(([, { role }]) => role === 'input')
          .map(([name]) => name)
      : [],
  );
  for (const { name, entry, fill, key } of fills) if (inputs.has(name)) await executor.fill(entry, fill, key);
  // An output may alias an input (`__nop` shares storage): that one holds what must not be lost.
  const storageOf = (entry: number): number => plan.entries[entry]!.storage;
  const argumentStorages = new Set(argumentNodes.flatMap((node) => nodes[node]!.outputs.map(storageOf)));
  for (const entry of heads) if (!argumentStorages.has(storageOf(entry))) await executor.setBytes(entry, poison);
  await cancellable(executor, options.signal, () => executor.run());
  return cancellable(executor, options.signal, () => Promise.all(heads.map(async (entry) => new Uint8Array(await executor.read(entry)))));
}

/**
 * The outputs of all operators chained through the reference, on the same weights and inputs. In storage of their own: where
 * graph.json lets a tensor overwrite another that is still needed, the two results must differ.
 */
async function referenceOutputs(loaded: Loaded, options: CheckedVerifyOptions): Promise<readonly Uint8Array[]> {
  const { checkpoint, fills } = loaded;
  throwIfAborted(options.signal);
  options.onProgress?.({ phase: 'verify', fraction: null, detail: 'the whole through the reference' });
  const plan = planExecutor(checkpoint, { deviceType: 1, deviceOrdinal: 0, useReference: true, ownStorage: true });
  const executor = await native().openExecutor(plan);
  try {
    await fillWeights(checkpoint, executor, undefined, { signal: options.signal });
    // The loaded checkpoint may have been given another seed.
    for (const { entry, fill, key } of fills) await executor.fill(entry, fill, key);
    return await poisonAndRun({ checkpoint, fills, plan, executor }, options, 0xff);
  } finally {
    await executor.dispose();
  }
}
