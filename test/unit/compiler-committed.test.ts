// The committed checkpoints are what the builder makes today: a change of kernels or builder must describe them anew.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { checkpointPlace } from '../../lib/artifact/names.js';
import { designStored } from '../../lib/compiler/design.js';
import { figure8Requests } from '../../lib/compiler/figure8.js';
import { packageRoot } from '../../lib/run/package.js';

const root = join(packageRoot, 'checkpoints', 'Figure8', 'ladder', 'checkpoint');

describe('committed checkpoints', () => {
  it.each(figure8Requests().map((request) => [checkpointPlace(request), request] as const))(
    '%s is current: else `ladder build figure8 --no-compile`',
    async (name, request) => {
      const folder = join(root, name);
      expect(existsSync(folder)).toBe(true);
      const design = await designStored(request, folder, 'sm_90a');
      expect(readFileSync(join(folder, 'graph.json'), 'utf8')).toBe(design.graphText);
      expect(JSON.parse(readFileSync(join(folder, 'checkpoint.json'), 'utf8'))).toEqual(JSON.parse(JSON.stringify(design.manifest)));
    },
  );
});
