// The enums and tables that kernels are compiled with are the formats' records, value by value.
import { expect, it } from 'vitest';
import { kernelRecords } from '../../lib/formats/cpp.js';

it('native/kernels/formats/records.cuh is what the records say', async () => {
  await expect(kernelRecords()).toMatchFileSnapshot('../../native/kernels/formats/records.cuh');
});
