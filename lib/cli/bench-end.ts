/**
 * What `ladder bench` does round its measurements: tuning before them (`--force_tune`), the other systems of Figure 8 and
 * the vendor library's products after them (`--reproduce`), and at the end the comparison and the figures.
 */
import { join } from 'node:path';
import { kPlainLabel } from '../artifact/names.js';
import type { BaselineAdapter } from '../baselines/adapters/index.js';
import type { LibraryCeilings } from '../baselines/ceilings.js';
import { runnableSystems } from '../baselines/systems/index.js';
import { LadderError } from '../errors.js';
import { figure8Models, figure8Settings, type Figure8Model } from '../models/index.js';
import type { CaseTiming } from '../run/bench-cases.js';
import type { BenchOutcome } from '../run/bench.js';
import { deviceForRecord, ordinalOf, type DeviceInfo } from '../run/device.js';
import type { BenchRecord } from '../run/record-types.js';
import { formatMs, formatRate, renderTable } from '../table.js';
import type { CliIo } from './command.js';
import { laneProgress, loadDrawing } from './shared.js';

/** Tunes the checkpoints on the GPUs. @throws LadderError what the first one that failed says, once the others are tuned */
export async function tuneFirst(paths: readonly string[], devices: readonly DeviceInfo[], io: CliIo): Promise<void> {
  const { tuneOn } = await import('../compiler/tune/lanes.js');
  const report = laneProgress(io, devices.length);
  let done = 0;
  const failures: LadderError[] = [];
  await tuneOn(devices.map(ordinalOf), paths, {
    signal: io.signal,
    onProgress: (ordinal, fraction, label, remaining) =>
      report(
        `cuda:${ordinal}`,
        `tuning [${done + 1}/${paths.length}] ${label}${remaining === null || devices.length > 1 ? '' : `, about ${Math.ceil(remaining)} s left`}`,
        fraction,
      ),
    onTuned: () => {
      done += 1;
    },
    onFailed: (_, error) => failures.push(error),
  });
  io.endProgress();
  if (failures.length > 0) throw failures[0]!;
}

/** The vendor's library, among the systems of `--reproduce-systems`. */
const kLibrary = 'cublaslt';

/** What is measured beside our checkpoints. */
export interface Reproduction {
  readonly adapters: readonly BaselineAdapter[];
  /** Whether cuBLASLt's products are, too. */
  readonly library: boolean;
  /** The settings of Figure 8 to measure; null: all. */
  readonly settings: readonly string[] | null;
}

/** What a bench came to, for what follows it. */
export interface FinishedBench {
  /** That the other systems are measured on: the first of several. */
  readonly device: DeviceInfo;
  readonly outcomes: readonly BenchOutcome[];
  readonly resultsRoot: string;
  /** How the cases were timed: the other systems follow the same protocol. */
  readonly timing: CaseTiming;
  /** Measure again what was measured before. */
  readonly fresh: boolean;
  /** Limit of a case where one was asked for. */
  readonly caseTimeoutMs: number | undefined;
  /** The authors' `--reproduce`: draw from what was measured on this machine. */
  readonly reproduce: boolean;
  /** What is measured beside the checkpoints; null: nothing. */
  readonly reproduction: Reproduction | null;
  /** Whether comparison, figures and report follow. */
  readonly figures: boolean;
}

export interface ReproductionOptions {
  readonly reproduce: boolean;
  /** Systems that search first as well. */
  readonly forceTune: boolean;
  /** Comma-separated, as on the command line. */
  readonly systems?: string | undefined;
  readonly settings?: string | undefined;
}

/** The parts of a comma-separated list. @throws LadderError `BAD_ARGUMENT` for one that is not known */
function listOf(text: string, option: string, known: readonly string[]): readonly string[] {
  const parts = text.split(',').map((part) => part.trim());
  const wrong = parts.find((part) => !known.includes(part));
  if (wrong !== undefined)
    throw new LadderError('BAD_ARGUMENT', `expected some of ${known.join(', ')} for ${option} but received ${JSON.stringify(wrong)}`);
  return parts;
}

