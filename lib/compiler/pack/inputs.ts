/** Inputs of a model out of a safetensors file. */
import { basename } from 'node:path';
import { LadderError } from '../../errors.js';
import { Safetensors } from './safetensors.js';

/**
 * Every input of a file: a single tensor, or the one of the input's name, [any number, …shape] of F16, BF16 or F32.
 * @throws LadderError `MISSING_PARAMETER`, `WRONG_LENGTH`, `BAD_PARAMS`, `IO`
 */
export async function readInputs(path: string, name: string, shape: readonly number[]): Promise<readonly Float32Array[]> {
  const file = new Safetensors(path);
  try {
    const own = file.shapes.size === 1 ? [...file.shapes.keys()][0]! : name;
    const found = file.shapes.get(own);
    if (!found)
      throw new LadderError('MISSING_PARAMETER', `${basename(path)} has several tensors, none of which is the model's input \`${name}\``, {
        name,
      });
    const [count, ...rest] = found;
    if (!count || rest.length !== shape.length || rest.some((extent, i) => extent !== shape[i]))
      throw new LadderError(
        'WRONG_LENGTH',
        `expected [n, ${shape.join(', ')}] for the inputs of ${basename(path)} but received [${found.join(', ')}]`,
        {
          name: own,
        },
      );
    const [values, each] = [await file.read(own), rest.reduce((product, extent) => product * extent, 1)];
    return Array.from({ length: count }, (_, i) => values.subarray(i * each, (i + 1) * each));
  } finally {
    file.close();
  }
}
