/**
 * `ladder bench-case`: one case of a bench, in the process that the bench made for it. Takes its orders over Node's IPC
 * channel and ends when the bench does, so that no measurement outlives it.
 */
import { LadderError } from '../errors.js';
import type { CaseMessage, CaseRequest } from '../run/bench.js';
import { selectDevice } from '../run/device.js';
import type { BenchRecord } from '../run/record-types.js';
import { failedRecord, recordOf, runLoaded, withPrebuilt } from '../run/run-prebuilt.js';
import type { Command } from './command.js';

const kProgressIntervalMs = 100;

async function measureCase(
  { path, deviceId, timing, verify }: CaseRequest,
  send: (message: CaseMessage) => void,
  signal: AbortSignal,
): Promise<BenchRecord> {
  let lastMs = 0;
  const task = {
    signal,
    onProgress: (progress: Extract<CaseMessage, { type: 'progress' }>['progress']): void => {
      if (performance.now() - lastMs < kProgressIntervalMs) return;
      lastMs = performance.now();
      send({ type: 'progress', progress });
    },
  };
  try {
    return await withPrebuilt(path, { device: deviceId, ...task }, async (prebuilt) => {
      const result = await runLoaded(prebuilt, { ...timing, ...task });
      // Timed first: verification overwrites the inputs.
      const verified = verify ? (await prebuilt.verify({ ...task, endToEnd: 'off' })).passed : null;
      const record = recordOf(result, verified);
      return verified === false
        ? { ...record, status: 'invalid', reason: 'verification found a mismatch; `ladder verify` shows it' }
        : record;
    });
  } catch (error) {
    if (!(error instanceof LadderError) || error.code === 'ABORTED') throw error;
    const { mode, launch, l2 } = timing;
    return failedRecord(path, error, selectDevice(deviceId), { mode, launch: launch === 'graph' ? 'graph' : 'stream', l2 });
  }
}

export const benchCaseCommand: Command = {
  register(program, io) {
    program.command('bench-case', { hidden: true }).action(async () => {
      const send = process.send?.bind(process);
      if (!send) throw new LadderError('BAD_ARGUMENT', '`bench-case` is a part of `ladder bench`, which starts it; run that');
      process.on('disconnect', () => process.exit(1));
      const request = await new Promise<CaseRequest>((resolve) => process.once('message', resolve));
      const record = await measureCase(request, (message) => send(message), io.signal);
      await new Promise<void>((resolve, reject) =>
        send({ type: 'record', record } satisfies CaseMessage, (error: Error | null) => (error ? reject(error) : resolve())),
      );
      // An open channel would keep the process alive.
      process.removeAllListeners('disconnect');
      process.disconnect();
    });
  },
};
