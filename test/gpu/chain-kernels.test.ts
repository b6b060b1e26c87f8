// Products of few rows one after the other on a real GPU, each chain against the reference on the host: a vision transformer's in every
// format, attention before it or not, and each other beginning, end and number of rows in two, every tuning of a small one; as machine
// code and, forced, from compute_80 PTX, where there is a kernel per product.
import { beforeAll, describe, it } from 'vitest';
import { chain } from '../../lib/compiler/kernels/matmul/chain.js';
import {
  attentionChain,
  blockChain,
  chainProgram,
  conformerChain,
  gluChain,
  kChainFormats,
  kVit,
  kVitHeads,
  normFirstChain,
  type Written,
} from '../fixtures/chains.js';
import { storedProgram } from '../fixtures/programs.js';
import { missingForOperators, type OperatorCase, verifyOperators } from './operator-checkpoint.js';

let missing: string | null = null;
beforeAll(async () => {
  missing = await missingForOperators();
});

type Format = (typeof kChainFormats)[number];

function caseOf(name: string, written: Written, format: Format, tuning = {}): OperatorCase {
  return { name: [...format, name].join('_'), operator: chainProgram(written, format), among: [chain], tuning };
}

const kNarrow = { rows: 40, width: 128, hidden: 256, last: 384 };
const kWide = { rows: 64, width: 256, hidden: 512, last: 768 };

/** In every format. */
const kWhole: Readonly<Record<string, Written>> = { vit: attentionChain(kVit, kVitHeads) };
/** In two formats each, which take turns. */
const kOthers: Readonly<Record<string, Written>> = {
  vit_products: blockChain(kVit),
  rms: blockChain({ ...kNarrow, rows: 33 }, 'rms'),
  many: blockChain({ ...kVit, rows: 128 }),
  norm_first: normFirstChain({ ...kWide, rows: 100 }),
  rms_first: normFirstChain(kVit, 'rms'),
  two_norms: conformerChain(kNarrow),
  two_norms_wide: conformerChain({ ...kWide, rows: 61 }),
  glu: gluChain(kWide),
  two_heads_33: attentionChain({ ...kNarrow, rows: 33 }, 2),
  two_heads_64: attentionChain({ ...kNarrow, rows: 64 }, 2),
  eight_heads_33: attentionChain({ ...kWide, rows: 33 }, 8),
  eight_heads_64: attentionChain({ ...kWide, rows: 64 }, 8),
};

function chains(): OperatorCase[] {
  const count = kChainFormats.length;
  const formatsOf = (i: number): readonly Format[] => [kChainFormats[i % count]!, kChainFormats[(i + 2) % count]!];
  return [
    ...Object.entries(kWhole).flatMap(([name, written]) => kChainFormats.map((format) => caseOf(name, written, format))),
    ...Object.entries(kOthers).flatMap(([name, written], i) => formatsOf(i).map((format) => caseOf(name, written, format))),
  ];
}

describe('chains of products', { timeout: 600_000 }, () => {
  it.for(['sm_90a', 'compute_80'])('every format, %s', async (target, { skip }) => {
    if (missing) skip(missing);
    await verifyOperators(chains(), [target]);
  });

  it('every tuning', async ({ skip }) => {
    if (missing) skip(missing);
    const [written, format] = [attentionChain({ ...kNarrow, rows: 50 }, 2), ['int4', 'int4']] as const;
    const stored = storedProgram(chainProgram(written, format), [chain]);
    await verifyOperators(
      stored.configurations().map((tuning, i) => caseOf(`tuning${i}`, written, format, tuning)),
      ['sm_90a'],
    );
  });
});
