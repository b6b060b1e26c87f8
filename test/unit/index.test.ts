// The public API as a list of names: each stands in test/types/public-api.test-d.ts, which says what it takes and gives.
import { readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { expect, it } from 'vitest';

const read = (path: string): string => readFileSync(fileURLToPath(new URL(path, import.meta.url)), 'utf8');

it('every export of lib/index.ts has its types tested', () => {
  const { statements } = ts.createSourceFile('index.ts', read('../../lib/index.ts'), ts.ScriptTarget.ES2022);
  const names = statements.flatMap((statement) => {
    if (ts.isExportDeclaration(statement) && statement.exportClause && ts.isNamedExports(statement.exportClause))
      return statement.exportClause.elements.map(({ name }) => name.text);
    const exported = ts.canHaveModifiers(statement) && ts.getModifiers(statement)?.some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword);
    return exported && ts.isFunctionDeclaration(statement) ? [statement.name!.text] : [];
  });
  expect(names.length).toBeGreaterThan(40);
  const tested = read('../types/public-api.test-d.ts')
    .split('\n')
    .filter((line) => line.includes('expectTypeOf'));
  expect(names.filter((name) => !tested.some((line) => new RegExp(`\\b${name}\\b`).test(line)))).toEqual([]);
});

it('the declarations that the public ones reach need no other package', () => {
  const dist = fileURLToPath(new URL('../../dist', import.meta.url));
  const from = new Map<string, string | null>([[join(dist, 'index.d.ts'), null]]);
  const foreign: string[] = [];
  for (const file of from.keys()) {
    for (const { fileName } of ts.preProcessFile(readFileSync(file, 'utf8'), true, true).importedFiles) {
      if (fileName.startsWith('.')) {
        const to = join(dirname(file), fileName.replace(/\.js$/, '.d.ts'));
        if (!from.has(to)) from.set(to, file);
        continue;
      }
      const chain = [fileName];
      for (let one: string | null | undefined = file; one; one = from.get(one)) chain.push(relative(dist, one));
      if (!fileName.startsWith('node:')) foreign.push(chain.join(' ← '));
    }
  }
  expect(from.size).toBeGreaterThan(20);
  expect(foreign).toEqual([]);
});
