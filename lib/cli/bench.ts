/**
 * `ladder bench`: every checkpoint in its own process, records written as they come, a table at the end. What follows the
 * table (the other systems, comparison, Figure 8) is bench-end.ts's.
 */
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { runnableSystems } from '../baselines/systems/index.js';
import { LadderError } from '../errors.js';
import { acquireLock, checkWritable } from '../files.js';
import { defaultOut } from '../figure8/data.js';
import { readCases, type BenchCase, type CaseTiming } from '../run/bench-cases.js';
import { runBench, type BenchOutcome } from '../run/bench.js';
import { describeMeanState } from '../run/conditions.js';
import { computeCapabilityOf, selectDevices, type DeviceInfo } from '../run/device.js';
import { modeOptions } from '../run/option-checks.js';
import { benchFolder, checkpointName, listCheckpoints, resolveCheckpoint, type FoundCheckpoint } from '../run/package.js';
import type { ColdFigures, SustainedFigures } from '../run/record-types.js';
import type { Roofline } from '../run/roofline.js';
import { checkRunOptions } from '../run/run-prebuilt.js';
import { formatMs, formatRate, inWords, renderTable } from '../table.js';
import { endBench, planReproduction, reproducibleSettings, reproducibleSystems, tuneFirst, type FinishedBench } from './bench-end.js';
import { exitCodes, type CliIo, type Command } from './command.js';
import { addTimingOptions, perLayer, timingOf, type TimingOptions } from './run.js';
import { addDevicesOption, addShardOption, laneProgress, positiveNumber, progressTo, shareOf, type Shard } from './shared.js';

interface BenchCliOptions extends TimingOptions {
  readonly device: string;
  readonly checkpoints?: string;
  readonly results: string;
  readonly fresh?: boolean;
  readonly verify?: boolean;
  readonly caseTimeout?: number;
  readonly strict?: boolean;
  readonly reproduce?: boolean;
  readonly reproduceSystems?: string;
  readonly reproduceSettings?: string;
  /** Either spelling. */
  readonly force_tune?: boolean;
  readonly forceTune?: boolean;
  readonly figures: boolean;
  readonly shard?: Shard;
  readonly json?: boolean;
}

/** Of our own cases; the other systems compile, and have their own. */
const kCaseTimeoutS = 900;

/** The checkpoints to measure: those named, or bench/cases.json's for this kind of device. */
async function chooseCheckpoints(
  names: readonly string[],
  folder: string | undefined,
  wanted: 'all' | readonly string[],
  io: CliIo,
): Promise<readonly FoundCheckpoint[]> {
  if (names.length > 0 && folder !== undefined)
    throw new LadderError('BAD_ARGUMENT', `expected checkpoints or --checkpoints but received both: ${names.join(', ')} and ${folder}`);
  if (names.length > 0) return names.map((name) => ({ path: resolveCheckpoint(name), name: checkpointName(resolveCheckpoint(name)) }));
  const there = await listCheckpoints(folder, io.note);
  if (there.length === 0)
    throw new LadderError(
      'NOT_A_CHECKPOINT',
      `no checkpoints below ${folder ?? 'checkpoints/Figure8/ladder/'}; \`ladder build\` makes one`,
    );
  // A folder of one's own is measured whole.
  if (wanted === 'all' || folder !== undefined) return there;
  const missing = wanted.filter((name) => !there.some((found) => found.name === name));
  if (missing.length > 0)
    throw new LadderError(
      'NOT_A_CHECKPOINT',
      `checkpoints/ lacks ${missing.join(', ')}, which bench/cases.json names; \`ladder build\` makes it`,
    );
  return there.filter(({ name }) => wanted.includes(name));
}

/** The timing of bench/cases.json, changed by what the command line says: of the file what fits that, and no option of another mode. */
export function timingFor(defaults: CaseTiming, options: TimingOptions): CaseTiming {
  const given = Object.fromEntries(Object.entries(timingOf(options)).filter(([, value]) => value !== undefined)) as Partial<CaseTiming>;
  const mode = given.mode ?? defaults.mode;
  const others: readonly string[] = modeOptions[mode === 'paper' ? 'samples' : 'paper'];
  const kept = Object.fromEntries(Object.entries(defaults).filter(([name]) => !others.includes(name))) as CaseTiming;
  const { minSamples, maxSamples } = given;
  if (kept.maxSamples !== undefined && minSamples !== undefined) kept.maxSamples = Math.max(kept.maxSamples, minSamples);
  if (kept.minSamples !== undefined && maxSamples !== undefined) kept.minSamples = Math.min(kept.minSamples, maxSamples);
  return { ...kept, ...given };
}

