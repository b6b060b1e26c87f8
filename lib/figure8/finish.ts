/**
 * The end of a bench, and all of `ladder plot`: Figure 8 as files, the roofline and operator charts, report.html, and
 * the comparison as text. Gathers what the other files of this folder make; measures nothing.
 */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, join, relative } from 'node:path';
import { checkpointName, kPlainLabel } from '../artifact/names.js';
import type { LibraryCeilings } from '../baselines/ceilings.js';
import { systemNamed } from '../baselines/systems/index.js';
import { LadderError } from '../errors.js';
import { checkWritable, decodeText, writeWhole } from '../files.js';
import { formatLabel } from '../formats/index.js';
import { figure8Models } from '../models/index.js';
import { inWords } from '../table.js';
import { packageRoot } from '../run/package.js';
import { newestCeilings, underLibrary } from './ceilings.js';
import { isSustained } from './compare.js';
import { compilerTable, ladderMeansTable, systemsTable } from './compare-table.js';
import {
  archiveLabels,
  defaultOut,
  defaultResults,
  loadArchiveLogs,
  loadCompileTimes,
  loadFigureSet,
  loadLadderOperators,
  type SetName,
} from './data.js';
import { drawEnd2End } from './end2end.js';
import { entriesOfRecord, entryOfLog, inFigureOrder, loadCeilings, loadRecords, loadSet, newest } from './entries.js';
import type { Entry } from './entry.js';
import { chooseReference, publishedFigure, reproducedFigure, type Figure } from './figure-model.js';
import { gpuSlug, ownSystem, paperReference, subject } from './names.js';
import { drawOperators, parseProfile, publishedProfile, type OperatorProfile } from './operators-chart.js';
import { writePicture } from './output.js';
import { reportHtml, tableCsv, tableFiles, tableJson, type ReportFigure, type ReportTable } from './report.js';
import { ceilingsTable, clocksTable, compileTimesTable, disagreementsTable, failedLogsTable, provenanceTable } from './report-tables.js';
import { drawIntensity } from './intensity-chart.js';
import { drawRoofline } from './roofline-chart.js';

export interface FinishOptions {
  /** Where `svg/`, `png/`, `pdf/` and `report.html` go. Default: bench/out. */
  readonly out?: string;
  /** Folders or files with saved records. Default: bench/results, where it exists. */
  readonly results?: readonly string[];
  /** The published set that is drawn. Default: paper. */
  readonly set?: SetName;
  /** Draw what was measured on this machine, with the paper's bars beside it. */
  readonly reproduce?: boolean;
  /** Print each bar's value. */
  readonly values?: boolean;
  /** The GPU whose records are drawn and listed first, when there are records of several; default: that of the newest. */
  readonly gpu?: string;
  /** What `ladder profile --json` printed, for the operator chart; default: a published run on the A100. */
  readonly profile?: string;
}

export interface FinishResult {
  /** Every file written, absolute. */
  readonly files: readonly string[];
  /** The comparison, for the terminal. */
  readonly text: string;
  readonly html: string;
  /** Path without extension of the figure drawn from records, `…/end2end_h100`; null where none was asked for or there are no records of a GPU. */
  readonly reproduced: string | null;
  /** Records that were passed over, and why. */
  readonly remarks: readonly string[];
}

/** The newest record of each case, of every GPU, under the ceilings that were measured there. */
async function measuredEntries(
  folders: readonly string[],
  ceilings: readonly LibraryCeilings[],
  remarks: string[],
): Promise<readonly Entry[]> {
  const found: Entry[] = [];
  for (const folder of folders) {
    try {
      const loaded = await loadRecords(folder);
      remarks.push(...loaded.remarks);
      for (const { record, path } of loaded.records)
        found.push(...entriesOfRecord(record, relative(packageRoot, path).startsWith('..') ? path : relative(packageRoot, path)));
    } catch (error) {
      if (!(error instanceof LadderError) || error.code !== 'BAD_RECORD') throw error;
      remarks.push(`passed over: ${error.message}`);
    }
  }
  return inFigureOrder(newest(found)).map((entry) => underLibrary(entry, ceilings));
}

