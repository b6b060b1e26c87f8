// Work shared out over lanes: each piece once, the next to whoever is free, and what a failure leaves undone.
import { setTimeout as after } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { shareOut } from '../../lib/run/lanes.js';

describe('shareOut', () => {
  it('gives each piece to one lane, and the next to the one that is free', async () => {
    const done: string[] = [];
    // The first piece keeps its lane busy until the other has done the rest.
    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    await shareOut('abcde', [0, 1], async (piece, index, lane) => {
      if (index === 0) await held;
      done.push(`${index}${piece}${lane}`);
      if (index === 4) release();
    });
    expect(done).toEqual(['1b1', '2c1', '3d1', '4e1', '0a0']);
  });

  it('more lanes than pieces, and none at all, are no error', async () => {
    const done: number[] = [];
    await shareOut([7], [0, 1, 2], async (piece) => void done.push(piece));
    await shareOut([], [0], async () => expect.unreachable());
    expect(done).toEqual([7]);
  });

  it('after a failure nothing is begun, what others are at is finished, and the first failure is thrown', async () => {
    const finished: number[] = [];
    const work = async (piece: number): Promise<void> => {
      if (piece === 0) throw new Error('first');
      await after(20);
      if (piece === 1) throw new Error('second');
      finished.push(piece);
    };
    await expect(shareOut([0, 1, 2, 3, 4], ['a', 'b', 'c'], work)).rejects.toThrow('first');
    expect(finished).toEqual([2]);
  });
});
