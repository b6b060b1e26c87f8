/**
 * `ladder tune-lane`: what one GPU of `ladder tune --device cuda:all` tunes, in the process that was made for it. Takes its orders over
 * Node's IPC channel and ends when the command does, so that no search outlives it.
 */
import { on } from 'node:events';
import type { LaneMessage, LaneOrder } from '../compiler/tune/lanes.js';
import { searchEach } from '../compiler/tune/tuner.js';
import { LadderError } from '../errors.js';
import type { Command } from './command.js';

const kProgressIntervalMs = 100;

async function tuneLane(nextOrder: () => Promise<LaneOrder>, send: (message: LaneMessage) => void, signal: AbortSignal): Promise<void> {
  const receive = async <Type extends LaneOrder['type']>(type: Type): Promise<Extract<LaneOrder, { type: Type }>> => {
    const order = await nextOrder();
    if (order.type !== type) throw new LadderError('INTERNAL', `expected the order ${type} but received ${order.type}`);
    return order as Extract<LaneOrder, { type: Type }>;
  };
  const { ordinal, candidates, missing, jobs } = await receive('begin');
  let lastMs = 0;
  await searchEach(
    async () => {
      send({ type: 'next' });
      return (await receive('path')).path;
    },
    {
      deviceOrdinal: ordinal,
      ...(candidates !== null && { candidates }),
      missing,
      jobs,
      signal,
      onProgress: (fraction, label, remaining) => {
        if (performance.now() - lastMs < kProgressIntervalMs) return;
        lastMs = performance.now();
        send({ type: 'progress', fraction, label, remaining });
      },
    },
    (tuned) => send({ type: 'tuned', tuned }),
  );
}

export const tuneLaneCommand: Command = {
  register(program, io) {
    program.command('tune-lane', { hidden: true }).action(async () => {
      const send = process.send?.bind(process);
      if (!send) throw new LadderError('BAD_ARGUMENT', '`tune-lane` is a part of `ladder tune`, which starts it; run that');
      process.on('disconnect', () => process.exit(1));
      const orders = on(process, 'message') as AsyncIterator<[LaneOrder]>;
      try {
        await tuneLane(
          async () => (await orders.next()).value[0],
          (message) => send(message),
          io.signal,
        );
      } catch (error) {
        if (!(error instanceof LadderError)) throw error;
        const { code, message, context } = error;
        send({ type: 'failed', code, message, context } satisfies LaneMessage);
        throw error;
      } finally {
        // An open channel would keep the process alive; what was sent is written first.
        process.removeAllListeners('disconnect');
        process.disconnect();
      }
    });
  },
};
