/**
 * The vendor's layer: its library's products and attention of a decoder layer in a row, and nothing of what lies between them.
 * Measured here only. One system per type, as they are other sequences of other kernels.
 */
import type { VendorLayer } from '../adapters/vendor.js';
import { kDarkHatch, kLightHatch, type Fill, type System } from './system.js';

function vendor(label: string, place: number, fill: Fill, layer: Omit<VendorLayer, 'system'>): System {
  const id = `vendor-${layer.type}`;
  return {
    id,
    label,
    bars: { fill },
    tablesOnly: true,
    adapter: { place, load: async () => new (await import('../adapters/vendor.js')).VendorAdapter({ system: id, ...layer }) },
  };
}

const kHalves = { weight: 'fp16', activation: 'fp16' } as const;
const kE4m3 = { weight: 'fp8_e4m3', activation: 'fp8_e4m3' } as const;
/** The vendor multiplies no E5M2 by E5M2. */
const kE5m2 = { weight: 'fp8_e5m2', activation: 'fp8_e5m2' } as const;

/** cuBLASLt and cuDNN. */
export const vendorLayers: readonly System[] = [
  vendor(
    'Vendor-FP16',
    9,
    { color: '#5f7f3a', hatch: 'none', hatchColor: kDarkHatch },
    { type: 'fp16', format: kHalves, rivals: kHalves, bytesPerWeight: 2, product: 'torch.mm' },
  ),
  vendor(
    'Vendor-FP8',
    10,
    { color: '#7f9f5a', hatch: 'rising', hatchColor: kLightHatch },
    { type: 'fp8', format: kE4m3, rivals: kE5m2, bytesPerWeight: 1, product: '_scaled_mm(use_fast_accum=False), one scale' },
  ),
  vendor(
    'Vendor-FP8-Fast',
    11,
    { color: '#9fbf7a', hatch: 'falling', hatchColor: kDarkHatch },
    { type: 'fp8-fast', format: kE4m3, rivals: kE5m2, bytesPerWeight: 1, product: '_scaled_mm(use_fast_accum=True), one scale' },
  ),
  vendor(
    'Vendor-INT8',
    12,
    { color: '#c4d9a8', hatch: 'grid', hatchColor: kDarkHatch },
    {
      type: 'int8',
      format: { weight: 'int8', activation: 'int8' },
      rivals: { weight: 'int1', activation: 'int8' },
      bytesPerWeight: 1,
      product: '_int_mm, INT32 results',
    },
  ),
];
