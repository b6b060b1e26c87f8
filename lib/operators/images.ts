/**
 * What networks of convolutions do between products, on images whose pixels are the rows of a matrix, m = batch · height · width:
 * pooling, means over images, and channels in another order (Zhang et al. 2018).
 */
import { z } from 'zod';
import type { ConvParameters } from './conv-parameters.js';
import { convolvedSize } from './conv.js';
import { definePrimitive, dimension, ensure, kHalfUnit, matrixOf, real } from './primitive.js';

const poolParams = z.strictObject({
  batch: dimension,
  height: dimension,
  width: dimension,
  kernel: dimension,
  stride: dimension,
  padding: z.number().int().min(0).max(1024),
});
export type PoolParameters = z.infer<typeof poolParams>;

/** Rows and columns of the image that comes of pooling. */
export function pooledSize({ kernel, padding, ...image }: PoolParameters): readonly [height: number, width: number] {
  const square: ConvParameters = { ...image, kernelY: kernel, kernelX: kernel, paddingY: padding, paddingX: padding, groups: 1 };
  return convolvedSize(square);
}

/** The largest number of a channel among the kernel × kernel pixels at (i·stride − padding, j·stride − padding), as far as they exist. */
export const maxPool = definePrimitive({
  id: 'max_pool',
  params: poolParams,
  anchor: false,
  rereads: true,
  operands: [{ role: 'x' }],
  infer(given, [x]) {
    const { batch, height, width, kernel, padding } = given;
    const [rows, channels] = matrixOf('max_pool', 'x', x);
    ensure(rows.extent === batch * height * width, 'max_pool', 'x', `${batch * height * width} rows`, rows.extent);
    ensure(padding < kernel, 'max_pool', 'padding', `less than the kernel's ${kernel}`, padding);
    const [down, across] = pooledSize(given);
    ensure(down >= 1 && across >= 1, 'max_pool', 'kernel', 'a kernel that the padded image holds', kernel);
    // The last place has pixels of the image as well.
    for (const [extent, places] of [
      [height, down],
      [width, across],
    ] as const)
      ensure((places - 1) * given.stride - padding < extent, 'max_pool', 'stride', 'pixels under every place', given.stride);
    return [real([{ name: rows.name, extent: batch * down * across }, channels])];
  },
  flops: ({ kernel }, _, [y]) => kernel * kernel * y!.axes[0]!.extent * y!.axes[1]!.extent,
  error: (_, __, [x]) => x!,
});

/** The mean of each channel over the rows of each of `batch` images: [batch·t, c] → [batch, c]. */
export const meanRows = definePrimitive({
  id: 'mean_rows',
  params: z.strictObject({ batch: dimension }),
  anchor: false,
  operands: [{ role: 'x' }],
  infer({ batch }, [x]) {
    const [rows, channels] = matrixOf('mean_rows', 'x', x);
    ensure(rows.extent % batch === 0, 'mean_rows', 'x', `rows of ${batch} images`, rows.extent);
    return [real([{ name: rows.name, extent: batch }, channels])];
  },
  flops: (_, [x]) => x!.axes[0]!.extent * x!.axes[1]!.extent,
  // Summed in FP32, in any order: t numbers of one sign lose t·2⁻²⁴ of the mean at most, which is small beside its rounding to float16.
  error: ({ batch }, [x], [own]) => ({
    ...own!,
    terms: [...own!.terms, ['mean', (x!.axes[0]!.extent / batch) * 2 ** -24 + kHalfUnit]],
  }),
});

/** `count` channels from `first` on. */
export const channels = definePrimitive({
  id: 'channels',
  params: z.strictObject({ first: z.number().int().min(0), count: dimension }),
  anchor: false,
  operands: [{ role: 'x' }],
  infer({ first, count }, [x]) {
    const [rows, own] = matrixOf('channels', 'x', x);
    ensure(first + count <= own.extent, 'channels', 'count', `channels among ${own.extent}`, `${first} to ${first + count}`);
    return [real([rows, { name: own.name, extent: count }])];
  },
  flops: () => 0,
  error: (_, __, [x]) => x!,
});

/** Two matrices' channels by turns, which is a concatenation shuffled in two groups: y[m, 2·i] = x[m, i], y[m, 2·i + 1] = other[m, i]. */
export const interleave = definePrimitive({
  id: 'interleave',
  params: z.strictObject({}),
  anchor: false,
  operands: [{ role: 'x' }, { role: 'other' }],
  infer(_, [x, other]) {
    const [rows, own] = matrixOf('interleave', 'x', x);
    const [otherRows, others] = matrixOf('interleave', 'other', other);
    ensure(otherRows.extent === rows.extent, 'interleave', 'other', `${rows.extent} rows`, otherRows.extent);
    ensure(others.extent === own.extent, 'interleave', 'other', `${own.extent} channels`, others.extent);
    return [real([rows, { name: own.name, extent: 2 * own.extent }])];
  },
  flops: () => 0,
  error: (_, __, [x, other]) => ({
    terms: [...x!.terms, ...other!.terms],
    tails: Math.max(x!.tails, other!.tails),
  }),
});
