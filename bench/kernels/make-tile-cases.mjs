// Writes what tile_bench.cu runs: CUDA files with the kernels of matmul/tile for the products of the networks, and cases.txt, which
// describes them. Usage: node bench/kernels/make-tile-cases.mjs DIST OUT [name=REGEX] [tunings=A,B] [small] [files=N]
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const [dist, out, ...options] = process.argv.slice(2);
const option = (name) => options.find((text) => text.startsWith(`${name}=`))?.slice(name.length + 1);
const { tileKernel, tileMisfit, tilesOf, panelsOf } = await import(pathToFileURL(resolve(dist, 'compiler/kernels/matmul/tile-kernel.js')));

const { stemKernel, stemSizes } = await import(pathToFileURL(resolve(dist, 'compiler/kernels/matmul/stem-kernel.js')));

const posts = {
  none: ['value', 0],
  relu: ['fmaxf(value, 0.0f)', 0],
  silu: ['__fdividef(value, 1.0f + __expf(-value))', 0],
  gelu: ['0.5f * value * (1.0f + ladder::erfNear(value * 0.70710678f))', 0],
  residual: ['value + residual', 1],
  residualRelu: ['fmaxf(value + residual, 0.0f)', 1],
  glu: ['__fdividef(value, 1.0f + __expf(-paired))', 0],
};
const postNames = Object.keys(posts);
const formats = {
  fp16: ['fp16', 'fp16'],
  e5m2: ['fp8_e5m2', 'fp8_e5m2'],
  e4m3: ['fp8_e4m3', 'fp8_e4m3'],
  mxe5m2: ['mxfp8_e5m2', 'mxfp8_e5m2'],
  mxe4m3: ['mxfp8_e4m3', 'mxfp8_e4m3'],
  int4a8: ['int4', 'int8'],
  int4a4: ['int4', 'int4'],
  int1a4: ['int1', 'int4'],
};
const formatNames = Object.keys(formats);

const place = { height: 1, width: 1, kernelY: 1, kernelX: 1, strideY: 1, strideX: 1, paddingY: 0, paddingX: 0, outHeight: 1, outWidth: 1 };
/** A dense product. */
const dense = (name, m, n, k, post, count = 1) => ({ name, count, post, shape: { ...place, images: m, channels: k, n } });
/** A square convolution with the padding that keeps its middle. */
const conv = (name, images, size, channels, n, kernel, stride, post, count = 1) => {
  const padding = Math.floor(kernel / 2),
    after = Math.floor((size + 2 * padding - kernel) / stride) + 1;
  const both = (key, value) => ({ [`${key}Y`]: value, [`${key}X`]: value });
  // A convolution of 1 × 1 and stride 1 is a dense product.
  if (kernel === 1 && stride === 1) return dense(name, images * size * size, n, channels, post, count);
  return {
    name,
    count,
    post,
    shape: {
      images,
      height: size,
      width: size,
      channels,
      n,
      ...both('kernel', kernel),
      ...both('stride', stride),
      ...both('padding', padding),
      outHeight: after,
      outWidth: after,
    },
  };
};

const networks = {
  resnet(b) {
    const stages = [
      [64, 56, 3, 64],
      [128, 28, 4, 256],
      [256, 14, 6, 512],
      [512, 7, 3, 1024],
    ];
    return [
      conv('stem', b, 224, 3, 64, 7, 2, 'relu'),
      ...stages.flatMap(([c, size, blocks, from], i) => {
        const stride = i === 0 ? 1 : 2,
          before = size * stride,
          s = `res${i + 2}`;
        return [
          conv(`${s}_c1a`, b, before, from, c, 1, 1, 'relu'),
          conv(`${s}_c1`, b, size, 4 * c, c, 1, 1, 'relu', blocks - 1),
          ...(stride === 2 ? [conv(`${s}_c2a`, b, before, c, c, 3, 2, 'relu')] : []),
          conv(`${s}_c2`, b, size, c, c, 3, 1, 'relu', stride === 2 ? blocks - 1 : blocks),
          conv(`${s}_c3`, b, size, c, 4 * c, 1, 1, 'residualRelu', blocks),
          conv(`${s}_ds`, b, before, from, 4 * c, 1, stride, 'none'),
        ];
      }),
      dense('fc', b, 1000, 2048, 'none'),
    ];
  },
  vit(b) {
    const m = 50 * b;
    return [
      dense('qkv', m, 1152, 384, 'none', 12),
      dense('proj', m, 384, 384, 'residual', 12),
      dense('fc1', m, 1536, 384, 'gelu', 12),
      dense('fc2', m, 384, 1536, 'residual', 12),
    ];
  },
  conformer(b) {
    const m = 512 * b;
    return [
      dense('ff1', m, 512, 512, 'silu', 24),
      dense('ff2', m, 512, 512, 'residual', 48),
      dense('qkv', m, 1536, 512, 'none', 12),
      dense('pw1', m, 1024, 512, 'glu', 12),
    ];
  },
  shufflenet(b) {
    return [
      conv('stem', b, 224, 3, 24, 3, 2, 'relu'),
      dense('s2_in', b * 56 * 56, 58, 24, 'relu', 1),
      dense('s2', b * 28 * 28, 58, 58, 'relu', 8),
      dense('s3_in', b * 28 * 28, 116, 116, 'relu', 1),
      dense('s3', b * 14 * 14, 116, 116, 'relu', 16),
      dense('s4', b * 7 * 7, 232, 232, 'relu', 8),
      dense('last', b * 49, 1024, 464, 'relu', 1),
      dense('fc', b, 1000, 1024, 'none', 1),
    ];
  },
};
const networkFormats = {
  resnet: ['fp16', 'e5m2', 'mxe5m2', 'int1a4'],
  vit: ['fp16', 'e5m2', 'int4a4'],
  conformer: ['fp16', 'int4a8'],
  shufflenet: ['fp16', 'e5m2'],
};