const isGpu = (entry: Entry): boolean => entry.clock !== 'cpu-host';
const newestDate = (entries: readonly Entry[]): string =>
  entries
    .map((entry) => entry.date ?? '')
    .sort()
    .at(-1) ?? '';

/** Whether the figure has bars of an entry's format. */
function isOfFigure({ model, format }: Entry): boolean {
  const shown = figure8Models().find(({ id }) => id === model)?.figure8.formats ?? [];
  return shown.some(({ weight, activation }) => formatLabel(weight, activation) === format);
}

/** The GPU to draw: the one asked for, else that of the newest record. */
function chooseGpu(entries: readonly Entry[], wanted: string | undefined): string | null {
  const onGpu = entries.filter(isGpu);
  if (wanted !== undefined) {
    const found = onGpu.find((entry) => entry.gpu === wanted || gpuSlug(entry.gpu ?? '') === wanted.toLowerCase());
    if (found?.gpu === null || found === undefined)
      throw new LadderError(
        'BAD_ARGUMENT',
        `no record of the GPU ${wanted}; there are records of ${inWords([...new Set(onGpu.map((entry) => entry.gpu ?? 'an unknown GPU'))].sort()) || 'none'}`,
        { gpu: wanted },
      );
    return found.gpu;
  }
  return [...onGpu].sort((a, b) => ((a.date ?? '') < (b.date ?? '') ? 1 : -1))[0]?.gpu ?? null;
}

/** The operators to draw: a profile's file, else Ladder's on the A100, of the figure's first quantised bar. */
async function operatorsOf(profile: string | undefined): Promise<OperatorProfile> {
  if (profile === undefined) {
    const {
      id: model,
      figure8: {
        settings: [setting],
        formats: [, pair],
      },
    } = figure8Models()[0]!;
    return publishedProfile(loadLadderOperators(), model, checkpointName({ model, ...setting!, format: { ...pair!, group: -1 } }));
  }
  try {
    return parseProfile(decodeText(await readFile(profile)), basename(profile, '.json'));
  } catch (cause) {
    if (cause instanceof LadderError) throw cause;
    throw new LadderError('IO', `cannot read ${profile}: ${(cause as Error).message}`, { profile }, { cause });
  }
}

/** Where the ceilings of our own records come from. */
function ceilingsCaption(gpu: string, library: LibraryCeilings | null): string {
  const arithmetic =
    library === null
      ? "OP/s of the tensor cores' instruction alone (lib/run/ceilings.ts; records before 2026-11-26: of a vendor library's products)"
      : `OP/s of cuBLASLt's products on it, ${library.date.slice(0, 10)}`;
  return `This package on ${gpu}. Ceilings: bytes/s as read in each process; ${arithmetic}.`;
}

/** Own records as a table, when there are any. */
function measuredText(own: readonly Entry[], gpu: string): string {
  const here = own.filter((entry) => entry.gpu === gpu);
  const tables = (entries: readonly Entry[]): string[] =>
    [...new Set(entries.map((entry) => entry.model))].map((model) => systemsTable(entries, model));
  const lasting = here.filter(isSustained);
  return [
    `Measured on ${gpu} (${newestDate(here).slice(0, 10)}); its ratios to the A100's numbers above are no verdict:`,
    ...tables(here.filter((entry) => !isSustained(entry))),
    ...(lasting.length === 0 ? [] : ['Sustained, after a second of load at the least:', ...tables(lasting)]),
  ].join('\n\n');
}

/**
 * Writes Figure 8 and the report, and returns the comparison as text.
 * @throws LadderError `BAD_RECORD`, `BAD_ARGUMENT`, `IO`
 */
