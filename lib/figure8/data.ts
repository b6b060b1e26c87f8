/**
 * The published numbers in checkpoints/Figure8: what the paper plots, what its authors measured again for the artifact,
 * compile times, and Ladder's own operators, each with its provenance. Both sets are kept apart and shown as they are.
 * Logs of other systems below the same folder are read from here too: the authors' archive may lie over them.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { LadderError } from '../errors.js';
import { scanLogs, type BaselineEntry } from '../baselines/scan.js';
import { loggingSystems, type LoggingSystem } from '../baselines/systems/index.js';
import { figure8Models } from '../models/index.js';
import { benchFolder, packageRoot } from '../run/package.js';
import { parseAs } from '../run/record-schema.js';
import { clockKinds } from '../run/record-types.js';
import { inWords } from '../table.js';

/** The two published sets. */
export const setNames = ['paper', 'artifact'] as const;
export type SetName = (typeof setNames)[number];

const figureModel = z.string().refine((id) => figure8Models().some((model) => model.id === id), 'expected a model of Figure 8');
const latency = z.number().positive().nullable();

/** What is odd about one published value; shown beside it. */
const markSchema = z.strictObject({
  setting: z.string(),
  kind: z.enum(['repeats-fp16', 'maximum', 'stale', 'not-from-log', 'other-checkpoint', 'other-format']),
  note: z.string().min(1),
});
export type Mark = z.infer<typeof markSchema>;

export const figureSetSchema = z
  .strictObject({
    schema: z.literal('ladder-figure8/1'),
    set: z.enum(setNames),
    title: z.string(),
    gpu: z.string(),
    unit: z.literal('ms'),
    note: z.string(),
    /** `clock` is null where the system's log does not say what it is. */
    systems: z.record(z.string(), z.strictObject({ clock: z.enum(clockKinds).nullable(), clockNote: z.string() })),
    models: z.array(
      z.strictObject({
        model: figureModel,
        settings: z.array(z.string()).min(1),
        /** `latencyMs` null: the system could not compile the model. */
        rows: z.array(
          z.strictObject({ system: z.string(), format: z.string(), latencyMs: z.record(z.string(), latency), marks: z.array(markSchema) }),
        ),
      }),
    ),
  })
  .superRefine((set, context) => {
    for (const model of set.models) {
      for (const row of model.rows) {
        const where = `${model.model}, ${row.system} ${row.format}`;
        if (set.systems[row.system] === undefined) context.addIssue({ code: 'custom', message: `${where}: the system is not described` });
        if (Object.keys(row.latencyMs).join() !== model.settings.join())
          context.addIssue({ code: 'custom', message: `${where}: expected the settings ${model.settings.join(', ')}` });
        for (const mark of row.marks) {
          if (!model.settings.includes(mark.setting))
            context.addIssue({ code: 'custom', message: `${where}: a mark for the unknown setting ${mark.setting}` });
        }
      }
    }
  });
export type FigureSet = z.infer<typeof figureSetSchema>;

const compileTimesSchema = z.strictObject({
  schema: z.literal('ladder-compile-times/1'),
  title: z.string(),
  unit: z.literal('min'),
  gpu: z.string(),
  note: z.string(),
  rows: z.array(z.strictObject({ model: figureModel, setting: z.string(), minutes: z.record(z.string(), z.number().positive()) })),
});
export type CompileTimes = z.infer<typeof compileTimesSchema>;

const ms = z.number().nonnegative();
const ladderOperatorsSchema = z.strictObject({
  schema: z.literal('ladder-operators/1'),
  title: z.string(),
  gpu: z.string(),
  clock: z.enum(clockKinds),
  unit: z.string(),
  note: z.string(),
  runs: z.array(
    z.strictObject({
      checkpoint: z.string(),
      model: figureModel,
      summaryMs: z.strictObject({ mean: ms, median: ms, max: ms, min: ms, std: ms }),
      /** Name, microseconds, shapes of the outputs, number of inputs. */
      operators: z
        .array(z.tuple([z.string(), z.number().positive(), z.array(z.array(z.number().int().positive())), z.number().int().nonnegative()]))
        .min(1),
    }),
  ),
});
export type LadderOperators = z.infer<typeof ladderOperatorsSchema>;

/** The folder of the published data. */
export const figure8Folder = join(packageRoot, 'checkpoints', 'Figure8');

/** Where the figures go unless told otherwise. */
export const defaultOut = join(benchFolder, 'out');

/** Where saved records lie unless told otherwise. */
export const defaultResults = join(benchFolder, 'results');

function load<T>(schema: z.ZodType<T>, file: string): T {
  const path = join(figure8Folder, file);
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new LadderError('BAD_RECORD', `cannot read ${path}: ${(cause as Error).message}`, { path }, { cause });
  }
  return parseAs(schema, text, path);
}

/** The paper's or the artifact's values. @throws LadderError `BAD_RECORD` */
export function loadFigureSet(set: SetName): FigureSet {
  const data = load(figureSetSchema, `${set}.json`);
  if (data.set !== set) throw new LadderError('BAD_RECORD', `${set}.json holds the set "${data.set}"`);
  return data;
}

/** Table 2. @throws LadderError `BAD_RECORD` */
export function loadCompileTimes(): CompileTimes {
  return load(compileTimesSchema, 'compile-times.json');
}

/** Ladder's operators on the A100. @throws LadderError `BAD_RECORD` */
export function loadLadderOperators(): LadderOperators {
  return load(ladderOperatorsSchema, 'ladder-operators.json');
}

/** The systems whose logs lie with the published data. */
function archiveSystems(): readonly (LoggingSystem & { readonly log: { readonly published: string } })[] {
  return loggingSystems().filter(
    (system): system is LoggingSystem & { readonly log: { readonly published: string } } => system.log.published !== undefined,
  );
}

/** Their names in a sentence: `AMOS and TensorIR`. */
export function archiveLabels(): string {
  return inWords(archiveSystems().map(({ label }) => label));
}

/** Every log of theirs below checkpoints/Figure8, ours or the authors'. @throws LadderError `IO` */
export async function loadArchiveLogs(folder = figure8Folder): Promise<BaselineEntry[]> {
  const scans = archiveSystems().map(async ({ label, log: { published } }) => {
    const entries = await scanLogs(join(folder, published), { system: label });
    return entries.map((entry) => ({ ...entry, path: `${published}/${entry.path}` }));
  });
  return (await Promise.all(scans)).flat();
}
