// Dependencies point one way: reads every import of lib/ and every #include of native/, and names each cycle between files, each
// cycle between rooms (the folders at the top of a tree), and each arrow against the order of the layers below.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';

const repository = fileURLToPath(new URL('../..', import.meta.url));

interface Tree {
  readonly folder: string;
  readonly sources: RegExp;
  /**
   * Rooms from the top: one may use those on its own level and below. A file directly in the folder is a room of its own, at the
   * bottom unless it is named.
   */
  readonly layers: readonly (readonly string[])[];
  /** Files that stand apart from their folder: in the room of that name. */
  readonly moved?: Readonly<Record<string, string>>;
  /** Not of this tree. */
  readonly without?: string;
  readonly read: (text: string) => readonly { readonly to: string; readonly line: number }[];
  /** Paths below the folder that an import may mean, best first. */
  readonly resolve: (from: string, to: string) => readonly string[];
}

const trees: readonly Tree[] = [
  {
    folder: 'lib',
    sources: /\.ts$/,
    layers: [
      ['index.ts', 'cli'],
      ['run', 'compiler', 'baselines', 'figure8'],
      ['artifact'],
      ['operators', 'models'],
      ['formats'],
      ['native.ts', 'errors.ts'],
    ],
    read: importsOf,
    resolve: (from, to) => [normalize(join(dirname(from), to.replace(/\.js$/, '.ts')))],
  },
  {
    folder: 'native',
    sources: /\.(cc|h)$/,
    without: 'kernels',
    layers: [['addon.cc'], ['binding'], ['runtime', 'timing', 'pack'], ['tvm_abi', 'reference'], ['cuda'], ['base']],
    // What every room throws, counts and allocates with. They include each other only.
    moved: { 'runtime/error.h': 'base', 'runtime/accounting.h': 'base', 'runtime/host_buffer.h': 'base' },
    read: includesOf,
    resolve: (from, to) => [normalize(join(dirname(from), to)), to],
  },
  {
    folder: 'native/kernels',
    sources: /\.cuh$/,
    layers: [['simple'], ['attention', 'conv', 'tokens', 'matmul', 'norm'], ['formats'], ['core']],
    read: includesOf,
    resolve: (from, to) => [to, normalize(join(dirname(from), to))],
  },
];

/** Relative imports, exports from, import() and types of import(), each with its line. */
function importsOf(text: string): { to: string; line: number }[] {
  return ts
    .preProcessFile(text, true, true)
    .importedFiles.filter(({ fileName }) => fileName.startsWith('.'))
    .map(({ fileName, pos }) => ({ to: fileName, line: text.slice(0, pos).split('\n').length }));
}

/** #include "…"; those in <…> are not ours. */
function includesOf(text: string): { to: string; line: number }[] {
  return text.split('\n').flatMap((content, i) => {
    const to = /^\s*#\s*include\s*"([^"]+)"/.exec(content)?.[1];
    return to === undefined ? [] : [{ to, line: i + 1 }];
  });
}

interface Arrow {
  readonly from: string;
  readonly to: string;
  readonly fromRoom: string;
  readonly toRoom: string;
  /** `lib/a/b.ts:3: a → c (lib/c/d.ts)` */
  readonly text: string;
}

function readTree({ folder, sources, without, moved = {}, read, resolve }: Tree): {
  files: readonly string[];
  arrows: readonly Arrow[];
  lost: readonly string[];
} {
  const roomOf = (file: string): string => moved[file] ?? file.split('/')[0]!;
  const files = (readdirSync(join(repository, folder), { recursive: true }) as string[])
    .filter((file) => sources.test(file) && (without === undefined || !file.startsWith(`${without}/`)))
    .sort();
  const arrows: Arrow[] = [];
  const lost: string[] = [];
  for (const from of files) {
    for (const { to: written, line } of read(readFileSync(join(repository, folder, from), 'utf8'))) {
      const place = `${folder}/${from}:${line}`;
      const to = resolve(from, written).find((path) => existsSync(join(repository, folder, path)));
      if (to === undefined) lost.push(`${place}: no file ${written}`);
      else
        arrows.push({
          from,
          to,
          fromRoom: roomOf(from),
          toRoom: roomOf(to),
          text: `${place}: ${roomOf(from)} → ${roomOf(to)} (${folder}/${to})`,
        });
    }
  }
  return { files, arrows, lost };
}