/** Odd shapes: ends of tiles, of panels, of chunks; every copy's unit; every step. */
const small = [
  dense('odd', 77, 40, 72, 'residualRelu'),
  dense('n1000', 130, 1000, 256, 'none'),
  dense('c58', 200, 58, 58, 'relu'),
  dense('c116', 200, 116, 116, 'residual'),
  dense('c24', 300, 24, 24, 'none'),
  dense('n13', 65, 13, 96, 'gelu'),
  dense('glu', 200, 96, 160, 'glu'),
  dense('long', 50, 64, 1536, 'silu'),
  conv('c3x3', 2, 14, 64, 72, 3, 1, 'residualRelu'),
  conv('s2x3', 3, 15, 96, 64, 3, 2, 'relu'),
  conv('c1s2', 2, 14, 128, 64, 1, 2, 'none'),
  conv('c32', 2, 9, 32, 40, 3, 1, 'relu'),
  conv('c8', 2, 9, 8, 40, 5, 1, 'relu'),
  conv('stem7', 2, 32, 3, 64, 7, 2, 'relu'),
  conv('stem3', 2, 33, 3, 24, 3, 2, 'relu'),
];

const t = (rows, outputs, warpRows, warpOutputs, stages, resident, split = 1) => ({
  rows,
  outputs,
  warpRows,
  warpOutputs,
  stages,
  resident,
  split,
  wgmma: 0,
});
/** By wgmma. */
const w = (rows, outputs, stages, resident, split = 1) => ({
  rows,
  outputs,
  warpRows: 16,
  warpOutputs: outputs,
  stages,
  resident,
  split,
  wgmma: 1,
});
const presets = {
  a: t(128, 128, 64, 64, 3, 2),
  g: t(128, 128, 64, 32, 3, 2),
  b: t(128, 64, 32, 64, 4, 2),
  b3: t(128, 64, 32, 64, 2, 3),
  c: t(64, 64, 32, 32, 4, 3),
  d: t(256, 128, 64, 64, 4, 1),
  e: t(128, 256, 64, 64, 4, 1),
  f: t(64, 128, 32, 64, 4, 2),
  x: t(128, 128, 32, 64, 3, 2),
  m: t(128, 128, 32, 64, 3, 1),
  A: w(128, 128, 3, 2),
  B: w(128, 64, 4, 2),
  P: w(128, 128, 2, 2),
  B3: w(128, 64, 2, 3),
  C: w(64, 128, 4, 2),
  D: w(64, 64, 4, 3),
  E: w(128, 256, 4, 1),
  F: w(256, 128, 4, 1),
  G: w(256, 64, 4, 1),
  H: w(64, 256, 2, 2),
  I: w(128, 128, 5, 1),
  J: w(192, 128, 4, 1),
  Dd: w(64, 64, 12, 1),
  R1d: w(64, 32, 16, 1),
  R1m: w(64, 32, 8, 2),
  R2d: w(64, 32, 16, 1, 2),
  R4d: w(64, 32, 16, 1, 4),
  R8d: w(64, 32, 16, 1, 8),
  S2d: w(64, 64, 13, 1, 2),
  S4d: w(64, 64, 13, 1, 4),
  S8d: w(64, 64, 13, 1, 8),
  T2d: w(64, 128, 8, 1, 2),
  T4d: w(64, 128, 8, 1, 4),
  S2: w(64, 64, 4, 2, 2),
  S4: w(64, 64, 4, 2, 4),
  S8: w(64, 64, 4, 2, 8),
  R2: w(64, 32, 4, 2, 2),
  R4: w(64, 32, 4, 2, 4),
  R1: w(64, 32, 4, 4),
  s2: t(64, 64, 32, 32, 4, 2, 2),
  s4: t(64, 64, 32, 32, 4, 2, 4),
  s8: t(64, 64, 32, 32, 3, 2, 8),
  q4: t(64, 128, 32, 64, 4, 1, 4),
  q8: t(64, 128, 32, 64, 3, 1, 8),
  p4: t(128, 128, 64, 32, 3, 1, 4),
  o: t(32, 64, 16, 32, 4, 3),
  o4: t(32, 64, 16, 32, 4, 3, 4),
};

