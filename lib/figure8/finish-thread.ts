/**
 * finish.ts in a thread of its own, so that Ctrl-C ends it at once: drawing computes for seconds without a break. This file is both
 * the caller's side and the thread.
 */
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { join } from 'node:path';
import { LadderError, type ErrorCode, type ErrorContext } from '../errors.js';
import { removePartials } from '../files.js';
import { packageRoot } from '../run/package.js';
import { defaultOut } from './data.js';
import { finishBench, type FinishOptions, type FinishResult } from './finish.js';
import { outputFolders } from './output.js';

/** What the thread answers with. */
type Answer =
  | { readonly result: FinishResult }
  | { readonly error: { readonly code: ErrorCode; readonly message: string; readonly context: ErrorContext } };

const kThreadPath = join(packageRoot, 'dist', 'figure8', 'finish-thread.js');

/**
 * As `finishBench`, ended by the signal.
 * @throws LadderError what `finishBench` throws, `ABORTED`
 */
export async function finishInThread(options: FinishOptions, signal: AbortSignal): Promise<FinishResult> {
  const aborted = (): LadderError => new LadderError('ABORTED', 'drawing was aborted');
  if (signal.aborted) throw aborted();
  const out = options.out ?? defaultOut;
  const tidy = (): void => [out, ...outputFolders(out)].forEach((folder) => removePartials(folder));
  tidy();
  const worker = new Worker(kThreadPath, { workerData: options });
  let stop: (() => void) | undefined;
  try {
    const answer = await new Promise<Answer>((resolve, reject) => {
      stop = () => reject(aborted());
      signal.addEventListener('abort', stop, { once: true });
      worker.once('message', resolve);
      worker.once('error', reject);
    });
    if ('result' in answer) return answer.result;
    const { code, message, context } = answer.error;
    throw new LadderError(code, message, context);
  } finally {
    if (stop) signal.removeEventListener('abort', stop);
    await worker.terminate();
    tidy();
  }
}

async function answer(options: FinishOptions): Promise<Answer> {
  try {
    return { result: await finishBench(options) };
  } catch (error) {
    if (!(error instanceof LadderError)) throw error;
    return { error: { code: error.code, message: error.message, context: error.context } };
  }
}

if (!isMainThread && parentPort !== null) parentPort.postMessage(await answer(workerData as FinishOptions));