/** Groups of nodes that reach each other (Tarjan 1972), and nodes that reach themselves. */
function cycles(edges: readonly (readonly [string, string])[]): string[][] {
  const next = new Map<string, string[]>();
  for (const [from, to] of edges) {
    next.set(from, [...(next.get(from) ?? []), to]);
    if (!next.has(to)) next.set(to, []);
  }
  const index = new Map<string, number>();
  const low = new Map<string, number>();
  const stack: string[] = [];
  const found: string[][] = [];
  const visit = (node: string): void => {
    index.set(node, index.size);
    low.set(node, index.get(node)!);
    stack.push(node);
    for (const other of next.get(node)!) {
      if (!index.has(other)) visit(other);
      if (stack.includes(other)) low.set(node, Math.min(low.get(node)!, low.get(other)!));
    }
    if (low.get(node) !== index.get(node)) return;
    const group = stack.splice(stack.indexOf(node));
    if (group.length > 1 || next.get(node)!.includes(node)) found.push(group.sort());
  };
  for (const node of next.keys()) if (!index.has(node)) visit(node);
  return found;
}

describe.each(trees)('$folder', (tree) => {
  const { files, arrows, lost } = readTree(tree);

  it('is read: every import names a file', () => {
    expect(files.length).toBeGreaterThan(10);
    expect(arrows.length).toBeGreaterThan(files.length / 2);
    expect(lost).toEqual([]);
  });

  it('has no cycle between files', () => {
    const found = cycles(arrows.map(({ from, to }) => [from, to]));
    expect(
      found.flatMap((group) => arrows.filter(({ from, to }) => group.includes(from) && group.includes(to)).map(({ text }) => text)),
    ).toEqual([]);
  });

  it('has no cycle between rooms', () => {
    const between = arrows.filter(({ fromRoom, toRoom }) => fromRoom !== toRoom);
    const found = cycles(between.map(({ fromRoom, toRoom }) => [fromRoom, toRoom]));
    expect(
      found.flatMap((group) =>
        between.filter(({ fromRoom, toRoom }) => group.includes(fromRoom) && group.includes(toRoom)).map(({ text }) => text),
      ),
    ).toEqual([]);
  });

  it('has no arrow against the order', () => {
    const levelOf = (room: string): number => {
      const level = tree.layers.findIndex((rooms) => rooms.includes(room));
      return level < 0 && tree.sources.test(room) ? tree.layers.length - 1 : level;
    };
    const against = arrows.flatMap(({ fromRoom, toRoom, text }) => {
      const placeless = [fromRoom, toRoom].find((room) => levelOf(room) < 0);
      if (placeless !== undefined) return [`${text}: ${placeless} has no place in the order`];
      return levelOf(toRoom) < levelOf(fromRoom) ? [text] : [];
    });
    expect(against).toEqual([]);
  });
});

describe('the readers', () => {
  it('see every kind of import, and no text or comment', () => {
    const text = [
      "import { a } from './a.js';",
      "import type { B } from './b.js';",
      "import './c.js'; import fs from 'node:fs';",
      "export * from './d.js';",
      "export type { E } from './e.js';",
      "type F = typeof import('./f.js');",
      "const g = await import('./g.js');",
      "/* import './no.js'; */ const text = \"import './no.js'\"; // import './no.js'",
      "import {\n  type H,\n} from './h.js';",
    ].join('\n');
    expect(importsOf(text)).toEqual(
      ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'].map((name, i) => ({ to: `./${name}.js`, line: i + (name === 'h' ? 4 : 1) })),
    );
    expect(includesOf('#pragma once\n#include <vector>\n#include "a.h"\n// #include "no.h"\n  #  include "../b/c.h"')).toEqual([
      { to: 'a.h', line: 3 },
      { to: '../b/c.h', line: 5 },
    ]);
  });

  it('find a cycle of three and one of one, and nothing in a fork', () => {
    const edges = (text: string): [string, string][] => text.split(' ').map((edge) => [edge[0]!, edge[1]!]);
    expect(cycles(edges('ab bc ca cd ee'))).toEqual([['a', 'b', 'c'], ['e']].sort());
    expect(cycles(edges('ab ac bd cd'))).toEqual([]);
  });
});