const percent = ({ fraction }: Roofline): string => `${(100 * fraction).toFixed(0)} %`;

/** The table at the end. */
export function renderBench(outcomes: readonly BenchOutcome[]): string {
  const both = outcomes.some(({ record }) => record.sustained);
  const several = new Set(outcomes.map(({ record }) => record.device.id)).size > 1;
  const rows = outcomes.flatMap(({ case: { name }, record, resumed }) => {
    const { samples, paper, roofline, sustained, cold } = record;
    const headline = [
      name,
      record.format,
      record.mode,
      ...(several ? [record.device.id ?? '—'] : []),
      ...(both ? [record.condition ?? '—', describeMeanState(record.meanState)] : []),
      record.device.kind === 'cpu' ? 'host' : `${record.launch}, L2 ${record.l2}`,
      formatMs(record.latencyMs),
      samples ? `IQR ${formatMs(samples.iqrMs)}` : paper ? `std ${formatMs(paper.stdMs)}` : '—',
      samples ? String(samples.count) : paper ? String(paper.valuesMs.length) : '—',
      roofline ? `${formatRate(roofline.bytesPerSecond, 'B/s')}${cold?.roofline ? '' : `, ${percent(roofline)}`}` : '—',
      record.verified === null ? '—' : record.verified ? 'yes' : 'NO',
      `${record.status}${resumed ? ' (earlier)' : ''}`,
    ];
    /** Another figure of the same case, below it. */
    const below = (condition: string, launch: string, figures: SustainedFigures | ColdFigures, rate: string): string[] => [
      ...['', '', '', ...(several ? [''] : [])],
      ...(both ? [condition, describeMeanState(figures.meanState)] : []),
      launch,
      formatMs(figures.latencyMs),
      `IQR ${formatMs(figures.samples.iqrMs)}`,
      String(figures.samples.count),
      rate,
      '',
      figures.reason === null ? 'ok' : 'invalid',
    ];
    const inMemory = cold?.roofline ? `${formatRate(cold.roofline.bytesPerSecond, 'B/s')}, ${percent(cold.roofline)}` : '';
    return [
      headline,
      ...(sustained ? [below('sustained', '', sustained, '')] : []),
      ...(cold ? [below('', `${record.launch}, L2 cold`, cold, inMemory)] : []),
    ];
  });
  return renderTable(
    [
      { title: 'checkpoint' },
      { title: 'format' },
      { title: 'mode' },
      ...(several ? [{ title: 'device' }] : []),
      ...(both ? [{ title: 'condition' }, { title: 'clock, power' }] : []),
      { title: 'launch' },
      { title: 'latency ms', align: 'right' },
      { title: 'spread ms', align: 'right' },
      { title: 'n', align: 'right' },
      { title: 'rate, of roofline', align: 'right' },
      { title: 'verified' },
      { title: 'status' },
    ],
    rows,
  );
}

/** Devices, which are of one kind, clock and mode of a bench, in words. */
function describeBench(devices: readonly DeviceInfo[], outcomes: readonly BenchOutcome[]): string {
  const device = devices[0]!;
  const ids = devices.length === 1 ? '' : `: ${devices.map(({ id }) => id).join(', ')}`;
  const clock =
    device.kind === 'cuda'
      ? `CUDA events; driver ${device.driverVersion ?? 'unknown'}, compute capability ${device.computeCapability}`
      : `host clock of the CPU: no GPU was used, so that these are no GPU latencies; ${device.multiprocessors} cores`;
  const modes = [...new Set(outcomes.map(({ record }) => record.mode))].map((mode) =>
    mode === 'samples' ? 'samples: latency is the median, one sample per inference' : "paper: latency is the mean of TVM's five means",
  );
  return [`device  ${device.name}${ids}`, `clock   ${clock}`, ...modes.map((mode) => `mode    ${mode}`)].join('\n');
}

