/** How the figures and tables call models, settings and systems, and which spellings mean the same. */
import type { Model } from '../baselines/case-names.js';

const modelLabels: Readonly<Record<string, string>> = {
  'llama2-70b': 'LLAMA', 'bloom-176b': 'BLOOM', 'resnet-50': 'ResNet', 'shufflenet-v2': 'ShuffleNet', conformer: 'Conformer', vit: 'ViT',
} satisfies Record<Model, string>;

/** LLAMA, BLOOM, …; another model keeps its name. */
export function modelLabel(model: string): string {
  return modelLabels[model] ?? model;
}

/** `bs1_seq4096` → `BS1 SEQ4096`. */
export function settingLabel(setting: string): string {
  return setting.replace('_', ' ').toUpperCase();
}

const families: Readonly<Record<string, string>> = {
  'ladder.node': 'Ladder', 'ladder': 'Ladder', 'bitter': 'Ladder', 'pytorch-eager': 'PyTorch-Eager', 'pytorch-inductor': 'PyTorch-Inductor',
  'onnxruntime': 'ONNXRuntime', 'tensorrt': 'TensorRT', 'vllm': 'vLLM', 'amos': 'AMOS', 'tensorir': 'TensorIR', 'welder': 'Welder', 'roller': 'Roller',
};

/** A system as Figure 8 spells it: our own records (`ladder.node`) stand where Ladder stands. */
export function systemFamily(system: string): string {
  return families[system.toLowerCase()] ?? system;
}

/** The system whose records are this package's own. */
export const ownSystem = 'ladder.node';

/** A system in a table: ours is told from the authors'. */
export function systemLabel(system: string): string {
  return system === ownSystem ? 'Ladder (this package)' : systemFamily(system);
}

/** `NVIDIA H100 80GB HBM3` → `h100`: for file names. */
export function gpuSlug(name: string): string {
  const geforce = /\b(RTX|GTX)\s*(?:A?\d{3,4})\s*(?:Ti|SUPER)?/i.exec(name)?.[0];
  const token = geforce ?? /\b([A-Z]{1,3}\d{1,4}[A-Z]?)\b/.exec(name.replace(/-/g, ' '))?.[1] ?? name;
  return token.toLowerCase().replace(/[^a-z0-9]+/g, '') || 'gpu';
}

/** GPU names differ in blanks and hyphens between tools. */
export function sameGpu(a: string | null, b: string | null): boolean {
  const plain = (name: string): string => name.toLowerCase().replace(/[^a-z0-9]/g, '');
  return a !== null && b !== null && plain(a) === plain(b);
}

/** A kind of clock in words. */
export function clockLabel(clock: string | null): string {
  return clock ?? 'not stated';
}
