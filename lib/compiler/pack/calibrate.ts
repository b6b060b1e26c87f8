/**
 * Static scales of activations: the largest magnitude that each tensor has over a batch of inputs, which the model computes at FP16 on the
 * host, with the weights that are packed.
 */
import { LadderError } from '../../errors.js';
import { kPlainFormat } from '../../formats/index.js';
import { type Quantised, recordOf } from '../../operators/program.js';
import type { TaskOptions } from '../../run/options.js';
import { type CheckpointDesign, designGraph, plainGraph, quantisedGraph } from '../design.js';
import { readInputs } from './inputs.js';
import { type Pack, runPacked } from './run-packed.js';

/**
 * @param file safetensors with the model's input, [any number, …] F16, BF16 or F32; undefined: one that is random, as the model's input is filled
 * @returns by name of the scale: the largest magnitude over the format's largest code; 1 where there are zeros alone
 * @throws LadderError `BAD_ARGUMENT`, `MISSING_PARAMETER`, `WRONG_LENGTH`, `BAD_PARAMS` for a file that holds something else; what `pack` throws
 */
export async function calibrate(
  { request, model }: CheckpointDesign,
  pack: Pack,
  file: string | undefined,
  task: TaskOptions = {},
): Promise<ReadonlyMap<string, number>> {
  const input = model.tensors.find(({ role }) => role === 'input')!;
  const inputs = file === undefined ? [null] : await readInputs(file, input.name, input.shape.slice(1));
  const of = { ...request, batch: 1, format: { weight: kPlainFormat, activation: kPlainFormat, group: -1 as const } };
  const quantised = quantisedGraph({ ...request, batch: 1 });
  const scaled = quantised.nodes.flatMap(({ inputs: [x, scale], outputs }) =>
    scale !== undefined && quantised.values[scale]!.role === 'calibration'
      ? [{ x: x!, name: quantised.values[scale]!.name!, type: quantised.values[outputs[0]!]!.type }]
      : [],
  );
  const outputs = [...new Set(scaled.map(({ x }) => x))];
  const largest = outputs.map(() => 0);
  const plain = designGraph(of, { ...plainGraph(of), outputs }, null);
  await runPacked(plain, pack, task, async (network) => {
    for (const values of inputs) {
      if (values) await network.setInput(input.name, values);
      await network.run();
      for (const i of outputs.keys())
        for (const value of await network.getOutput(i, { as: 'float32' })) largest[i] = Math.max(largest[i]!, Math.abs(value));
    }
  });
  return new Map(
    scaled.map(({ x, name, type }) => {
      const { fit } = recordOf(type as Quantised).format.activation!.scale!;
      if (fit.kind !== 'absmax') throw new LadderError('INTERNAL', `${name}: no scale of a whole tensor`);
      return [name, Math.fround((largest[outputs.indexOf(x)]! || fit.top) / fit.top)] as const;
    }),
  );
}