const filter = new RegExp(option('name') ?? '.');
const chosen = (option('tunings') ?? ['stem', ...Object.keys(presets)].join(',')).split(',');
const cases = [];
function add(label, format, { post, shape, count }, network) {
  const [weight, activation] = formats[format];
  const [apply, residual] = posts[post];
  const mx = weight.startsWith('mx');
  if (mx && shape.channels % 32 !== 0) return;
  const full = {
    ...shape,
    weight,
    activation,
    bias: true,
    residual: residual === 1,
    pairs: post === 'glu',
    steps: [apply],
    halves: true,
    codes: null,
    xScale: weight === 'fp16' || mx ? 'none' : shape.kernelX === 1 && network !== 'resnet' ? 'row' : 'one',
  };
  const stem = chosen.includes('stem') ? stemSizes(full) : null;
  if (stem && filter.test(`${label}_${format}_stem`)) cases.push({ name: `${label}_${format}_stem`, full, post, format, stem, count });
  for (const id of chosen.filter((one) => one !== 'stem')) {
    // No more stages than panels.
    const tuning = { ...presets[id], stages: Math.max(2, Math.min(presets[id].stages, Math.ceil(panelsOf(full) / presets[id].split) + 1)) };
    const name = `${label}_${format}_${id}`;
    if (!filter.test(name)) continue;
    if (tileMisfit(full, tuning) !== null) continue;
    if (options.includes('sensible')) {
      const tiles = tilesOf(full, tuning);
      if (tuning.split > 1 ? tiles * tuning.split > 264 || tiles >= 132 : tiles < 66 && panelsOf(full) > 2) continue;
      if (tuning.outputs > 64 && tuning.outputs >= 2 * full.n) continue;
    }
    cases.push({ name, full, post, format, tuning, count, id });
  }
}
if (options.includes('small')) {
  for (const format of formatNames) for (const one of small) add(`small_${one.name}`, format, one, 'small');
} else {
  for (const [network, layers] of Object.entries(networks))
    for (const format of networkFormats[network])
      for (const b of [1, 128])
        for (const layer of layers(b)) {
          const isFp16 = layer.name === 'stem' || layer.name === 'fc';
          if (isFp16 && format !== 'fp16') continue;
          add(`${network}_b${b}_${layer.name}`, format, layer, network);
        }
}

rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
const files = Math.max(1, Math.min(Number(option('files') ?? 8), Math.ceil(cases.length / 4)));
const texts = Array.from({ length: files }, () => [
  '#include "matmul/tile/tile.cuh"\n#include "matmul/tile/tile_groups.cuh"\n#include "matmul/tile/stem.cuh"',
]);
const lines = [];
cases.forEach(({ name, full, post, format, tuning, stem, count }, i) => {
  const { text, blocks, threads, sharedBytes } = stem ? stemKernel(full, name, stem, 132) : tileKernel(full, name, tuning, 132);
  texts[i % files].push(text);
  const s = full;
  lines.push(
    [
      name,
      i % files,
      blocks,
      threads,
      sharedBytes,
      stem ? 1 : 0,
      count,
      s.images,
      s.height,
      s.width,
      s.channels,
      s.kernelY,
      s.kernelX,
      s.strideY,
      s.strideX,
      s.paddingY,
      s.paddingX,
      s.outHeight,
      s.outWidth,
      s.n,
      formatNames.indexOf(format),
      ['none', 'row', 'one'].indexOf(s.xScale),
      postNames.indexOf(post),
    ].join(' '),
  );
});
texts.forEach((text, i) => writeFileSync(join(out, `tiles${i}.cu`), `${text.join('\n\n')}\n`));
writeFileSync(join(out, 'cases.txt'), `${lines.join('\n')}\n`);
console.log(`${cases.length} kernels in ${files} files`);
