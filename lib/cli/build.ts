/** `ladder build`: makes a checkpoint of a known model. */
import { resolve } from 'node:path';
import { buildCheckpoints } from '../compiler/build.js';
import { figure8Requests } from '../compiler/figure8.js';
import type { CheckpointRequest } from '../compiler/design.js';
import { isOwnModel, type OwnModel, ownWords, readOwnModel } from '../compiler/own-model.js';
import { kDefaultSeed, parseRequest } from '../compiler/request.js';
import { LadderError } from '../errors.js';
import { activationFormats, kPlainFormat, type ScaleChoice, weightFormats } from '../formats/index.js';
import { buildableModels } from '../models/index.js';
import type { Command } from './command.js';
import { scaleOption, wholeNumber } from './shared.js';

interface BuildOptions {
  readonly batch: number;
  readonly seq: number;
  readonly weight?: string;
  readonly act?: string;
  readonly group?: number;
  readonly format?: string;
  readonly layers: number;
  readonly seed: number;
  readonly mask?: string;
  readonly layer?: number;
  readonly config?: string;
  readonly weights?: string;
  readonly calibrate?: string;
  readonly scale?: ScaleChoice;
  readonly out: string;
  readonly compile: boolean;
  readonly json?: boolean;
}

/** Formats as the option takes them: those that come in kinds without their kind, which `--format` says. */
function words(formats: readonly { readonly id: string }[]): string {
  return [...new Set(formats.map(({ id }) => id.replace(/_e\dm\d$/, '')))].join(', ');
}

/** Reads a group size, which may be -1. */
function groupSize(text: string): number {
  return text === '-1' ? -1 : wholeNumber(text);
}

/** What is asked for. @throws LadderError `BAD_ARGUMENT` for options that do not go together; what reading a config throws */
function requested(
  model: string | undefined,
  { layer, config, weights, batch, seq, layers, weight, act, group, format, seed, mask }: BuildOptions,
): { readonly own?: OwnModel; readonly requests: readonly CheckpointRequest[] } {
  const together = (what: string): LadderError => new LadderError('BAD_ARGUMENT', what);
  if ((model === undefined) === (config === undefined)) throw together('expected a model, a folder, or `--config` with a config.json');
  const words = { batch, seq, layers, weight, act, group, format, seed, mask };
  const path = config ?? (model !== 'figure8' && isOwnModel(model!) ? model! : undefined);
  if (path === undefined) {
    if (layer !== undefined) throw together(`\`--layer\` is of a model's folder, which ${model!} is not`);
    if (model === 'figure8') return { requests: figure8Requests() };
    return { requests: [parseRequest({ ...words, model: model! })] };
  }
  if (weights !== undefined) throw together(`\`--weights\` are for known models; those of a folder are in it`);
  const own = readOwnModel(path, { layer, layers });
  return { own, requests: [parseRequest(ownWords(own, words))] };
}

export const buildCommand: Command = {
  register(program, io) {
    program
      .command('build')
      .description('build a checkpoint: graph.json, checkpoint.json and, with nvcc, model.so')
      .argument(
        '[model]',
        `${buildableModels().join(', ')}; a network of images for another size of theirs (resnet-50-288); figure8: all that Figure 8 shows and the builder knows, options of format and shape aside; or the folder of a model of your own (config.json and safetensors files as Hugging Face has them)`,
      )
      .option('--batch <n>', 'sequences; of networks images or recordings, 1024 at most', wholeNumber, 1)
      .option('--seq <n>', 'tokens per sequence; kernels made for speed take 16384 rows (sequences × tokens) at most', wholeNumber, 1)
      .option('--weight <format>', `${words(weightFormats())} (default: ${kPlainFormat}, or what a folder's weights are stored in)`)
      .option('--act <format>', `${words(activationFormats())} (default: what Figure 8 pairs with the weights)`)
      .option('--group <n>', 'weights per scale along k: 64, 128, or -1 for one scale per output channel (default: -1)', groupSize)
      .option('--format <kind>', 'kind of FP8 elements: e5m2 or e4m3 (default: e5m2)')
      .option('--layers <n>', 'decoder layers', wholeNumber, 1)
      .option('--layer <n>', "first layer of a model's folder (default: 0)", wholeNumber)
      .option('--config <file>', "a model's config.json, in place of its name: shapes alone, with fake weights")
      .option('--seed <n>', 'seed of the fake weights', wholeNumber, kDefaultSeed)
      .option(
        '--mask <mask>',
        'which tokens attention sees: none (all of the sequence) or causal (default: causal for a model of your own, else none)',
      )
      .option(
        '--weights <file>',
        'safetensors file of the decoder layers or the network (torchvision, timm, torchaudio), to quantise and pack into graph.params',
      )
      .addOption(scaleOption())
      .option('--calibrate <file>', 'safetensors file of inputs that decide static scales of activations (default: random ones)')
      .option('--out <folder>', 'where <model>/<name>/ is made', 'checkpoints/Figure8/ladder/checkpoint')
      .option('--no-compile', 'leave model.so to the first use')
      .option('--json', 'machine-readable result')
      .action(async (model: string | undefined, options: BuildOptions) => {
        const { own, requests } = requested(model, options);
        const onProgress = (fraction: number, label: string): void => io.progress(label, fraction);
        const results = await buildCheckpoints(requests, {
          root: resolve(options.out),
          own,
          ...(!options.compile && { compile: false }),
          onProgress,
          signal: io.signal,
          ...(options.weights !== undefined && { weights: resolve(options.weights) }),
          scale: options.scale,
          ...(options.calibrate !== undefined && { calibrate: resolve(options.calibrate) }),
        });
        io.endProgress();
        if (options.json) return io.out(JSON.stringify(results));
        for (const { folder, compiled, warnings } of results) {
          for (const warning of warnings) io.note(`warning: ${warning}`);
          io.out(compiled ? `${folder}: built` : `${folder}: described; model.so is built on first use (needs nvcc)`);
        }
      });
  },
};