export async function finishBench(options: FinishOptions = {}): Promise<FinishResult> {
  const out = options.out ?? defaultOut;
  await checkWritable(join(out, 'report.html'));
  const set = options.set ?? 'paper';
  const folders = options.results ?? (existsSync(defaultResults) ? [defaultResults] : []);
  const loaded = await Promise.all(folders.map((folder) => loadCeilings(folder)));
  const ceilings = loaded.flatMap((one) => one.ceilings);
  const remarks = loaded.flatMap((one) => one.remarks);
  const [published, own] = [await loadSet(set), await measuredEntries(folders, ceilings, remarks)];
  const gpu = chooseGpu(own, options.gpu);
  // Charts show one figure of a case, as the paper does; the other is in the tables.
  const onGpu = own.filter((entry) => isGpu(entry) && !isSustained(entry) && entry.gpu === gpu);
  const files: string[] = [];
  const figures: ReportFigure[] = [];
  const add = async (picture: ReportFigure['picture'], name: string, title: string, caption: string): Promise<void> => {
    const written = Object.values(await writePicture(picture, out, name, title));
    files.push(...written);
    figures.push({ picture, title, caption, links: written.map((path) => relative(out, path)) });
  };

  const data = loadFigureSet(set);
  const caption = `${data.gpu}. ${set === 'paper' ? 'Values plotted in the paper (OSDI 2024, Figure 8)' : "Values measured again for the paper's artifact"}; each system timed by its own clock.`;
  const draw = (figure: Figure, name: string, title: string): Promise<void> =>
    add(drawEnd2End(figure, name.replaceAll('_', '-'), { values: options.values === true }), name, title, figure.caption);
  await draw(publishedFigure(published, caption), 'end2end_a100', `Figure 8, ${set === 'paper' ? 'as in the paper' : 'from the artifact'}`);
  let reproduced: string | null = null;
  // What speed-ups of our own records are over: as in the figure of them.
  const ownReference = chooseReference(await loadSet('paper'), onGpu);
  if (options.reproduce === true && gpu !== null) {
    const slug = gpuSlug(gpu);
    const drawn = onGpu.filter(
      (entry) => systemNamed(entry.system)?.tablesOnly !== true && (entry.system !== ownSystem || isOfFigure(entry)),
    );
    const figure = reproducedFigure(
      await loadSet('paper'),
      drawn,
      `${gpu}, ${newestDate(drawn).slice(0, 10)}. Coloured: measured on this GPU. Grey: the paper's values, over the same system on its A100.`,
    );
    // On an A100 the paper's own figure keeps its name.
    reproduced = slug === 'a100' ? 'end2end_a100_reproduced' : `end2end_${slug}`;
    await draw(figure, reproduced, `Figure 8, measured on ${gpu}`);
  }

  const ladderOnly = published.filter((entry) => entry.system === subject);
  /** Shares of the ceilings as bars, and the classical chart of the same entries. */
  const addRooflines = async (entries: readonly Entry[], slug: string, whose: string, source: string, caption: string): Promise<void> => {
    const bars = drawRoofline(entries, `roofline-${slug.replaceAll('_', '-')}`, source);
    const points = drawIntensity(entries, `intensity-${slug.replaceAll('_', '-')}`, source);
    if (bars !== null) await add(bars, `roofline_${slug}`, `Roofline, ${whose}`, caption);
    if (points !== null)
      await add(
        points,
        `intensity_${slug}`,
        `Rate against intensity, ${whose}`,
        'Both logarithmic. Red: what memory and arithmetic allow; flat roofs that differ by less than 15 % are drawn as one. Squares are filled as the bars.',
      );
  };
  if (gpu !== null)
    await addRooflines(
      onGpu.filter((entry) => entry.system === ownSystem),
      gpuSlug(gpu) === 'a100' ? 'a100_measured' : gpuSlug(gpu),
      gpu,
      ceilingsCaption(gpu, newestCeilings(ceilings, gpu)),
      'Achieved rate over the ceiling that binds each checkpoint.',
    );
  await addRooflines(
    ladderOnly,
    'a100',
    "Ladder's published numbers",
    `Ladder on ${data.gpu}, ${set}; ceilings from NVIDIA's data sheet (1.935 TB/s; 312, 624 TOP/s), not measured.`,
    'Bytes and operations of one decoder layer by its definition; achieved rate over the ceiling that binds it.',
  );
  const profile = await operatorsOf(options.profile);
  await add(
    drawOperators(profile, 'operators'),
    'operators',
    `Operators: ${profile.title}`,
    `${profile.gpu}; ${profile.source}; clock ${profile.clock}.`,
  );

  const logs = await loadArchiveLogs();
  const archive = logs.map((log) => entryOfLog(log, data.gpu)).filter((entry) => entry !== null);
  const text = [
    `Figure 8 compared (${data.title}; ${data.gpu})`,
    `${archiveLabels()}, from their logs in checkpoints/Figure8:`,
    compilerTable(published, archive, loadCompileTimes()),
    ...figure8Models().map(({ id }) => systemsTable(published, id)),
    '* repeats the FP16 value, or is odd in its source: report.html says how.',
    'Geometric means:',
    ladderMeansTable(published),
    ...(gpu === null ? [] : [measuredText(own.filter(isGpu), gpu)]),
    ...(options.reproduce === true && gpu === null
      ? [`Figure 8 of this machine was not drawn: no record of a GPU in ${folders.join(', ') || defaultResults}.`]
      : []),
  ].join('\n\n');

  const reference =
    (list: readonly Entry[], family: string) =>
    (entry: Entry): Entry | undefined =>
      list.find(
        (other) =>
          other.family === family &&
          other.format === kPlainLabel &&
          other.model === entry.model &&
          other.setting === entry.setting &&
          other.gpu === entry.gpu &&
          isSustained(other) === isSustained(entry),
      );
  const measured = (title: string, note: string, entries: readonly Entry[]): ReportTable[] =>
    entries.length === 0 ? [] : [provenanceTable(title, note, entries, ownReference, reference(own, ownReference))];
  const tables = [
    ...measured('Measured with this package', 'Saved records of GPUs, the newest valid one of each case.', own.filter(isGpu)),
    ...measured(
      'Measured on CPUs',
      'By the reference operators, which are right, not fast.',
      own.filter((entry) => !isGpu(entry)),
    ),
    ...(ceilings.length > 0 ? [ceilingsTable(ceilings)] : []),
    provenanceTable(`Published: ${set}`, data.title, published, paperReference, reference(published, paperReference)),
    provenanceTable(
      `${archiveLabels()} logs`,
      "As read from checkpoints/Figure8: short logs of this project until the authors' archive is unpacked over them.",
      archive,
      paperReference,
      reference(published, paperReference),
    ),
    compileTimesTable(),
    disagreementsTable(),
    clocksTable(set),
    ...(logs.some((log) => log.result === null) ? [failedLogsTable(logs)] : []),
  ];
  for (const table of tables) {
    const [csv, json] = Object.values(tableFiles(table)).map((path) => join(out, path)) as [string, string];
    await writeWhole(csv, tableCsv(table));
    await writeWhole(json, tableJson(table));
    files.push(csv, json);
  }
  const html = reportHtml({
    title: 'Ladder checkpoints: Figure 8',
    summary: [
      data.title,
      data.note,
      `Written ${new Date().toISOString().slice(0, 10)}. Every figure is drawn from the numbers in the tables below; each number keeps its clock, GPU and source.`,
    ],
    figures,
    tables,
  });
  const page = join(out, 'report.html');
  await writeWhole(page, html);
  files.push(page);
  return { files, text, html: page, reproduced, remarks };
}
