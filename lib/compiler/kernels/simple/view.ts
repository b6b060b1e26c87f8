/**
 * CUDA text of a value as its operators see it: numbers by coordinates, whatever format and order they are stored in. What a code
 * means is written out from the format's record, so that a format needs no kernel of its own.
 */
import type { Element } from '../../../formats/codes.js';
import type { Codes, LayoutDigit } from '../../../native.js';
import { rowMajor } from '../../../operators/layout.js';
import { type Axis, cellBits, isQuantised, recordOf, scaleAxes, type Value } from '../../../operators/program.js';
import { floatLiteral } from '../launch.js';

/** A struct of a value's tensors, and how it is made from a kernel's parameters. */
export interface View {
  /** Definitions, the struct's among them. */
  readonly text: string;
  /** Name of the struct. */
  readonly type: string;
  /** Parameters of the kernel, in the order of the value's tensors. */
  readonly parameters: readonly string[];
  /** The struct with these parameters. */
  readonly make: string;
}

/** Linear index in storage, from coordinates named a0, a1, …, or whatever `name` says. */
function indexText(axes: readonly Axis[], digits: readonly LayoutDigit[], name = (axis: number): string => `a${axis}`): string {
  let weight = 1;
  const terms: string[] = [];
  for (const { axis, stride, size } of [...digits].reverse()) {
    const position = axes.findIndex(({ name }) => name === axis);
    const own = digits.filter((digit) => digit.axis === axis && digit.size > 1);
    if (size > 1) {
      const outermost = own.every((digit) => digit.stride <= stride);
      const value = `${name(position)}${stride === 1 ? '' : ` / ${stride}`}${outermost ? '' : ` % ${size}`}`;
      terms.unshift(weight === 1 ? value : `(${value}) * INT64_C(${weight})`);
    }
    weight *= size;
  }
  return terms.join(' + ') || '0';
}

function coordinates(axes: readonly Axis[]): string {
  return axes.map((_, i) => `int64_t a${i}`).join(', ');
}

function signBit({ bits }: Element): string {
  return `0x${(2 ** (bits - 1)).toString(16)}u`;
}

/** Value of a code named `code`. */
function decodeText(name: string, element: Element): string {
  const { bits, codes } = element;
  switch (codes.kind) {
    case 'float':
      return `ladder::decodeFloat<${codes.mantissaBits}, ${codes.bias}>(code, ${signBit(element)})`;
    case 'integer':
      return `ladder::decodeInteger<${bits}>(code)`;
    case 'table':
      return `${name}_table[code]`;
  }
}

/** Code of a value named `value`. */
function encodeText(element: Element): string {
  const { codes } = element;
  switch (codes.kind) {
    case 'float':
      return `ladder::encodeFloat<${codes.mantissaBits}, ${codes.bias}, 0x${codes.maxCode.toString(16)}u>(value, ${signBit(element)})`;
    case 'integer':
      return `ladder::encodeInteger(value, ${codes.min}, ${codes.max})`;
    case 'table':
      return nearestText(codes);
  }
}

/** Every midpoint that the value lies beyond is one code more. */
function nearestText({ values, tie }: Extract<Codes, { kind: 'table' }>): string {
  return values
    .slice(1)
    .map((value, i) => `(value ${tie === 'lower' ? '>' : '>='} ${floatLiteral(Math.fround((value + values[i]!) / 2))} ? 1u : 0u)`)
    .join(' + ');
}

const kNumberTypes = { f16: '__half', f32: 'float' } as const;

/** The view of a value that is read. `name` is unique in its unit. */
export function readView(name: string, value: Value): View {
  const { axes, type, layout } = value;
  const index = indexText(axes, layout?.digits ?? rowMajor(axes));
  const signature = `  __device__ __forceinline__ float at(${coordinates(axes)}) const`;
  if (!isQuantised(type)) {
    const number = `numbers[${index}]`;
    return {
      text: `struct ${name} {\n  const ${kNumberTypes[type]}* numbers;\n${signature} { return ${type === 'f16' ? `__half2float(${number})` : number}; }\n};\n`,
      type: name,
      parameters: [`${name}_numbers`],
      make: `${name}{static_cast<const ${kNumberTypes[type]}*>(${name}_numbers)}`,
    };
  }
  const { element } = recordOf(type).format;
  const table =
    element.codes.kind === 'table'
      ? `__device__ const float ${name}_table[] = {${element.codes.values.map(floatLiteral).join(', ')}};\n`
      : '';
  const scale = type.scale ? ` * scale(${axes.map((_, i) => `a${i}`).join(', ')})` : '';
  return {
    text: [
      `${table}struct ${name} {`,
      '  const uint8_t* codes;',
      ...(type.scale ? ['  const void* scales;', scaleText(value)] : []),
      `${signature} {`,
      `    const uint32_t code = ${loadText(value, index)};`,
      `    return ${decodeText(name, element)}${scale};`,
      '  }',
      '};\n',
    ].join('\n'),
    type: name,
    parameters: type.scale ? [`${name}_codes`, `${name}_scales`] : [`${name}_codes`],
    make: `${name}{static_cast<const uint8_t*>(${name}_codes)${type.scale ? `, ${name}_scales` : ''}}`,
  };
}