async function buildModules(cases: readonly BenchCase[], device: DeviceInfo, io: CliIo): Promise<void> {
  // All in one parallel build; a case that cannot be built says so in its own record. Foreign ones are what they are.
  const ours = cases.map(({ path }) => path).filter((path) => existsSync(join(path, 'checkpoint.json')));
  const { archOf, ensureModules } = await import('../compiler/ensure.js');
  const onProgress = progressTo(io);
  try {
    await ensureModules(ours, {
      arch: archOf(computeCapabilityOf(device)),
      signal: io.signal,
      onProgress: (fraction, label) => onProgress({ phase: 'build', fraction, detail: label }),
    });
  } catch (error) {
    if (!(error instanceof LadderError) || error.code === 'ABORTED') throw error;
    io.note(`not all model.so could be built: ${error.message} [${error.code}]`);
  }
}

/**
 * Two benches in one folder would take each other's records for their own, two on one GPU measure each other.
 * @returns gives all back
 * @throws LadderError `BUSY`, `IO`
 */
function lockFor(devices: readonly DeviceInfo[], resultsRoot: string, shard: Shard | undefined, io: CliIo): () => void {
  // Shards measure different cases, and may share a folder.
  const part = shard === undefined ? '' : `-${shard.index}-of-${shard.count}`;
  const held = [acquireLock(join(resultsRoot, `.bench${part}.lock`), `the folder of records ${resultsRoot}`)];
  const release = (): void => {
    for (const giveBack of held) giveBack();
  };
  for (const device of devices) {
    try {
      held.push(acquireLock(join(tmpdir(), `ladder-${device.uuid ?? device.kind}.lock`), `${device.name} (${device.id})`));
    } catch (error) {
      // What the CPU measures shows that a checkpoint runs, and its cores are shared with anybody's work.
      if (device.kind === 'cpu' && error instanceof LadderError) {
        io.note(`${error.message}; the latencies of both will be too long`);
        continue;
      }
      release();
      throw error;
    }
  }
  return release;
}

async function bench(names: readonly string[], options: BenchCliOptions, io: CliIo): Promise<void> {
  const forceTune = (options.force_tune ?? options.forceTune) === true;
  const reproduce = options.reproduce === true;
  const reproduction = await planReproduction({
    reproduce,
    forceTune,
    systems: options.reproduceSystems,
    settings: options.reproduceSettings,
  });
  if (reproduce && options.shard !== undefined)
    throw new LadderError('BAD_ARGUMENT', 'expected --reproduce or --shard but received both: the other systems are measured as a whole');
  const devices = selectDevices(options.device);
  const defaults = readCases(devices[0]!.kind);
  const timing = timingFor(defaults.timing, options);
  checkRunOptions({ ...timing, device: devices[0]!.id });
  const chosen = shareOf(await chooseCheckpoints(names, options.checkpoints, defaults.checkpoints, io), options.shard);
  const cases = chosen.map((found): BenchCase => ({ ...found, timing, verify: options.verify ?? defaults.verify }));
  const resultsRoot = resolve(options.results);
  // A part is no comparison: `ladder plot` draws all parts' records.
  const figures = options.figures && options.shard === undefined && (await canDraw(io));
  const release = lockFor(devices, resultsRoot, options.shard, io);
  try {
    await benchLocked({ cases, devices, timing, resultsRoot, forceTune, reproduce, reproduction, figures }, options, io);
  } finally {
    release();
  }
}

/** What a bench is to do, once its options are read. */
interface PlannedBench {
  readonly cases: readonly BenchCase[];
  /** At least one; several are of one kind. */
  readonly devices: readonly DeviceInfo[];
  readonly timing: CaseTiming;
  readonly resultsRoot: string;
  readonly forceTune: boolean;
  readonly reproduce: boolean;
  readonly reproduction: FinishedBench['reproduction'];
  readonly figures: boolean;
}

/** Whether the figures have a place: a bench does without rather than fail at its end. */
async function canDraw(io: CliIo): Promise<boolean> {
  try {
    await checkWritable(join(defaultOut, 'report.html'));
    return true;
  } catch (error) {
    io.note(`${(error as Error).message}; comparison and figures are left out: \`ladder plot --out\` draws them elsewhere`);
    return false;
  }
}

