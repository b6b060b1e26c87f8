/**
 * IEEE half precision and bfloat16 on the host, for the few tensors that cross into JavaScript.
 * Bulk conversion of weights is native; this is for inputs, outputs and tests.
 */

const float32 = new Float32Array(1);
const bits32 = new Uint32Array(float32.buffer);

/** FP16 bits of `value`, rounded to nearest even; overflows to infinity, keeps NaN. */
export function toHalf(value: number): number {
  float32[0] = value;
  const bits = bits32[0] ?? 0;
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  // 65520 is the first value that rounds to 2^16.
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude >= 0x38800000) {
    // Normal: drop 13 mantissa bits; a carry into the exponent is what rounding up means.
    const rounded = magnitude + 0xfff + ((magnitude >>> 13) & 1);
    return sign | ((rounded - 0x38000000) >>> 13);
  }
  // Subnormal: units of 2^-24. Math.round rounds halves up, so ties are set to even by hand.
  const scaled = Math.abs(float32[0] ?? 0) * 2 ** 24;
  const floor = Math.floor(scaled);
  const rest = scaled - floor;
  return sign | (rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor);
}

/** The value of FP16 bits. */
export function fromHalf(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >>> 10) & 0x1f;
  const mantissa = bits & 0x3ff;
  if (exponent === 0x1f) return mantissa ? Number.NaN : sign * Infinity;
  return exponent === 0 ? sign * mantissa * 2 ** -24 : sign * (1024 + mantissa) * 2 ** (exponent - 25);
}

/** bfloat16 bits of `value`, rounded to nearest even. */
export function toBfloat16(value: number): number {
  float32[0] = value;
  const bits = bits32[0] ?? 0;
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

/** The value of bfloat16 bits. */
export function fromBfloat16(bits: number): number {
  bits32[0] = bits << 16;
  return float32[0] ?? 0;
}
