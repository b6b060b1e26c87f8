// Writes what layer_bench.cu runs: one CUDA file per chain of operators (a decoder layer, or a single odd shape) as the
// builder plans it, and cases.txt, which describes operators, launches and layouts.
// Usage: node bench/kernels/make-cases.mjs DIST OUT [name=REGEX] [tuning=JSON] [variant=SUFFIX] [define=A,B] [append] (DIST: compiled lib/)
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { resolve, join } from 'node:path';

const [dist, out, ...options] = process.argv.slice(2);
const option = (name) => options.find((text) => text.startsWith(`${name}=`))?.slice(name.length + 1);
const [{ programOfV1 }, { selectOrThrow }, { operatorArguments }, { layoutTarget }] = await Promise.all(
  ['artifact/upgrade', 'compiler/kernels/index', 'compiler/kernels/matmul/template', 'compiler/targets'].map(
    (name) => import(pathToFileURL(resolve(dist, `${name}.js`))),
  ),
);

const formats = {
  fp16: ['fp16', 'fp16', -1],
  int4: ['int4', 'fp16', -1],
  int4g128: ['int4', 'fp16', 128],
  int4g64: ['int4', 'fp16', 64],
  nf4: ['nf4', 'fp16', -1],
  nf4g128: ['nf4', 'fp16', 128],
  e5m2: ['fp8_e5m2', 'fp8_e5m2', -1],
  e4m3: ['fp8_e4m3', 'fp8_e4m3', -1],
  mxe5m2: ['mxfp8_e5m2', 'mxfp8_e5m2', 32],
  mxe4m3: ['mxfp8_e4m3', 'mxfp8_e4m3', 32],
  int1: ['int1', 'int8', -1],
};
const weights = ['fp16', 'int4', 'nf4', 'fp8_e5m2', 'fp8_e4m3', 'mxfp8_e5m2', 'mxfp8_e4m3', 'int1'];
const activations = ['fp16', 'fp8_e5m2', 'fp8_e4m3', 'mxfp8_e5m2', 'mxfp8_e4m3', 'int8'];
const norms = ['none', 'rms', 'layer'],
  functions = ['none', 'silu_mul', 'gelu_tanh'];

const models = {
  llama: {
    norm: 'rms',
    bias: false,
    heads: 64,
    kvHeads: 8,
    interleaved: 0,
    hidden: 8192,
    qkv: 10240,
    up: 57344,
    inner: 28672,
    function: 'silu_mul',
  },
  bloom: {
    norm: 'layer',
    bias: true,
    heads: 112,
    kvHeads: 112,
    interleaved: 1,
    hidden: 14336,
    qkv: 43008,
    up: 57344,
    inner: 57344,
    function: 'gelu_tanh',
  },
};

const filter = new RegExp(option('name') ?? '.');
const tuning = JSON.parse(option('tuning') ?? '{}');
const variant = option('variant') ?? '',
  defines = (option('define') ?? '').split(',').filter(Boolean);
if (!options.includes('append')) rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
const lines = [];

/** An operator as version 1 of checkpoint.json wrote it, in the order of the family that takes it: the family, its match, and both layouts. */
function stored(operator) {
  const inRows = (columns) => [
    { axis: 'n', stride: 1, size: operator.n },
    { axis: 'k', stride: 1, size: columns },
  ];
  const { group, k } = operator;
  const program = programOfV1({ ...operator, weightLayout: inRows(k), scaleLayout: group === -1 ? null : inRows(k / group) });
  const plain = { ...program, values: program.values.map(({ axes, type }) => ({ axes, type })) };
  const { family, match } = selectOrThrow(plain, layoutTarget);
  const { layout, scaleLayout } = family.storage(match).get(match.weight);
  return { family, match, weightLayout: layout.digits, scaleLayout: scaleLayout?.digits ?? null };
}

function chain(name, timed, m, build) {
  if (!filter.test(name)) return;
  name += variant;
  // Each product reads ahead of the next one, whose plan must be known: a first round only plans.
  const reads = [];
  round(name, m, build, [], (plan) => reads.push(plan.reads));
  const { includes, definitions, text } = round(name, m, build, reads, () => {});
  writeFileSync(
    join(out, `${name}.cu`),
    [
      ...defines.map((text) => `#define ${text.replace('=', ' ')}`),
      ...[...includes].sort().map((header) => `#include "${header}"`),
      ...definitions,
      '',
    ].join('\n'),
  );
  lines.push(`chain ${name} ${timed ? 1 : 0} ${m}`, ...text);
}

