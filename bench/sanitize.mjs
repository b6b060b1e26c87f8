// compute-sanitizer over every kernel that the builder instantiates: a small checkpoint of each weight format, model and
// batch is built, all in parallel, and run under each tool, each in a process of its own: one pass over its operators, since a
// tool says nothing new of a kernel's second launch. Numbers are `ladder verify`'s business; --verify has it done here as well, in
// four launches of each kernel.
// One line per tool and checkpoint; a JSON summary; exit 0 when all are clean, 1 when one is not (or none could be told),
// 2 for a wrong command line or a machine without the tool. Nothing a tool reports is filtered.
//
// Usage: node bench/sanitize.mjs [--out FILE] [--tools memcheck,racecheck,initcheck,synccheck] [--formats int4,nf4,…]
//   [--models llama2-tiny,…,conformer-tiny] [--batches 1,32] [--network-batches 1,128] [--arch sm_90a] [--total-s 480] [--each-s 60]
//   [--jobs 4] [--verify]
//   [--folder DIR] keeps the checkpoints there, and builds only what is not there or is stale; [--build-only]
//   [--prefer matmul/wide] asks a family of kernels before all others: small products of many tokens are matmul/tile's otherwise
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = fileURLToPath(new URL('..', import.meta.url));
const cli = join(root, 'dist', 'cli', 'main.js');
/** What compute-sanitizer exits with when it found something; `ladder` has no such status. */
const kErrorExit = 9;
const kTools = ['memcheck', 'racecheck', 'initcheck', 'synccheck'];
const kFormats = {
  fp16: { weight: 'fp16' },
  int4: { weight: 'int4' },
  int4g128: { weight: 'int4', group: 128 },
  nf4: { weight: 'nf4' },
  e5m2: { weight: 'fp8', format: 'e5m2' },
  e4m3: { weight: 'fp8', format: 'e4m3' },
  mxfp8: { weight: 'mxfp8' },
  int1: { weight: 'int1' },
  // Only the kernels for any format take these.
  int8: { weight: 'int8' },
  int4i8: { weight: 'int4', act: 'int8' },
  int4i4: { weight: 'int4', act: 'int4' },
  int1i4: { weight: 'int1', act: 'int4' },
};
/** Of decoder layers, all but what only networks have kernels for. */
const kLayerFormats = Object.keys(kFormats).filter((format) => !['int4i4', 'int1i4'].includes(format));
/** Small models, and their formats: those that Figure 8 has of the networks. */
const kModels = {
  'llama2-tiny': kLayerFormats,
  'bloom-tiny': kLayerFormats,
  'resnet-tiny': ['fp16', 'e5m2', 'mxfp8', 'int1i4'],
  'shufflenet-tiny': ['fp16', 'e5m2'],
  'vit-tiny': ['fp16', 'e5m2', 'int4i4'],
  'conformer-tiny': ['fp16', 'int4i8', 'int4i4'],
};
const isLayer = (model) => kModels[model] === kLayerFormats;
const kShownLines = 8;

function fail(message) {
  process.stderr.write(`sanitize: ${message}\n`);
  process.exit(2);
}

/** What options are when nothing is said. */
export const kDefaults = {
  tools: kTools.join(','),
  formats: Object.keys(kFormats).join(','),
  models: Object.keys(kModels).join(','),
  batches: '1,32',
  'network-batches': '1,128',
  arch: 'sm_90a',
  'total-s': '480',
  'each-s': '60',
  jobs: '4',
};

function readOptions() {
  let values;
  try {
    ({ values } = parseArgs({
      options: {
        ...Object.fromEntries(Object.entries(kDefaults).map(([name, value]) => [name, { type: 'string', default: value }])),
        out: { type: 'string' },
        folder: { type: 'string' },
        verify: { type: 'boolean', default: false },
        'build-only': { type: 'boolean', default: false },
        prefer: { type: 'string' },
        // What the processes under the tool are: one pass over a checkpoint's operators.
        pass: { type: 'string' },
        device: { type: 'string' },
      },
    }));
  } catch (error) {
    fail(error.message);
  }
  const list = (name, allowed) => {
    const items = values[name].split(',').filter(Boolean);
    const odd = items.find((item) => allowed && !allowed.includes(item));
    if (odd !== undefined || items.length === 0)
      fail(`expected some of ${allowed?.join(', ') ?? 'what it lists'} for --${name} but received ${JSON.stringify(odd ?? values[name])}`);
    return items;
  };
  const number = (name, text = values[name]) =>
    /^[1-9][0-9]{0,5}$/.test(text)
      ? Number(text)
      : fail(`expected a positive whole number for --${name} but received ${JSON.stringify(text)}`);
  return {
    tools: list('tools', kTools),
    formats: list('formats', Object.keys(kFormats)),
    models: list('models', Object.keys(kModels)),
    batches: list('batches').map((text) => number('batches', text)),
    networkBatches: list('network-batches').map((text) => number('network-batches', text)),
    arch: values.arch,
    totalMs: 1000 * number('total-s'),
    eachMs: 1000 * number('each-s'),
    jobs: number('jobs'),
    out: values.out,
    folder: values.folder && resolve(values.folder),
    verify: values.verify,
    buildOnly: values['build-only'],
    prefer: values.prefer,
    pass: values.pass,
    device: values.device,
  };
}

