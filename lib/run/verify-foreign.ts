/**
 * What can be verified of an operator whose meaning is not known: it runs, writes every element of its outputs, gives
 * finite numbers, and gives them again. Operators run in the graph's order, so that each has real inputs.
 */
import type { PlanEntry, VerifyOutput } from '../native.js';
import { cancellable } from './benchmark.js';
import type { Loaded } from './load.js';
import type { CheckedVerifyOptions } from './options.js';
import type { OperatorVerdict } from './verdict.js';

/** What is said where random weights, which nobody trained, made numbers that no type holds. */
export const kFakeOverflow = 'fake weights overflow';

/** Verifies every operator of a foreign checkpoint. @throws LadderError `ABORTED`, what operators throw */
export async function verifyForeignOperators(loaded: Loaded, options: CheckedVerifyOptions): Promise<readonly OperatorVerdict[]> {
  const { plan, executor, weights } = loaded;
  const verdicts: OperatorVerdict[] = [];
  for (const [index, operator] of plan.operators.entries()) {
    options.onProgress?.({ phase: 'verify', fraction: index / plan.operators.length, detail: operator.node });
    const results = await cancellable(executor, options.signal, () =>
      executor.verifyOperator(index, {
        seed: BigInt(options.seed),
        inputs: operator.inputs.map(() => null),
        maxColumns: options.maxColumns,
        maxRows: options.maxRows,
      }),
    );
    results.forEach((result, output) => {
      verdicts.push(judgeOutput(operator.node, output, plan.entries[operator.outputs[output]!]!, result, weights === 'fake'));
    });
  }
  return verdicts;
}

function judgeOutput(
  node: string,
  output: number,
  { shape, dtype }: PlanEntry,
  { elements, unwritten, nonFinite, deterministic }: VerifyOutput,
  fakeWeights: boolean,
): OperatorVerdict {
  const failures: string[] = [];
  const remarks: string[] = [];
  if (unwritten > 0) failures.push(`${unwritten} of ${elements} elements were never written`);
  if (nonFinite > 0) {
    const overflow = `${nonFinite} of ${elements} elements are not finite`;
    if (fakeWeights) remarks.push(`${kFakeOverflow}: ${overflow}, which random weights may cause; graph.params with real ones would tell`);
    else failures.push(overflow);
  }
  const held = [
    ...(deterministic === null ? [] : ['written']),
    ...(nonFinite > 0 ? [] : ['finite']),
    ...(deterministic === true
      ? ['repeatable']
      : deterministic === false
        ? ['not the same in two runs']
        : ['works in place, so that it ran once']),
  ];
  return {
    node,
    output,
    shape,
    dtype: dtype.name,
    passed: failures.length === 0,
    failures,
    remarks,
    elements,
    compared: 0,
    maxAbsolute: null,
    relativeL2: null,
    maxOverRms: null,
    tolerance: null,
    differing: null,
    terms: [`${held.join(', ')}; what it computes is not known`],
    deterministic,
  };
}
