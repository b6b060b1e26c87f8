// One piece of knowledge, one record: no list of formats, models or systems and no test for a kind of operator outside the
// records, the kernels and the tests. Reads the sources without their comments.
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';
import { formats } from '../../lib/formats/index.js';
import { models } from '../../lib/models/index.js';
import { operators } from '../../lib/operators/index.js';

const kRoot = fileURLToPath(new URL('../..', import.meta.url));

/** Where records live, and what stands beside them: the kernels' own side of the compiler, and the reader of old manifests. */
const kRecords = [
  'lib/formats/',
  'lib/models/',
  'lib/operators/',
  'lib/baselines/systems/',
  'lib/compiler/kernels/',
  'lib/artifact/upgrade.ts',
];
/** The vendor's products have types of their own, some of which are called like formats. */
const kVendor = ['lib/native.ts', 'lib/baselines/ceilings.ts', 'lib/baselines/adapters/cublaslt.ts'];

interface Token {
  readonly file: string;
  readonly line: number;
  readonly text: string;
  /** Of a string its contents. */
  readonly string: string | null;
}

function tokensOf(path: string): readonly Token[] {
  const source = readFileSync(path, 'utf8');
  const file = relative(kRoot, path);
  const tokens: Token[] = [];
  const tree = ts.createSourceFile(path, source, ts.ScriptTarget.Latest, true);
  const visit = (node: ts.Node): void => {
    if (node.getChildCount(tree) === 0 && node.kind !== ts.SyntaxKind.EndOfFileToken && node.kind < ts.SyntaxKind.FirstJSDocNode) {
      const text = node.getText(tree);
      const isString = ts.isStringLiteralLike(node) || ts.isTemplateHead(node) || ts.isTemplateMiddle(node) || ts.isTemplateTail(node);
      tokens.push({
        file,
        line: tree.getLineAndCharacterOfPosition(node.getStart(tree)).line + 1,
        text,
        string: isString ? (node as ts.LiteralLikeNode).text : ts.isRegularExpressionLiteral(node) ? text : null,
      });
    }
    node.getChildren(tree).forEach(visit);
  };
  visit(tree);
  return tokens;
}

const kFiles = readdirSync(join(kRoot, 'lib'), { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile() && entry.name.endsWith('.ts') && !entry.name.endsWith('.d.ts'))
  .map((entry) => join(entry.parentPath, entry.name));
const kTokens = kFiles.filter((path) => !kRecords.some((place) => relative(kRoot, path).startsWith(place))).map(tokensOf);

/** Every string that says one of the words as a word of its own. */
function stringsWith(words: readonly string[], except: readonly string[] = []): readonly string[] {
  const pattern = new RegExp(`(?<![\\w-])(?:${words.map((word) => word.replace(/[^\w]/g, '\\$&')).join('|')})(?![\\w-])`);
  return kTokens
    .flat()
    .filter(({ file, string }) => string !== null && !except.includes(file) && pattern.test(string))
    .map(({ file, line, text }) => `${file}:${line}: ${text}`);
}

describe('outside the records', () => {
  it('no string names a format', () => {
    expect(stringsWith([...formats.ids(), ...formats.all().flatMap(({ label }) => [`W_${label}`, `A_${label}`])], kVendor)).toEqual([]);
  });

  it('no string names a model', () => {
    expect(stringsWith(models.all().flatMap(({ id, label }) => [id, label]))).toEqual([]);
  });

  it('nothing asks what kind an operator is', () => {
    const found = kTokens.flatMap((tokens) =>
      tokens.flatMap(({ file, line, text }, i) => {
        const next = tokens[i + 1]?.text ?? '';
        const after = tokens[i + 2]?.string ?? null;
        // TVM's graph has an `op`, too: a node is an input or calls a function.
        const compares =
          (text === 'op' || text === 'kind') &&
          /^[!=]==?$/.test(next) &&
          (text === 'op' ? after === null || !['null', 'tvm_op'].includes(after) : after !== null && operators.has(after));
        const branches = text === 'case' && tokens[i + 1]?.string != null && operators.has(tokens[i + 1]!.string!);
        return compares || branches ? [`${file}:${line}: ${text} ${next}`] : [];
      }),
    );
    expect(found).toEqual([]);
  });

  it('looks at something', () => {
    expect(kFiles.length).toBeGreaterThan(100);
    expect(tokensOf(join(kRoot, 'lib/formats/nf4.ts')).filter(({ string }) => string === 'nf4')).toHaveLength(1);
  });
});
