/**
 * What turns an image into tokens and tokens into one row per image (Dosovitskiy et al. 2021). All move numbers as they are, rows
 * of tokens being the axis that products have: m = images · tokens.
 */
import { z } from 'zod';
import { definePrimitive, dimension, ensure, ensureVector, kNoError, matrixOf, real } from './primitive.js';
import type { Axis } from './program.js';

/**
 * The size × size squares of an image [b, c, y, x], a row each: [b·(y/size)·(x/size), c·size·size], a row's numbers in the order of
 * (channel, y, x), as a convolution's weights [n, c, size, size] are when they are read as a matrix.
 */
export const patches = definePrimitive({
  id: 'patches',
  params: z.strictObject({ size: dimension }),
  anchor: false,
  operands: [{ role: 'image' }],
  infer({ size }, [image]) {
    const axes = image?.axes ?? [];
    ensure(axes.length === 4, 'patches', 'image', 'four axes', axes.map(({ name }) => name).join(', ') || 'none');
    const [batch, channels, height, width] = axes as [Axis, Axis, Axis, Axis];
    for (const { name, extent } of [height, width])
      ensure(extent % size === 0, 'patches', name, `a multiple of the patches' ${size}`, extent);
    return [
      real([
        { name: 'm', extent: batch.extent * (height.extent / size) * (width.extent / size) },
        { name: 'c', extent: channels.extent * size * size },
      ]),
    ];
  },
  flops: () => 0,
  error: (_, __, [image]) => image!,
});

/**
 * Puts one more token before the patches of each of `batch` images, and adds the positions:
 * y[i·(t + 1) + j] = (j = 0 ? token : x[i·t + j − 1]) + positions[j], x [batch·t, c], positions [t + 1, c].
 */
export const embedTokens = definePrimitive({
  id: 'embed_tokens',
  params: z.strictObject({ batch: dimension }),
  anchor: false,
  operands: [{ role: 'x' }, { role: 'token' }, { role: 'positions' }],
  infer({ batch }, [x, token, positions]) {
    const [rows, columns] = matrixOf('embed_tokens', 'x', x);
    ensure(rows.extent % batch === 0, 'embed_tokens', 'x', `rows of ${batch} images`, rows.extent);
    ensureVector('embed_tokens', 'token', token, columns.extent);
    const tokens = rows.extent / batch + 1;
    const [own, channels] = matrixOf('embed_tokens', 'positions', positions);
    ensure(own.extent === tokens, 'embed_tokens', 'positions', `${tokens} rows`, own.extent);
    ensure(channels.extent === columns.extent, 'embed_tokens', 'positions', `${columns.extent} columns`, channels.extent);
    return [real([{ name: rows.name, extent: batch * tokens }, columns])];
  },
  flops: (_, __, [y]) => y!.axes.reduce((product, { extent }) => product * extent, 1),
  error: (_, __, [x]) => x ?? kNoError,
});

/** The first row of each of `batch` images: [batch·t, c] → [batch, c]. */
export const firstRows = definePrimitive({
  id: 'first_rows',
  params: z.strictObject({ batch: dimension }),
  anchor: false,
  operands: [{ role: 'x' }],
  infer({ batch }, [x]) {
    const [rows, columns] = matrixOf('first_rows', 'x', x);
    ensure(rows.extent % batch === 0, 'first_rows', 'x', `rows of ${batch} images`, rows.extent);
    return [real([{ name: rows.name, extent: batch }, columns])];
  },
  flops: () => 0,
  error: (_, __, [x]) => x!,
});
