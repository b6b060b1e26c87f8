/** PyTorch's own products at low precision in a compiled decoder layer: measured here only, Figure 8 and its logs do not have them. */
import type { PyTorchPrecision } from '../adapters/pytorch.js';
import { kDarkHatch, kLightHatch, type Fill, type System } from './system.js';

function lowPrecision(label: string, place: number, fill: Fill, precision: Omit<PyTorchPrecision, 'system'>): System {
  const id = `pytorch-${precision.name}`;
  return {
    id,
    label,
    bars: { fill },
    adapter: {
      place,
      load: async () => new (await import('../adapters/pytorch.js')).PyTorchAdapter('inductor', { system: id, ...precision }),
    },
  };
}

export const pyTorchLowPrecision: readonly System[] = [
  lowPrecision(
    'PyTorch-FP8',
    7,
    { color: '#c65a2b', hatch: 'falling', hatchColor: kLightHatch },
    {
      name: 'fp8',
      format: { weight: 'fp8_e4m3', activation: 'fp8_e4m3' },
      bytesPerWeight: 1,
      products: '_scaled_mm, one scale per row and token, fast accumulation; BFloat16 between',
    },
  ),
  lowPrecision(
    'PyTorch-INT4',
    8,
    { color: '#f6c9ae', hatch: 'cross', hatchColor: kDarkHatch },
    {
      name: 'int4',
      format: { weight: 'int4', activation: 'fp16' },
      bytesPerWeight: 0.5,
      products: '_weight_int4pack_mm, groups of 128, BFloat16 activations',
    },
  ),
];
