// The public API as a list of names: each stands in test/types/public-api.test-d.ts, which says what it takes and gives.
import { readFileSync } from 'node:fs';
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