/** Kernels that are the default where there is work for every multiprocessor, by family: the small network that has them runs with them, too. */
export const kChoices = {
  model: 'conformer-tiny',
  parameters: { 'attention/rows': { groups: 4, keys: 64, resident: 1 }, 'conv/depthwise': { banded: 1 } },
};

/** The small checkpoints that are run: names, and the words of their requests. */
export function checkpointsOf({ formats, models, batches, networkBatches }) {
  // Several tokens per sequence go through another attention kernel; more than 64, through that in tiles.
  const lengths =
    formats.includes('fp16') && batches.some((batch) => batch > 1)
      ? [
          { batch: 4, seq: 8 },
          { batch: 1, seq: 65 },
          { batch: 2, seq: 133, mask: 'causal' },
        ]
      : [];
  const longer = models.filter(isLayer).flatMap((model) =>
    lengths.map((words) => ({
      name: `${model} fp16 m${words.batch * words.seq} seq${words.seq}${words.mask ? ` ${words.mask}` : ''}`,
      words: { model, ...words, ...kFormats.fp16 },
    })),
  );
  return [
    ...formats.flatMap((format) =>
      models
        .filter((model) => kModels[model].includes(format))
        .flatMap((model) =>
          (isLayer(model) ? batches : networkBatches).map((batch) => ({
            name: `${model} ${format} m${batch}`,
            words: { model, batch, seq: 1, ...kFormats[format] },
          })),
        ),
    ),
    ...longer,
  ];
}

/** Builds every checkpoint that is asked for below `folder`. */
async function build({ formats, models, batches, networkBatches, arch, prefer }, folder) {
  const load = (path) => import(new URL(`../dist/${path}`, import.meta.url));
  const [{ buildCheckpoints }, { parseRequest }, { buildTargets, layoutTarget }, { designCheckpoint }, { tuningKey }, { families }] =
    await Promise.all(['build', 'request', 'targets', 'design', 'tune/tuned', 'kernels/index'].map((name) => load(`compiler/${name}.js`)));
  if (prefer !== undefined) families.prefer(prefer);
  const cases = checkpointsOf({ formats, models, batches, networkBatches });
  // Products of many tokens share k among clusters of blocks here, and their stages all fit the ring. Without clusters they end in
  // other code, as large ones do, and two short stages are refilled; MX has steps of two units.
  const isTuned = ({ family, match }) => family.configurations(match, layoutTarget).length > 1;
  const several = cases
    .filter(({ words }) => isLayer(words.model) && words.batch > 1 && words.seq === 1)
    .map(({ name, words }) => ({ name: `${name} cluster 1`, words }));
  const alone = several.filter(({ words }) => designCheckpoint(parseRequest(words), null).model.operators.some(isTuned));
  // Wide products of FP8 hold two stages at once.
  const clusterless = ({ weight, batch }) => ({
    cluster: 1,
    warpsK: 2,
    groupsN: 1,
    groupsK: 2,
    stageUnits: weight === 'mxfp8' ? 4 : 2,
    stages: weight === 'fp8' && batch > 64 ? 3 : 2,
  });
  const chosen = cases
    .filter(({ words }) => words.model === kChoices.model && words.weight === 'fp16')
    .map(({ name, words }) => ({ name: `${name} choices`, words }));
  /** Below a folder of their own, as if tuned to what `parametersOf` says of an operator, if anything. */
  const writeTuned = async (root, words, parametersOf) => {
    const { name, model } = designCheckpoint(parseRequest(words), null);
    const operators = Object.fromEntries(
      model.operators
        .map((operator) => [tuningKey(operator), parametersOf(operator)])
        .filter(([, parameters]) => parameters !== undefined)
        .map(([key, parameters]) => [key, { parameters, latencyMs: 1, defaultLatencyMs: 1, candidates: 1 }]),
    );
    const path = join(root, words.model, name, 'tuned', `${arch}.json`);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, JSON.stringify({ schema: 'ladder-tuned/2', arch, gpu: 'any', date: '', commit: '', seconds: 0, operators }));
  };
  const roots = { alone: join(folder, 'alone'), chosen: join(folder, 'choices') };
  for (const { words } of alone) await writeTuned(roots.alone, words, (operator) => (isTuned(operator) ? clusterless(words) : undefined));
  for (const { words } of chosen) await writeTuned(roots.chosen, words, ({ family }) => kChoices.parameters[family.id]);
  const targets = [buildTargets.some(({ id }) => id === arch) ? arch : 'compute_80'];
  let shown = -1;
  const onProgress = (fraction, label) => {
    const tenth = Math.floor(10 * fraction);
    if (tenth !== shown) process.stderr.write(`${label} (${Math.round(100 * fraction)} %)\n`);
    shown = tenth;
  };
  const parts = [
    { root: folder, list: cases },
    { root: roots.alone, list: alone },
    { root: roots.chosen, list: chosen },
  ].filter(({ list }) => list.length > 0);
  const checkpoints = await Promise.all(
    parts.map(async ({ root, list }) => {
      const built = await buildCheckpoints(
        list.map(({ words }) => parseRequest(words)),
        { root, arch, compile: true, targets, onProgress },
      );
      return list.map(({ name }, i) => ({ name, folder: built[i].folder }));
    }),
  );
  return checkpoints.flat();
}

