/**
 * What every log below a folder says: `ladder baselines`. Finds each log's system (by folder, else by what it prints),
 * parses it, names its case. A log without a result is an entry with its reason, never a gap and never an older number.
 */
import { basename, dirname, resolve } from 'node:path';
import { LadderError } from '../errors.js';
import { caseOfCheckpoint, caseOfLog, type CaseName } from './case-names.js';
import { logFiles, type LogFile } from './files.js';
import { readLines, type BaselineSystem, type LogResult, type LogSource } from './log.js';
import { parseAmos, type AmosResult } from './amos.js';
import { parseInductor, type InductorResult } from './inductor.js';
import { parseLadder, type LadderResult } from './ladder.js';
import { parseOnnxRuntime, type OnnxRuntimeResult } from './onnxruntime.js';
import { parseTensorIr, parseTuningTime, type TensorIrResult } from './tensorir.js';
import { parseTensorRt, type TensorRtResult } from './tensorrt.js';
import { parseVllm, type VllmResult } from './vllm.js';
import { parseWelder, type WelderResult } from './welder.js';

export type BaselineResult =
  | AmosResult | TensorIrResult | LadderResult | WelderResult | OnnxRuntimeResult | TensorRtResult | InductorResult | VllmResult;

/** One log: its case and its result, or why it has none. */
export type BaselineEntry = CaseName & {
  readonly path: string;
  readonly system: BaselineSystem | null;
} & ({ readonly result: BaselineResult } | { readonly result: null; readonly reason: string });

const parsers: { readonly [S in BaselineSystem]: (source: LogSource, name: string) => Promise<BaselineResult> } = {
  AMOS: parseAmos, TensorIR: (source, name) => parseTensorIr(source, name), Ladder: parseLadder,
  Welder: (source, name) => parseWelder(source, name, 'Welder'), Roller: (source, name) => parseWelder(source, name, 'Roller'),
  ONNXRuntime: parseOnnxRuntime, TensorRT: parseTensorRt, 'PyTorch-Inductor': parseInductor, vLLM: parseVllm,
};

/** Parses one log of a known system. @throws LadderError `BAD_LOG` with `context.reason` */
export async function parseLog(system: BaselineSystem, source: LogSource, name: string): Promise<LogResult> {
  return parsers[system](source, name);
}

const folderNames: readonly (readonly [RegExp, BaselineSystem])[] = [
  [/amos/i, 'AMOS'], [/tensorir/i, 'TensorIR'], [/ladder|bitter/i, 'Ladder'], [/welder/i, 'Welder'], [/roller/i, 'Roller'],
  [/onnx/i, 'ONNXRuntime'], [/tensorrt|trt/i, 'TensorRT'], [/inductor|pytorch/i, 'PyTorch-Inductor'], [/vllm/i, 'vLLM'],
];

/** What only one system prints. The weak mark of Inductor comes last. */
const contentMarks: readonly (readonly [RegExp, BaselineSystem])[] = [
  [/Whole graph cost|Query subgraph task id/, 'AMOS'], [/TensorRT\.trtexec|GPU Compute Time:/, 'TensorRT'],
  [/Execution time summary:|Running from prebuilt model:|\[ladder:/, 'Ladder'], [/Average time for each run:|>> Evaluating Benchmark/, 'ONNXRuntime'],
  [/vllm \S+ run /, 'vLLM'], [/Summary: \[min, max, mean\]|Iteration time [\d.]+ ms/, 'Welder'], [/(?:^|\s)avg: /, 'PyTorch-Inductor'],
];

/**
 * Which system wrote a log: the innermost folder that names one, else what is printed in it, else the folder asked for
 * (`…/amos/logs`), whose own name must be the system's: a project may lie in a folder called anything. Null where none says.
 * @param path relative to `folder`
 */
export async function systemOf(path: string, open: () => LogSource, folder = ''): Promise<BaselineSystem | null> {
  if (basename(path) === 'latency.txt') return 'TensorIR';
  for (const part of dirname(path).split('/').reverse()) {
    const named = folderNames.find(([pattern]) => pattern.test(part));
    if (named !== undefined) return named[1];
  }
  for await (const line of readLines(open())) {
    const marked = contentMarks.find(([pattern]) => pattern.test(line.text));
    if (marked !== undefined) return marked[1];
  }
  for (const part of folder.split('/').slice(-2).reverse()) {
    const named = folderNames.find(([pattern]) => new RegExp(`^(?:${pattern.source})(?:-benchmark)?$`, 'i').test(part));
    if (named !== undefined) return named[1];
  }
  return null;
}

/** The tuning time that TensorIR leaves beside `latency.txt`. */
async function siblingTuningTime(file: LogFile, all: readonly LogFile[]): Promise<number | null> {
  const sibling = all.find((other) => other.path === file.path.replace(/latency\.txt$/, 'tune_time_cost.txt'));
  return sibling === undefined ? null : parseTuningTime(sibling.open());
}

/**
 * Reads every log below `folder`.
 * @param options.system the system of all of them, where neither folders nor contents tell
 * @param options.allowUnterminated take a bare number without line end as whole (TensorIR)
 * @throws LadderError `IO` when the folder cannot be read; a bad log is an entry
 */
export async function scanLogs(
  folder: string, options: { readonly system?: BaselineSystem; readonly allowUnterminated?: boolean } = {},
): Promise<BaselineEntry[]> {
  const files = await logFiles(folder);
  const entries: BaselineEntry[] = [];
  for (const file of files) {
    if (basename(file.path) === 'tune_time_cost.txt') continue;
    const system = options.system ?? await systemOf(file.path, () => file.open(), resolve(folder));
    if (system === null) {
      entries.push({ path: file.path, system, model: null, setting: null, format: null, result: null, reason: 'no system known by its folder or its lines' });
      continue;
    }
    const named = caseOfLog(file.path, system);
    try {
      const result = system === 'TensorIR'
        ? await parseTensorIr(file.open(), file.path, await siblingTuningTime(file, files), options.allowUnterminated)
        : await parsers[system](file.open(), file.path);
      const better = result.system === 'Ladder' && result.checkpointPath !== null ? caseOfCheckpoint(result.checkpointPath) : named;
      entries.push({ path: file.path, system, ...better, setting: better.setting ?? named.setting, result });
    } catch (error) {
      if (!(error instanceof LadderError) || error.code !== 'BAD_LOG') throw error;
      const { reason, detail } = error.context;
      entries.push({ path: file.path, system, ...named, result: null, reason: `${String(reason)}${detail === '' ? '' : `: ${String(detail)}`}` });
    }
  }
  return entries;
}
