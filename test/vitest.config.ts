// Test layout: unit/ needs no GPU, gpu/ skips itself with a reason where there is none.
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    root: fileURLToPath(new URL('..', import.meta.url)),
    include: ['test/**/*.test.ts'],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    // The addon lives in child processes, so that a native crash fails one file and not the run.
    pool: 'forks',
    maxWorkers: 2,
  },
});
