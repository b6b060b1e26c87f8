// Everything that is checked without running a test: `npm run lint`. Format and lint of TypeScript, JavaScript and JSON (Biome),
// format of C++ and CUDA (clang-format, as WebAssembly), types of lib/ and test/ (tsc). All three are run, whatever the first
// one says. `--write` applies the formats instead: `npm run format`.
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { format } from '@wasm-fmt/clang-format';

const root = fileURLToPath(new URL('..', import.meta.url));
const write = process.argv.includes('--write');
/** Where C++, C and CUDA lie; what is generated is named in .clang-format-ignore. */
const folders = ['native', 'test/fixtures', 'bench/kernels'];

/** One of the installed programs, by its file below node_modules/; true when it found nothing. */
function program(file, ...args) {
  const { error, status } = spawnSync(process.execPath, [join(root, 'node_modules', file), ...args], {
    cwd: root,
    stdio: ['ignore', 2, 2],
  });
  if (error) throw error;
  return status === 0;
}

const biome = (...args) => program('@biomejs/biome/bin/biome', ...args);

function cppFiles() {
  const ignored = new Set(readFileSync(join(root, '.clang-format-ignore'), 'utf8').split('\n'));
  return folders.flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true })
      .map((file) => `${folder}/${file}`)
      .filter((file) => /\.(c|cc|h|cu|cuh)$/.test(file) && !ignored.has(file))
      .sort(),
  );
}

/** Names each file that clang-format would change, and the first line that differs; or changes them. */
function clangFormat() {
  const style = readFileSync(join(root, '.clang-format'), 'utf8');
  let clean = true;
  for (const file of cppFiles()) {
    const path = join(root, file);
    const text = readFileSync(path, 'utf8');
    const formatted = format(text, file, style);
    if (formatted === text) continue;
    if (write) {
      writeFileSync(path, formatted);
      continue;
    }
    const lines = text.split('\n');
    const line = formatted.split('\n').findIndex((wanted, i) => wanted !== lines[i]);
    process.stderr.write(`${file}:${line + 1}: not as clang-format has it\n`);
    clean = false;
  }
  return clean;
}

const checks = write
  ? {
      // Twice: it breaks a few long chains otherwise when it reads lines of its own.
      'TypeScript format': () => biome('format', '--write') && biome('format', '--write'),
      'C++ format': clangFormat,
    }
  : {
      'TypeScript format and lint': () => biome('check', '--error-on-warnings', '--max-diagnostics=100'),
      'C++ format': clangFormat,
      types: () => program('typescript/bin/tsc', '-p', 'test'),
    };

const failed = Object.entries(checks).filter(([name, check]) => {
  const start = performance.now();
  const passed = check();
  process.stderr.write(`lint: ${name}: ${passed ? 'ok' : 'FAILED'} (${((performance.now() - start) / 1000).toFixed(1)} s)\n`);
  return !passed;
});
if (failed.length > 0) {
  if (!write) process.stderr.write('lint: `npm run format` applies the formats\n');
  process.exitCode = 1;
}
