/**
 * What can be verified of an operator whose meaning is not known: it runs, writes every element of its outputs, gives
 * finite numbers, and gives them again. Operators run in the graph's order, so that each has real inputs.
 */
import { elementBytes } from '../artifact/dtype.js';
import type { DataType, PlanEntry, PlanOperator } from '../native.js';
import { cancellable } from './benchmark.js';
import type { Loaded } from './load.js';
import type { CheckedVerifyOptions } from './options.js';
import type { OperatorVerdict } from './verdict.js';

/** Two bytes that no computed tensor is likely to hold throughout; an element is unwritten where both runs left theirs. */
const kPoisons = [0xa5, 0x5a] as const;

/** Verifies every operator of a foreign checkpoint. @throws LadderError `ABORTED`, what operators throw */
export async function verifyForeignOperators(loaded: Loaded, options: CheckedVerifyOptions): Promise<readonly OperatorVerdict[]> {
  const { plan, executor } = loaded;
  const verdicts: OperatorVerdict[] = [];
  for (const [index, operator] of plan.operators.entries()) {
    options.onProgress?.({ phase: 'verify', fraction: index / plan.operators.length, detail: operator.node });
    const inPlace = sharesStorage(plan.entries, operator);
    const runs: (readonly Uint8Array[])[] = [];
    // An operator that works in place would lose its input to the poison, and its second run would see the first one's result.
    for (const poison of inPlace ? kPoisons.slice(0, 1) : kPoisons) {
      if (!inPlace) for (const entry of operator.outputs) await executor.setBytes(entry, poison);
      await cancellable(executor, options.signal, () => executor.runOperator(index));
      runs.push(await Promise.all(operator.outputs.map(async (entry) => new Uint8Array(await executor.read(entry)))));
    }
    operator.outputs.forEach((entry, output) => {
      verdicts.push(
        judgeOutput(
          operator.node,
          output,
          plan.entries[entry]!,
          runs.map((outputs) => outputs[output]!),
        ),
      );
    });
  }
  return verdicts;
}

function sharesStorage(entries: readonly PlanEntry[], operator: PlanOperator): boolean {
  const inputs = new Set(operator.inputs.map((entry) => entries[entry]!.storage));
  return operator.outputs.some((entry) => inputs.has(entries[entry]!.storage));
}

function judgeOutput(node: string, output: number, { shape, dtype, sizeBytes }: PlanEntry, runs: readonly Uint8Array[]): OperatorVerdict {
  const [first, second] = runs;
  const width = elementBytes(dtype);
  const elements = sizeBytes / width;
  const unwritten = first && second ? countUnwritten(first, second, width) : 0;
  const nonFinite = first ? countNonFinite(first, dtype) : 0;
  const failures: string[] = [];
  if (unwritten > 0) failures.push(`${unwritten} of ${elements} elements were never written`);
  if (nonFinite > 0) failures.push(`${nonFinite} elements are not finite`);
  return {
    node,
    output,
    shape,
    dtype: dtype.name,
    passed: failures.length === 0,
    failures,
    elements,
    compared: 0,
    maxAbsolute: null,
    relativeL2: null,
    maxOverRms: null,
    tolerance: null,
    differing: null,
    terms: [
      first && second
        ? 'written, finite and repeatable; what it computes is not known'
        : 'finite; works in place, so that it ran once; what it computes is not known',
    ],
    deterministic: !first || !second || Buffer.compare(first, second) === 0,
  };
}

function countUnwritten(first: Uint8Array, second: Uint8Array, width: number): number {
  let count = 0;
  for (let start = 0; start < first.length; start += width) {
    let i = start;
    while (i < start + width && first[i] === kPoisons[0] && second[i] === kPoisons[1]) i += 1;
    if (i === start + width) count += 1;
  }
  return count;
}

/** Infinities and NaNs of the IEEE types: all exponent bits set. */
function countNonFinite(bytes: Uint8Array, type: DataType): number {
  const { buffer, byteOffset, byteLength } = bytes;
  const count = (values: Iterable<number>, mask: number): number => {
    let found = 0;
    for (const bits of values) if ((bits & mask) >>> 0 === mask) found += 1;
    return found;
  };
  if (type.code === 2 && type.bits === 16) return count(new Uint16Array(buffer, byteOffset, byteLength / 2), 0x7c00);
  if (type.code === 4 && type.bits === 16) return count(new Uint16Array(buffer, byteOffset, byteLength / 2), 0x7f80);
  if (type.code === 2 && type.bits === 32) return count(new Uint32Array(buffer, byteOffset, byteLength / 4), 0x7f800000);
  if (type.code === 2 && type.bits === 64)
    return new Float64Array(buffer, byteOffset, byteLength / 8).reduce((sum, value) => sum + (Number.isFinite(value) ? 0 : 1), 0);
  return 0;
}
