/**
 * The formats' records as C++: native/kernels/formats/records.cuh, which a test holds against this text
 * (`npx vitest run --config test/vitest.config.ts test/unit/formats-records -u` writes it anew).
 */
import type { Codes } from '../native.js';
import { activationFormats, weightFormats } from './index.js';

const mantissaBits = (codes: Codes): number => (codes.kind === 'float' ? codes.mantissaBits : 0);

function literal(value: number): string {
  return `${Number.isInteger(value) ? `${value}.0` : value}f`;
}

/** A table's values, a few to a line. */
function rows(values: readonly number[]): string {
  const lines: string[] = [];
  for (let i = 0; i < values.length; i += 4)
    lines.push(
      values
        .slice(i, i + 4)
        .map(literal)
        .join(', '),
    );
  return lines.join(',\n                                      ');
}

/** Of what kernels have an enumerator for, in the order of the records. */
export function kernelRecords(): string {
  const weights = weightFormats().filter(({ weight }) => weight.enumerator !== undefined);
  const activations = activationFormats().filter(({ activation }) => activation.enumerator !== undefined);
  // Two values need no table.
  const tables = weights.flatMap(({ element: { codes }, weight }) =>
    codes.kind === 'table' && codes.values.length > 2 ? [{ values: codes.values, enumerator: weight.enumerator! }] : [],
  );
  return `// Generated from lib/formats by lib/formats/cpp.ts, and held against it by test/unit/formats-records.test.ts: do not edit.
#pragma once

namespace ladder {

/// How weights are stored.
enum class WeightFormat { ${weights.map(({ weight }) => weight.enumerator!).join(', ')} };
/// What activations are multiplied as.
enum class ActivationFormat { ${activations.map(({ activation }) => activation.enumerator!).join(', ')} };

/// Bits of a code; mantissa bits of a floating-point one, else 0; whether blocks of weights share a power of two.
template <int bits, int mantissaBits, bool isMx>
struct WeightRecordOf {
  static constexpr int kBits = bits, kMantissaBits = mantissaBits;
  static constexpr bool kIsMx = isMx;
};
template <WeightFormat F> struct WeightRecord;
${weights.map(({ element, weight }) => `template <> struct WeightRecord<WeightFormat::${weight.enumerator!}> : WeightRecordOf<${element.bits}, ${mantissaBits(element.codes)}, ${weight.scale?.fit.kind === 'mx'}> {};`).join('\n')}

/// Mantissa bits of a floating-point code, else 0; the value that a token's largest magnitude becomes; the exponent of the largest
/// power of two, where blocks share one; whether they do; whether codes are whole numbers.
template <int mantissaBits, int largest, int emax, bool isMx, bool isInteger>
struct ActivationRecordOf {
  static constexpr int kMantissaBits = mantissaBits, kEmax = emax;
  static constexpr float kLargest = largest;
  static constexpr bool kIsMx = isMx, kIsInteger = isInteger;
};
template <ActivationFormat F> struct ActivationRecord;
${activations
  .map(({ element, activation }) => {
    const fit = activation.scale?.fit;
    const [largest, emax] = [fit?.kind === 'absmax' ? fit.top : 1, fit?.kind === 'mx' ? fit.emax : 0];
    return `template <> struct ActivationRecord<ActivationFormat::${activation.enumerator!}> : ActivationRecordOf<${mantissaBits(element.codes)}, ${largest}, ${emax}, ${fit?.kind === 'mx'}, ${element.codes.kind === 'integer'}> {};`;
  })
  .join('\n')}

/// Value of a code, before its scale, of formats that are tables.
template <WeightFormat F>
__device__ __forceinline__ float tableValue(int code);
${tables
  .map(
    ({ values, enumerator }) => `template <>
__device__ __forceinline__ float tableValue<WeightFormat::${enumerator}>(int code) {
  constexpr float kValues[${values.length}] = {${rows(values)}};
  return kValues[code];
}`,
  )
  .join('\n')}

}  // namespace ladder
`;
}
