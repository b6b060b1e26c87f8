/**
 * What verification says of a checkpoint that must not even be loaded: its model.so is not as it was built. The files of one
 * that is loaded are verify.ts's.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { checkModuleHash, readManifest } from '../artifact/checkpoint.js';
import { kModuleFile, locateCheckpoint } from '../artifact/locate.js';
import { selectDevice } from './device.js';
import { parseOptions, verifyOptionsSchema } from './option-checks.js';
import type { LoadOptions, VerifyRunOptions } from './options.js';
import { resolveCheckpoint } from './package.js';
import type { VerifyReport } from './verdict.js';

/**
 * The report on a checkpoint of ours whose model.so is not as its hash says, or carries none; null for any other.
 * @throws LadderError `NOT_A_CHECKPOINT`, `BAD_MANIFEST`, `BAD_ARGUMENT`, `IO`
 */
export async function reportDamage(path: string, { device }: LoadOptions, options: VerifyRunOptions): Promise<VerifyReport | null> {
  const folder = await locateCheckpoint(resolveCheckpoint(path));
  const modulePath = join(folder, kModuleFile);
  if ((await readManifest(folder)) === null || !existsSync(modulePath)) return null;
  const { file, matches, detail } = await checkModuleHash(modulePath);
  if (matches) return null;
  return {
    passed: false,
    kind: 'semantic',
    structure: [{ name: file, passed: matches, detail }],
    operators: [],
    endToEnd: [],
    endToEndScope: 'nothing was run: model.so is not as it was built',
    device: selectDevice(device ?? 'auto'),
    seed: parseOptions(verifyOptionsSchema, options).seed,
  };
}