/** What `--reproduce-systems` chooses from. */
export function reproducibleSystems(): readonly string[] {
  return [...runnableSystems(false).map(({ id }) => id), kLibrary];
}

/** What `--reproduce-settings` chooses from. */
export function reproducibleSettings(): readonly string[] {
  return [...new Set(figure8Models().flatMap(figure8Settings))];
}

/**
 * What the command line asks for, checked before anything is measured; null where it asks for nothing.
 * @throws LadderError `BAD_ARGUMENT`
 */
export async function planReproduction(options: ReproductionOptions): Promise<Reproduction | null> {
  const { reproduce, forceTune, systems, settings } = options;
  if (!reproduce && (systems ?? settings) !== undefined)
    throw new LadderError(
      'BAD_ARGUMENT',
      '--reproduce-systems and --reproduce-settings choose from what --reproduce measures; add --reproduce',
    );
  if (!reproduce && !forceTune) return null;
  const { baselineAdapters, tunerAdapters } = await import('../baselines/adapters/index.js');
  const adapters = [...(reproduce ? await baselineAdapters() : []), ...(forceTune ? await tunerAdapters() : [])];
  const known = [...adapters.map(({ system }) => system), ...(reproduce ? [kLibrary] : [])];
  const wanted = systems === undefined ? known : listOf(systems, '--reproduce-systems', known);
  return {
    adapters: adapters.filter(({ system }) => wanted.includes(system)),
    library: wanted.includes(kLibrary),
    settings: settings === undefined ? null : listOf(settings, '--reproduce-settings', reproducibleSettings()),
  };
}

/** The models of Figure 8 that were measured, in the order in which they were. */
function modelsOf(bench: FinishedBench): readonly Figure8Model[] {
  const measured = new Set(bench.outcomes.map(({ record }) => record.model));
  return [...measured].flatMap((id) => figure8Models().filter((model) => model.id === id));
}

/** The settings of a model that are measured. */
function chosenSettings(plan: Reproduction, model: Figure8Model): readonly string[] {
  return figure8Settings(model).filter((setting) => plan.settings?.includes(setting) ?? true);
}

/** Our own median in bursts, and under lasting load, where both were sampled in turn. */
function inTurn({ provenance }: BenchRecord): string {
  const [burst, sustained] = [provenance?.['inTurnMs'], provenance?.['inTurnSustainedMs']];
  if (typeof burst !== 'number') return '—';
  return `${formatMs(burst)}${typeof sustained === 'number' ? `, sustained ${formatMs(sustained)}` : ''}`;
}

/** Measures the systems that are installed here, over Figure 8's settings of the models that were measured. */
async function measureSystems(bench: FinishedBench, plan: Reproduction, io: CliIo): Promise<void> {
  const { reproduceBaselines } = await import('../baselines/adapters/index.js');
  const cases = modelsOf(bench).flatMap((model) => chosenSettings(plan, model).map((setting) => ({ model: model.id, setting })));
  const { records, unavailable } = await reproduceBaselines(cases, {
    // What a CPU can be asked for is too little for a GPU.
    ...(bench.device.kind === 'cuda' ? bench.timing : {}),
    folder: join(bench.resultsRoot, 'baselines'),
    signal: io.signal,
    adapters: plan.adapters,
    again: bench.fresh,
    ordinal: ordinalOf(bench.device),
    device: bench.device.kind === 'cuda' ? bench.device : null,
    timeoutMs: bench.caseTimeoutMs,
    onStale: (system, { model, setting }, reason) => io.note(`${system} ${model} ${setting} is measured again: ${reason}`),
    onProgress: ({ system, case: { model, setting }, index, cases: count, stage, fraction }) =>
      io.progress(`[${index + 1}/${count}] ${system} ${model} ${setting}: ${stage}`, fraction),
  });
  io.endProgress();
  const rows = records.map(({ record, resumed }) => [
    record.system,
    record.model,
    record.setting,
    formatMs(record.latencyMs),
    formatMs(record.sustained?.latencyMs ?? null),
    inTurn(record),
    record.clock,
    `${record.reason ?? record.status}${resumed ? ' (earlier)' : ''}`,
  ]);
  if (rows.length > 0)
    io.out(
      `\n${renderTable([{ title: 'system' }, { title: 'model' }, { title: 'setting' }, { title: 'ms', align: 'right' }, { title: 'sustained ms', align: 'right' }, { title: 'ours in turn, ms', align: 'right' }, { title: 'clock' }, { title: 'status' }], rows)}`,
    );
  for (const { system, reason } of unavailable) io.out(`${system}: not run: ${reason}`);
}

