/**
 * Convolution over images whose pixels are the rows of a matrix, m = batch · height · width: y[(b, i, j), n] = Σ over ky, kx and the
 * channels of n's group of x[(b, i·stride + ky − paddingY, j·stride + kx − paddingX), c] · w[n, (ky, kx, c)], nothing where there is
 * no such pixel. n's group: output and input channels fall into `groups` equal stretches; groups = channels is a depthwise one. Along
 * one axis, as over frames, the other has an extent and a kernel of 1. Summed as products are (dense.ts).
 */
import { z } from 'zod';
import type { ConvParameters } from './conv-parameters.js';
import { decodeError, sumError } from './dense.js';
import { definePrimitive, dimension, ensure, matrixOf, real } from './primitive.js';

const padding = z.number().int().min(0).max(1024);

const params: z.ZodType<ConvParameters> = z.strictObject({
  batch: dimension,
  height: dimension,
  width: dimension,
  kernelY: dimension,
  kernelX: dimension,
  stride: dimension,
  paddingY: padding,
  paddingX: padding,
  groups: dimension,
});
/** Pixels that a kernel is put onto along an axis. */
function placesAlong(extent: number, kernel: number, stride: number, around: number): number {
  return Math.floor((extent + 2 * around - kernel) / stride) + 1;
}

/** Rows and columns of the image that comes of a convolution. */
export function convolvedSize({
  height,
  width,
  kernelY,
  kernelX,
  stride,
  paddingY,
  paddingX,
}: ConvParameters): readonly [height: number, width: number] {
  return [placesAlong(height, kernelY, stride, paddingY), placesAlong(width, kernelX, stride, paddingX)];
}

export const conv = definePrimitive({
  id: 'conv',
  anchor: true,
  params,
  operands: [{ role: 'x' }, { role: 'weight' }],
  infer(given, [x, weight]) {
    const { batch, height, width, kernelY, kernelX, groups } = given;
    const [rows, channels] = matrixOf('conv', 'x', x);
    const [n, k] = matrixOf('conv', 'weight', weight);
    ensure(n.name === 'n' && k.name === 'k', 'conv', 'weight', 'axes n, k', `${n.name}, ${k.name}`);
    ensure(rows.extent === batch * height * width, 'conv', 'x', `${batch * height * width} rows`, rows.extent);
    ensure(channels.extent % groups === 0, 'conv', 'groups', `a divisor of ${channels.extent} channels`, groups);
    ensure(n.extent % groups === 0, 'conv', 'groups', `a divisor of ${n.extent} output channels`, groups);
    const taps = (kernelY * kernelX * channels.extent) / groups;
    ensure(k.extent === taps, 'conv', 'k', `${taps}, kernel times channels of a group,`, k.extent);
    const [down, across] = convolvedSize(given);
    ensure(down >= 1 && across >= 1, 'conv', 'kernelY', 'a kernel that the padded image holds', `${kernelY} × ${kernelX}`);
    return [
      real([
        { name: rows.name, extent: batch * down * across },
        { name: channels.name, extent: n.extent },
      ]),
    ];
  },
  flops: (_, [, weight], [y]) => 2 * y!.axes[0]!.extent * weight!.axes[0]!.extent * weight!.axes[1]!.extent,
  error: (_, [x, weight], [own]) => ({
    ...own!,
    terms: [['sum', sumError(x!, weight!.axes[1]!.extent)], ...own!.terms, ...decodeError(weight!, x!)],
  }),
});