/** A code as it lies in memory; one of 16 bits is read whole. */
function loadText({ type }: Value, index: string): string {
  const bits = cellBits(type);
  return bits > 8 ? `reinterpret_cast<const uint16_t*>(codes)[${index}]` : `ladder::loadCode<${bits}>(codes, ${index})`;
}

function scaleText(value: Value): string {
  const { axes, type, scaleLayout } = value;
  if (!isQuantised(type) || !type.scale) return '';
  const { per } = type.scale;
  const own = scaleAxes(value, type.scale);
  const blockOf = (i: number): string =>
    `a${axes.findIndex((axis) => axis.name === own[i]!.name)}${per[own[i]!.name] === 1 ? '' : ` / ${per[own[i]!.name]}`}`;
  const index = indexText(own, scaleLayout?.digits ?? rowMajor(own), blockOf);
  const read = {
    f16: `__half2float(static_cast<const __half*>(scales)[${index}])`,
    f32: `static_cast<const float*>(scales)[${index}]`,
    e8m0: `ladder::scaleE8m0(static_cast<const uint8_t*>(scales)[${index}])`,
  };
  return `  __device__ __forceinline__ float scale(${coordinates(axes)}) const { return ${read[type.scale.type]}; }`;
}

/** The view of a result: numbers are stored as they come, rounded. */
export function writeView(name: string, { axes, type, layout }: Value): View {
  if (isQuantised(type)) throw new TypeError('quantised results have a view of their own');
  const number = kNumberTypes[type];
  return {
    text: `struct ${name} {\n  ${number}* numbers;\n  __device__ __forceinline__ void store(${coordinates(axes)}, float value) const { numbers[${indexText(axes, layout?.digits ?? rowMajor(axes))}] = ${type === 'f16' ? '__float2half_rn(value)' : 'value'}; }\n};\n`,
    type: name,
    parameters: [`${name}_numbers`],
    make: `${name}{static_cast<${number}*>(${name}_numbers)}`,
  };
}

/** The view of a quantised result of rows: its scale from a largest magnitude, its codes from quotients (native/kernels/simple/rows.cuh). */
export function quantiseView(name: string, value: Value): View {
  const { axes, type, layout, scaleLayout } = value;
  if (!isQuantised(type) || !type.scale) throw new TypeError('expected a quantised result with scales');
  const { format, fit } = recordOf(type);
  const own = scaleAxes(value, type.scale);
  const isMx = fit?.kind === 'mx';
  const scale = isMx ? 'uint32_t' : 'float';
  // Scales per row have no coordinate along it.
  const scaleIndex = indexText(own, scaleLayout?.digits ?? rowMajor(own));
  const stored = isMx ? 'uint8_t' : 'float';
  return {
    text: [
      `struct ${name} {`,
      '  uint8_t* codes;',
      `  ${stored}* scales;`,
      isMx
        ? `  __device__ __forceinline__ ${scale} scaleOf(float amax) const { return amax == 0.0f ? 127u : static_cast<uint32_t>(min(max(ilogbf(amax) - ${fit.emax} + 127, 0), 254)); }`
        : `  __device__ __forceinline__ ${scale} scaleOf(float amax) const { const float s = __fdiv_rn(amax, ${floatLiteral(fit?.kind === 'absmax' ? fit.top : 1)}); return s == 0.0f ? 1.0f : s; }`,
      isMx
        ? '  __device__ __forceinline__ float quotient(float value, uint32_t scale) const { return ldexpf(value, 127 - static_cast<int>(scale)); }'
        : '  __device__ __forceinline__ float quotient(float value, float scale) const { return __fdiv_rn(value, scale); }',
      `  __device__ __forceinline__ void store(${coordinates(axes)}, float value) const { codes[${indexText(axes, layout?.digits ?? rowMajor(axes))}] = static_cast<uint8_t>(${encodeText(format.element)}); }`,
      `  __device__ __forceinline__ void storeScale(int64_t a0, int64_t a1, ${scale} scale) const { scales[${scaleIndex}] = static_cast<${stored}>(scale); }`,
      '};\n',
    ].join('\n'),
    type: name,
    parameters: [`${name}_codes`, `${name}_scales`],
    make: `${name}{static_cast<uint8_t*>(${name}_codes), static_cast<${stored}*>(${name}_scales)}`,
  };
}
