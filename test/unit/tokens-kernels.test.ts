// Which of a vision transformer's first and last rows the kernels of tokens take, and what they leave to the simple ones.
import { describe, expect, it } from 'vitest';
import { select } from '../../lib/compiler/kernels/index.js';
import { layoutTarget } from '../../lib/compiler/targets.js';
import { storedProgram } from '../fixtures/programs.js';
import { tokenOperators } from '../fixtures/images.js';
import { tokens } from '../../lib/compiler/kernels/tokens.js';

describe('kernels of tokens', () => {
  it('take patches, tokens with positions and first rows of multiples of eight numbers', () => {
    const operators = tokenOperators(2, 224, 32);
    expect(operators.map((program) => select(program, layoutTarget)?.family)).toEqual([tokens, tokens, tokens]);
    const [patches, embed, first] = operators.map((program) => storedProgram(program, [tokens]).plan('f', {}));
    expect([patches, embed, first].map((plan) => plan!.launches[0]!.grid[0])).toEqual([147, 150, 3]);
    expect(embed!.definitions).toContain('kImages = 2, kPatches = 49, kChannels = 3072;');
  });

  it('leave others to the simple kernels', () => {
    const [patches] = tokenOperators(1, 20, 4);
    expect(select(patches!, layoutTarget)?.family.id).toBe('simple/tokens');
    expect(tokens.accepts(patches!, layoutTarget)).toMatchObject({
      message: 'expected a multiple of 8 numbers side by side but received 4',
    });
  });
});
