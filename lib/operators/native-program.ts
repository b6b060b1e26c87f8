/**
 * A program as native code is handed it: formats as codes, elementwise operators as expressions, layouts written out, so that
 * nothing there knows a format or an operator by name that is only data.
 */
import type { NativeNode, NativeProgram, NativeValue } from '../native.js';
import { instructionsOf } from './expression.js';
import { operators } from './index.js';
import { rowMajor } from './layout.js';
import { cellBits, isQuantised, type Node, type Program, recordOf, scaleAxes, type Value } from './program.js';

/** `program` is one that checkProgram has passed. */
export function nativeProgram({ values, nodes, inputs, outputs, hints = [] }: Program): NativeProgram {
  return {
    values: [...values.map(nativeValue), ...hints.map(nativeHint)],
    nodes: nodes.map(nativeNode),
    inputs: [...inputs, ...hints.map((_, i) => values.length + i)],
    outputs,
  };
}

/** Bytes that no node reads. */
function nativeHint(bytes: number): NativeValue {
  const axes = [{ name: 'bytes', extent: bytes }];
  return {
    axes,
    type: 'quantised',
    element: { bits: 8, codes: { kind: 'integer', min: 0, max: 127 } },
    cellBits: 8,
    scale: null,
    layout: rowMajor(axes),
    scaleLayout: [],
  };
}

function nativeValue(value: Value): NativeValue {
  const { axes, type, layout, scaleLayout } = value;
  const common = { axes, cellBits: cellBits(type), layout: layout?.digits ?? rowMajor(axes) };
  if (!isQuantised(type)) return { ...common, type, element: null, scale: null, scaleLayout: [] };
  const { format, fit } = recordOf(type);
  return {
    ...common,
    type: 'quantised',
    element: format.element,
    scale: type.scale &&
      fit && {
        type: type.scale.type,
        fit,
        per: axes.flatMap(({ name }) => (type.scale!.per[name] === undefined ? [] : [{ axis: name, count: type.scale!.per[name] }])),
      },
    scaleLayout: type.scale ? (scaleLayout?.digits ?? rowMajor(scaleAxes(value, type.scale))) : [],
  };
}

function nativeNode({ kind, params, inputs, outputs }: Node): NativeNode {
  const { expression } = operators.get(kind);
  const entries = Object.entries(params);
  return {
    kind: expression ? 'map' : kind,
    numbers: Object.fromEntries(entries.flatMap(([name, value]) => (typeof value === 'string' ? [] : [[name, Number(value)]]))),
    strings: Object.fromEntries(entries.flatMap(([name, value]) => (typeof value === 'string' ? [[name, value]] : []))),
    expression: expression ? instructionsOf(expression) : null,
    inputs,
    outputs,
  };
}
