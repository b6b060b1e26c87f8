// A program as an operator of a plan, so that what is sampled in FP64 is held against what is computed in FP32.
import { expect } from 'vitest';
import { native, type NativeProgram } from '../../lib/native.js';
import { tensorBytes } from './reference-naive-program.js';

/** Runs the program and compares it with itself in FP64: all of it, and samples of it. */
export async function checkSampled(program: NativeProgram, inputs: readonly Uint8Array[]): Promise<void> {
  const sizes = [...inputs.map(({ length }) => length), ...program.outputs.flatMap((value) => tensorBytes(program.values[value]!))];
  const dtype = { name: 'uint8', code: 1, bits: 8, lanes: 1 } as const;
  const executor = await native().openExecutor({
    deviceType: 1,
    deviceOrdinal: 0,
    module: null,
    entries: sizes.map((sizeBytes, storage) => ({ shape: [sizeBytes], dtype, storage, sizeBytes })),
    storages: sizes.map((sizeBytes) => ({ sizeBytes, deviceType: 1 })),
    operators: [
      {
        node: 'n',
        functionName: 'f',
        flatten: false,
        kind: 'reference',
        program,
        inputs: inputs.map((_, i) => i),
        outputs: sizes.slice(inputs.length).map((_, i) => inputs.length + i),
      },
    ],
  });
  try {
    for (const [entry, bytes] of inputs.entries()) await executor.write(entry, bytes);
    for (const [maxRows, maxColumns] of [
      [0, 0],
      [2, 3],
      [3, 0],
    ] as const) {
      const verified = await executor.verifyOperator(0, { seed: 7n, inputs: inputs.map(() => null), maxColumns, maxRows });
      for (const { compared, relativeL2, nonFinite, deterministic, differing } of verified) {
        expect(compared).toBeGreaterThan(0);
        expect(!(relativeL2 <= 2 ** -10), JSON.stringify(program)).toBe(false);
        expect({ nonFinite, deterministic, differing }).toEqual({ nonFinite: 0, deterministic: true, differing: 0 });
      }
    }
  } finally {
    await executor.dispose();
  }
}
