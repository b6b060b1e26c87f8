/**
 * The kinds of operations: one record each, looked up by id. A new elementwise one is a record of an expression and a line here;
 * another kind also has its C++ in native/reference/<kind>.
 */
import { Registry } from '../registry.js';
import { attention } from './attention.js';
import { conv } from './conv.js';
import { dense } from './dense.js';
import { add, addHalf, geluOperator, geluTanhOperator, glu, relayout, relu, siluMul, siluOperator } from './elementwise.js';
import { channels, interleave, maxPool, meanRows } from './images.js';
import { norm } from './norm.js';
import type { Primitive } from './primitive.js';
import { quantise } from './quantise.js';
import { queryKey } from './query-key.js';
import { embedTokens, firstRows, patches } from './tokens.js';

export const operators = new Registry<Primitive>('operator', [
  dense,
  norm,
  quantise,
  attention,
  queryKey,
  conv,
  patches,
  embedTokens,
  firstRows,
  maxPool,
  meanRows,
  channels,
  interleave,
  add,
  relu,
  addHalf,
  geluOperator,
  geluTanhOperator,
  siluOperator,
  siluMul,
  glu,
  relayout,
]);
