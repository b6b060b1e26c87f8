// Products of few rows one after the other on a real GPU, each chain against the reference on the host: every format, what begins and ends
// chains, ends of clusters' rows, every tuning; as machine code and, forced, from compute_80 PTX, where there is a kernel per product.
import { beforeAll, describe, it } from 'vitest';
import { chain } from '../../lib/compiler/kernels/matmul/chain.js';
import {
  blockChain,
  chainProgram,
  conformerChain,
  gluChain,
  kChainFormats,
  kVit,
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

const chains = (format: Format): OperatorCase[] => [
  caseOf('vit', blockChain(kVit), format),
  caseOf('rms', blockChain({ ...kNarrow, rows: 33 }, 'rms'), format),
  caseOf('many', blockChain({ ...kVit, rows: 128 }), format),
  caseOf('norm_first', normFirstChain({ ...kWide, rows: 100 }), format),
  caseOf('rms_first', normFirstChain(kVit, 'rms'), format),
  caseOf('two_norms', conformerChain(kNarrow), format),
  caseOf('two_norms_wide', conformerChain({ ...kWide, rows: 61 }), format),
  caseOf('glu', gluChain(kWide), format),
];

describe('chains of products', { timeout: 600_000 }, () => {
  it.for(['sm_90a', 'compute_80'])('every format, %s', async (target, { skip }) => {
    if (missing) skip(missing);
    await verifyOperators(kChainFormats.flatMap(chains), [target]);
  });

  it('every tuning', async ({ skip }) => {
    if (missing) skip(missing);
    await verifyOperators(
      kChainFormats
        .filter(([, activation]) => ['fp16', 'fp8_e5m2', 'int4'].includes(activation))
        .flatMap((format) => {
          const written = normFirstChain({ ...kWide, rows: 50 });
          return storedProgram(chainProgram(written, format), [chain])
            .configurations()
            .map((tuning, i) => caseOf(`tuning${i}`, written, format, tuning));
        }),
      ['sm_90a'],
    );
  });
});