/** One pass over the operators of a checkpoint that is built: a first run goes from one to the next, each to its end. */
async function pass(folder, device) {
  const { loadPrebuilt } = await import(new URL('../dist/index.js', import.meta.url));
  try {
    const layer = await loadPrebuilt(folder, { device, build: false });
    await layer.run();
    await layer.dispose();
  } catch (error) {
    process.stderr.write(`sanitize: ${error.message} [${error.code}]\n`);
    process.exitCode = 1;
  }
}

/** How to end what runs, should this process end first. */
const running = new Set();
process.once('exit', () => running.forEach((kill) => kill()));

/** Runs a program in a process group of its own until it ends or `limitMs` is over. */
function run(program, args, limitMs) {
  return new Promise((resolve) => {
    const child = spawn(program, args, { detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    let timedOut = false;
    const kill = () => {
      try {
        process.kill(-child.pid, 'SIGKILL');
      } catch {
        // It has ended.
      }
    };
    const timer = setTimeout(() => {
      timedOut = true;
      kill();
    }, limitMs);
    running.add(kill);
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk) => {
        if (output.length < 1 << 24) output += chunk;
      });
    const done = (status) => {
      clearTimeout(timer);
      running.delete(kill);
      resolve({ status, output, timedOut });
    };
    child.once('error', (error) => {
      output += error.message;
      done(null);
    });
    child.once('close', done);
  });
}

/** What one run of a tool says: `ok`, or why not, how many errors, and the first of them. */
export function judge({ status, output, timedOut }, limitMs) {
  const lines = output
    .split('\n')
    .filter((line) => line.startsWith('========='))
    .map((line) => line.slice(9).trim());
  const summary = lines.find((line) => /(ERROR|RACECHECK) SUMMARY:/.test(line));
  // racecheck: "RACECHECK SUMMARY: 2 hazards displayed (1 error, 1 warning)"; the others: "ERROR SUMMARY: 2 errors".
  const errors = summary === undefined ? null : Number(/SUMMARY: (\d+)/.exec(summary)[1]);
  const first = lines.filter((line) => line !== '' && line !== 'COMPUTE-SANITIZER' && line !== summary).slice(0, kShownLines);
  const tail = output
    .trim()
    .split('\n')
    .filter((line) => !line.startsWith('========='))
    .slice(-3);
  const not = (reason, shown) => ({ status: 'failed', reason, errors, lines: shown });
  if (timedOut) return not(`took longer than ${Math.round(limitMs / 1000)} s`, first);
  if (errors > 0 || status === kErrorExit) return not(`${errors ?? 'some'} error(s)`, first);
  if (summary === undefined) return not('the tool gave no summary: nothing was checked', first.length > 0 ? first : tail);
  if (/terminated before first instrumented API call|Unable to find injection library/.test(output))
    return not('the tool was not attached to the device', first);
  if (status === 3) return not('the checkpoint does not verify', tail);
  if (status !== 0) return not(`the run exited with status ${status}`, tail);
  return { status: 'ok', reason: null, errors, lines: [] };
}