async function benchLocked(
  { cases, devices, timing, resultsRoot, forceTune, reproduce, reproduction, figures }: PlannedBench,
  options: BenchCliOptions,
  io: CliIo,
): Promise<void> {
  const device = devices[0]!;
  if (device.kind === 'cpu')
    io.note(
      "no GPU is used: checkpoints run on the CPU, this project's through the reference operators, to show that they run; their latencies are not the GPU's",
    );
  else await buildModules(cases, device, io);
  if (forceTune && device.kind === 'cuda')
    await tuneFirst(
      cases.map(({ path }) => path),
      devices,
      io,
    );
  const report = laneProgress(io, devices.length);
  const outcomes = await runBench(cases, {
    devices,
    resultsRoot,
    fresh: options.fresh ?? false,
    caseTimeoutMs: 1000 * (options.caseTimeout ?? kCaseTimeoutS),
    signal: io.signal,
    onCase: (index, one, { id }, progress) =>
      report(
        id,
        `[${index + 1}/${cases.length}] ${one.name}${progress && io.columns !== null ? `: ${progress.phase}` : ''}`,
        progress?.fraction ?? null,
      ),
    onStale: (one, reason) => io.note(`${one.name} is measured again: ${reason}`),
  });
  io.endProgress();
  if (options.json) io.out(JSON.stringify(outcomes.map(({ record }) => record)));
  else {
    io.out(`\n${describeBench(devices, outcomes)}\n\n${renderBench(outcomes)}`);
    for (const {
      case: { name },
      record,
    } of outcomes) {
      if (record.reason !== null) io.out(`${name}: ${record.status}: ${record.reason}`);
      if (record.sustained?.reason) io.out(`${name}: sustained: invalid: ${record.sustained.reason}`);
      if (record.cold?.reason) io.out(`${name}: L2 cold: invalid: ${record.cold.reason}`);
      const each = perLayer(record);
      if (each !== null) io.out(`${name}: ${each}`);
      for (const warning of record.warnings) io.out(`${name}: ${warning}`);
    }
    if (outcomes.some(({ resumed }) => resumed))
      io.out('(earlier): measured before by this very code, of these very files, here; --fresh measures again');
    io.out(`records  ${resultsRoot}`);
  }
  const unsaved = outcomes.filter((outcome) => outcome.unsaved !== null);
  for (const outcome of unsaved) io.note(`${outcome.case.name}: the record is not saved: ${outcome.unsaved!}`);
  const finished: FinishedBench = {
    device,
    outcomes,
    resultsRoot,
    timing,
    fresh: options.fresh ?? false,
    caseTimeoutMs: options.caseTimeout === undefined ? undefined : 1000 * options.caseTimeout,
    reproduce,
    reproduction,
    figures,
  };
  await endBench(finished, options.json === true ? { ...io, out: io.note } : io);
  if (unsaved.length > 0 || outcomes.some(({ record }) => record.status === 'failed')) io.exit(exitCodes.failed);
  else if (outcomes.some(({ record }) => record.verified === false)) io.exit(exitCodes.mismatch);
  else if (options.strict && outcomes.some(({ record }) => record.status === 'invalid')) io.exit(exitCodes.invalid);
}

export const benchCommand: Command = {
  register(program, io) {
    const command = program
      .command('bench')
      .description('measure every checkpoint, each in a process of its own; goes on where it was interrupted')
      .argument('[checkpoint...]', 'paths or names (default: what bench/cases.json says for the device)')
      .option('--checkpoints <folder>', 'measure all checkpoints below a folder')
      .option('--results <folder>', 'where records are kept', join(benchFolder, 'results', 'local'))
      .option('--fresh', 'measure again what has a valid record of this code and these files')
      .option('--verify', "verify each checkpoint's operators, too")
      .option('--no-verify', 'do not')
      .option(
        '--case-timeout <s>',
        `end a case that takes longer (default: ${kCaseTimeoutS}; the other systems have their own)`,
        positiveNumber,
      )
      .option('--strict', 'exit 4 when a measurement is invalid')
      .option('--reproduce', "as in the authors' script: measure the other systems here as well, where they are installed")
      .option('--reproduce-systems <list>', `of these only: ${reproducibleSystems().join(', ')} (default: all)`)
      .option(
        '--reproduce-settings <list>',
        `in these settings only: ${reproducibleSettings().join(', ')} (default: all that the model has)`,
      )
      .option(
        '--force_tune',
        `as in the authors' script: tune before measuring, ${inWords(runnableSystems(true).map(({ label }) => label))} as well where their toolchains are`,
      )
      .option('--force-tune', 'the same')
      .option('--no-figures', 'leave out the comparison, Figure 8 and the report')
      .option('--json', 'machine-readable records');
    addTimingOptions(addShardOption(addDevicesOption(command))).action((names: string[], options: BenchCliOptions) =>
      bench(names, options, io),
    );
  },
};