/** The library's products as a table. */
export function renderCeilings({ libraryVersion, device, date, products }: LibraryCeilings): string {
  const rows = products.map(({ shape, m, type, result, reason, stateAfter }) => [
    shape.model,
    shape.name,
    `${m}×${shape.n}×${shape.k}`,
    type,
    formatMs(result?.ms ?? null),
    result === null ? '—' : formatRate(result.flopsPerSecond, 'OP/s'),
    result === null ? '—' : formatRate(result.bytesPerSecond, 'B/s'),
    reason ?? stateAfter?.throttleReasons?.filter((name) => name !== 'gpu_idle').join(', ') ?? '',
  ]);
  const table = renderTable(
    [
      { title: 'model' },
      { title: 'layer' },
      { title: 'm×n×k' },
      { title: 'type' },
      { title: 'ms', align: 'right' },
      { title: 'arithmetic', align: 'right' },
      { title: 'memory', align: 'right' },
      { title: 'remark' },
    ],
    rows,
  );
  return `cuBLASLt ${libraryVersion} on ${device.name}, ${date.slice(0, 10)}: its products, the ceiling of dense layers\n\n${table}`;
}

/** Measures the products of the dense layers that were measured; where that cannot be, the bench goes on. */
async function measureLibrary(bench: FinishedBench, plan: Reproduction, io: CliIo): Promise<void> {
  const { libraryCeilings } = await import('../baselines/adapters/cublaslt.js');
  const { productsFor } = await import('../baselines/ceilings.js');
  const measuredModels = modelsOf(bench);
  // FP16 is what the other systems run in.
  const formats = [kPlainLabel, ...bench.outcomes.map(({ record }) => record.format)];
  const products = productsFor(
    measuredModels.map(({ id }) => id),
    measuredModels.flatMap((model) => chosenSettings(plan, model)),
    formats,
  );
  if (products.length === 0) return;
  try {
    const { ceilings, measured } = await libraryCeilings(products, join(bench.resultsRoot, 'baselines'), deviceForRecord(bench.device), {
      ordinal: ordinalOf(bench.device),
      signal: io.signal,
      again: bench.fresh,
      onProgress: (fraction, detail) => io.progress(`${kLibrary} ${detail}`, fraction),
    });
    io.endProgress();
    io.out(`\n${renderCeilings(ceilings)}${measured === 0 ? '\n(all measured earlier; --fresh measures again)' : ''}`);
  } catch (error) {
    if (!(error instanceof LadderError) || error.code === 'ABORTED') throw error;
    io.out(`${kLibrary}: not run: ${error.message}`);
  }
}

/** The other systems, if they are asked for, then tables, figures and report. */
export async function endBench(bench: FinishedBench, io: CliIo): Promise<void> {
  const { reproduction } = bench;
  if (reproduction !== null) {
    await measureSystems(bench, reproduction, io);
    // Last: it multiplies in this process, which then holds a CUDA context.
    if (reproduction.library) {
      if (bench.device.kind === 'cuda') await measureLibrary(bench, reproduction, io);
      else io.out(`${kLibrary}: not run: it multiplies on a GPU, and none is used`);
    }
  }
  if (!bench.figures) return;
  io.progress('drawing', null);
  const { finishInThread } = await loadDrawing(() => import('../figure8/finish-thread.js'));
  const { files, text, remarks } = await finishInThread(
    { reproduce: bench.reproduce && bench.device.kind === 'cuda', results: [bench.resultsRoot] },
    io.signal,
  );
  io.endProgress();
  for (const remark of remarks) io.note(remark);
  io.out(`\n${text}\n\n${files.join('\n')}`);
}