function round(name, m, build, reads, planned) {
  const includes = new Set(),
    definitions = [],
    text = [];
  let count = 0,
    products = 0;
  const ops = {
    attention(spec, from) {
      text.push(['attention', 'attention', m, spec.heads, spec.kvHeads, spec.interleaved, from].join(' '));
      return count++;
    },
    dense(short, shape, x, residual) {
      const [weight, activation, group] = formats[shape.format];
      let from = x,
        norm = { kind: shape.norm ?? 'none', eps: 1e-5 },
        input = 'fp16';
      if (m > 1 && (norm.kind !== 'none' || activation !== 'fp16')) {
        text.push(
          ['prepare', `${short}_prepare`, m, shape.k, norms.indexOf(norm.kind), 1e-5, activations.indexOf(activation), from].join(' '),
        );
        from = count++;
        norm = { kind: 'none', eps: 1e-5 };
        if (activation !== 'fp16') input = 'quantised';
      }
      const operator = {
        op: 'dense',
        m,
        n: shape.n,
        k: shape.k,
        weight,
        activation,
        group,
        input,
        norm,
        bias: shape.bias ?? false,
        function: shape.function ?? 'none',
        residual: residual !== null,
      };
      const alone = stored(operator);
      const next = alone.family.readAhead.wanted(alone.match) ? (reads[++products] ?? null) : null;
      const { family, match, weightLayout, scaleLayout } = next ? stored({ ...operator, prefetch: next.tiles * next.tileBytes }) : alone;
      const plan = family.plan(
        match,
        `${name.replace(/[^A-Za-z0-9]/g, '_')}__${short}`,
        { ...(tuning[short] ?? {}), ...(tuning.all ?? {}) },
        { target: layoutTarget, next },
      );
      planned(plan);
      plan.includes.forEach((header) => includes.add(header));
      definitions.push(plan.definitions);
      const launch = plan.launches[0];
      const { members } = operatorArguments(match);
      const layoutText = (digits) => [digits?.length ?? 0, ...(digits ?? []).flatMap((d) => [d.axis, d.stride, d.size])];
      text.push(
        [
          'dense',
          launch.name,
          m,
          operator.n,
          operator.k,
          weights.indexOf(weight),
          group,
          activations.indexOf(activation),
          input === 'quantised' ? 1 : 0,
          norms.indexOf(norm.kind),
          1e-5,
          operator.bias ? 1 : 0,
          functions.indexOf(operator.function),
          operator.residual ? 1 : 0,
          from,
          residual ?? -1,
          ...launch.grid,
          launch.block[0],
          launch.dynamicSharedBytes,
          members.length,
          ...members,
          ...layoutText(weightLayout),
          ...layoutText(scaleLayout),
        ].join(' '),
      );
      return count++;
    },
  };
  build(ops);
  return { includes, definitions, text };
}

for (const m of [1, 32]) {
  for (const [model, s] of Object.entries(models)) {
    for (const format of Object.keys(formats)) {
      chain(`${model}_${format}_bs${m}`, true, m, (ops) => {
        const qkv = ops.dense('qkv', { format, n: s.qkv, k: s.hidden, norm: s.norm, bias: s.bias }, -1, null);
        const o = ops.dense('o', { format, n: s.hidden, k: s.hidden, bias: s.bias }, ops.attention(s, qkv), -1);
        const up = ops.dense('up', { format, n: s.up, k: s.hidden, norm: s.norm, bias: s.bias, function: s.function }, o, null);
        ops.dense('down', { format, n: s.hidden, k: s.inner, bias: s.bias }, up, o);
      });
    }
  }
}
// Odd shapes: few tiles, one group along k, every token count class, all epilogues.
for (const format of Object.keys(formats)) {
  const k = format === 'int1' ? 256 : 128;
  for (const m of process.env.MS ? JSON.parse(process.env.MS) : [1, 2, 5, 8, 9, 16, 17, 31, 48, 64]) {
    chain(`odd_${format}_m${m}`, false, m, (ops) => {
      ops.dense('tiny', { format, n: 16, k, norm: m === 1 ? 'rms' : 'none' }, -1, null);
      ops.dense(
        'silu',
        {
          format,
          n: m > 1 && /int4|nf4|int1|mx/.test(format) ? 160 : 176,
          k: k * 5,
          function: 'silu_mul',
          norm: m === 1 ? 'layer' : 'none',
          bias: true,
        },
        -1,
        null,
      );
      ops.dense('gelu', { format, n: 2141, k: k * 11, function: 'gelu_tanh', bias: true }, -1, -1);
    });
  }
}
writeFileSync(join(out, 'cases.txt'), lines.join('\n') + '\n', options.includes('append') ? { flag: 'a' } : undefined);
console.log(`${lines.filter((line) => line.startsWith('chain')).length} chains in ${out}`);
