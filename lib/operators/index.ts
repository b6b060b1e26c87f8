/**
 * The kinds of operations: one record each, looked up by id. A new elementwise one is a record of an expression and a line here;
 * another kind also has its C++ in native/reference/<kind>.
 */
import { Registry } from '../registry.js';
import { attention } from './attention.js';
import { dense } from './dense.js';
import { add, geluTanhOperator, relayout, relu, siluMul } from './elementwise.js';
import { norm } from './norm.js';
import type { Primitive } from './primitive.js';
import { quantise } from './quantise.js';

export const operators = new Registry<Primitive>('operator', [
  dense,
  norm,
  quantise,
  attention,
  add,
  relu,
  geluTanhOperator,
  siluMul,
  relayout,
]);
