/** `ladder list`: the checkpoints that names on the command line can mean. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { readManifest } from '../artifact/checkpoint.js';
import { kModuleFile, kParamsFile } from '../artifact/locate.js';
import type { Manifest } from '../artifact/manifest.js';
import { LadderError } from '../errors.js';
import { listCheckpoints, type FoundCheckpoint } from '../run/package.js';
import { caseOf, type CheckpointCase } from '../run/names.js';
import type { Command } from './command.js';
import { formatBytes, renderTable } from '../table.js';

/** One line of the list. */
export interface ListedCheckpoint extends FoundCheckpoint, CheckpointCase {
  /** Whether checkpoint.json describes it. */
  readonly described: boolean;
  readonly hasModule: boolean;
  readonly hasParams: boolean;
  /** Bytes that one inference must move, by its manifest. */
  readonly bytes: number | null;
  /** Why its checkpoint.json cannot be read; null where it can, or is absent. */
  readonly problem: string | null;
}

/** A checkpoint that is broken is listed, and hides none. */
async function describe(found: FoundCheckpoint): Promise<ListedCheckpoint> {
  let manifest: Manifest | null = null;
  let problem: string | null = null;
  try {
    manifest = await readManifest(found.path);
  } catch (error) {
    if (!(error instanceof LadderError)) throw error;
    problem = error.message;
  }
  return {
    ...found,
    ...caseOf(found.path, manifest),
    described: manifest !== null,
    hasModule: existsSync(join(found.path, kModuleFile)),
    hasParams: existsSync(join(found.path, kParamsFile)),
    bytes: manifest?.bytes ?? null,
    problem,
  };
}

export const listCommand: Command = {
  register(program, io) {
    program
      .command('list')
      .description('list the checkpoints below checkpoints/')
      .argument('[folder]', 'a folder with checkpoints below it (default: checkpoints/Figure8/ladder/checkpoint and checkpoints)')
      .option('--json', 'machine-readable result')
      .action(async (folder: string | undefined, options: { json?: boolean }) => {
        const listed = await Promise.all((await listCheckpoints(folder, io.note)).map(describe));
        for (const { name, problem } of listed) if (problem !== null) io.note(`${name}: ${problem}`);
        if (options.json) return io.out(JSON.stringify(listed));
        if (listed.length === 0) return io.out('no checkpoints; `ladder build` makes one');
        io.out(
          renderTable(
            [
              { title: 'checkpoint' },
              { title: 'setting' },
              { title: 'format' },
              { title: 'model' },
              { title: 'moves', align: 'right' },
              { title: 'model.so' },
              { title: 'weights' },
            ],
            listed.map((one) => [
              one.name,
              one.setting,
              one.format,
              one.model,
              one.bytes === null ? '—' : formatBytes(one.bytes),
              one.hasModule ? 'there' : one.described ? 'built on first use' : 'absent',
              one.problem !== null ? 'unreadable' : one.hasParams ? 'graph.params' : one.described ? 'seeded' : 'fake',
            ]),
          ),
        );
      });
  },
};