async function main() {
  const started = performance.now();
  const options = readOptions();
  if (!existsSync(cli)) fail('dist/ is not there: run `node bench/setup.mjs` first');
  if (options.pass !== undefined) return pass(options.pass, options.device);
  const load = (path) => import(new URL(`../dist/${path}`, import.meta.url));
  const [{ findProgram, writeWhole }, { listDevices }, { packageCommit }, { cudaHomes }] = await Promise.all([
    load('files.js'),
    load('index.js'),
    load('run/package.js'),
    load('compiler/emit/compile.js'),
  ]);
  const tool = findProgram(
    'compute-sanitizer',
    cudaHomes().flatMap((home) => [join(home, 'bin'), join(home, 'compute-sanitizer')]),
  );
  const gpu = listDevices().find(({ kind }) => kind === 'cuda');
  if (!options.buildOnly && tool === null)
    fail(
      'compute-sanitizer was not found on the PATH, below CUDA_HOME or in /usr/local/cuda; install it with the CUDA toolkit (package cuda-sanitizer)',
    );
  if (!options.buildOnly && gpu === undefined) fail('there is no GPU; --build-only builds the checkpoints all the same');

  const folder = options.folder ?? (await mkdtemp(join(tmpdir(), 'ladder-sanitize-')));
  const results = [];
  try {
    const checkpoints = await build(options, folder);
    const buildMs = performance.now() - started;
    process.stdout.write(`${checkpoints.length} checkpoints built in ${(buildMs / 1000).toFixed(0)} s\n`);
    if (options.buildOnly) return;
    const queue = options.tools.flatMap((name) => checkpoints.map((checkpoint) => ({ tool: name, checkpoint })));
    const work = async () => {
      for (let job = queue.shift(); job; job = queue.shift()) {
        const leftMs = options.totalMs - (performance.now() - started),
          limitMs = Math.min(options.eachMs, leftMs);
        const name = `${job.tool.padEnd(9)}  ${job.checkpoint.name.padEnd(34)}`;
        const notRun = {
          tool: job.tool,
          checkpoint: job.checkpoint.name,
          status: 'not run',
          reason: 'the total time was over',
          errors: null,
          lines: [],
          seconds: 0,
          limitSeconds: Math.max(0, Math.floor(limitMs / 1000)),
        };
        if (limitMs < 1000) {
          results.push(notRun);
          continue;
        }
        const begun = performance.now();
        const { folder: at } = job.checkpoint;
        const work = options.verify ? [cli, 'verify', at, '--no-build'] : [process.argv[1], '--pass', at];
        const toolArguments = ['--tool', job.tool, '--error-exitcode', String(kErrorExit)];
        const ran = await run(tool, [...toolArguments, process.execPath, ...work, '--device', gpu.id], limitMs);
        const seconds = (performance.now() - begun) / 1000;
        if (ran.timedOut && limitMs === leftMs) {
          results.push(notRun);
          continue;
        }
        const verdict = judge(ran, limitMs);
        results.push({ ...notRun, ...verdict, seconds: Number(seconds.toFixed(1)) });
        process.stdout.write(
          `${name}  ${verdict.status === 'ok' ? 'ok' : `FAILED: ${verdict.reason}`}  (${seconds.toFixed(1)} s of at most ${notRun.limitSeconds})\n${verdict.lines.map((line) => `    ${line}\n`).join('')}`,
        );
      }
    };
    await Promise.all(Array.from({ length: options.jobs }, work));
    const count = (status) => results.filter((result) => result.status === status).length;
    const totalSeconds = (performance.now() - started) / 1000;
    process.stdout.write(
      `${count('ok')} ok, ${count('failed')} failed, ${count('not run')} not run, on ${gpu.name}, in ${totalSeconds.toFixed(0)} s\n`,
    );
    if (options.out !== undefined) {
      const summary = {
        schema: 'ladder-sanitize/1',
        gpu: gpu.name,
        arch: options.arch,
        date: new Date().toISOString(),
        commit: packageCommit(),
        buildSeconds: Number((buildMs / 1000).toFixed(1)),
        totalSeconds: Number(totalSeconds.toFixed(1)),
        verified: options.verify,
        jobs: options.jobs,
        results,
      };
      await writeWhole(options.out, `${JSON.stringify(summary, null, 1)}\n`);
    }
    if (count('ok') < results.length) process.exitCode = 1;
  } finally {
    if (options.folder === undefined) await rm(folder, { recursive: true, force: true });
  }
}

if (process.argv[1] !== undefined && basename(process.argv[1]) === 'sanitize.mjs') await main();
