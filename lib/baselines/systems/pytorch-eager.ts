/** PyTorch without a compiler: measured here only, Figure 8 and its logs do not have it. */
import { kDarkHatch, type System } from './system.js';

export const pyTorchEager: System = {
  id: 'pytorch-eager',
  label: 'PyTorch-Eager',
  bars: { fill: { color: '#f2a071', hatch: 'rising', hatchColor: kDarkHatch } },
  adapter: { place: 1, load: async () => new (await import('../adapters/pytorch.js')).PyTorchAdapter('eager') },
};
