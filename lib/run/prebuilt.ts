/// <reference lib="esnext.disposable" preserve="true" />
/**
 * A loaded checkpoint as the public API has it: inputs, outputs, runs, measurements. Each call goes to the executor's own
 * thread in the order of the calls; nothing here blocks the event loop.
 */
import { inputNames as inputNamesOf } from '../artifact/checkpoint.js';
import { LadderError } from '../errors.js';
import type { NativeExecutor } from '../native.js';
import { measure, type BenchmarkResult } from './benchmark.js';
import type { DeviceInfo } from './device.js';
import { exportLoaded, type ExportedParams } from './export.js';
import { argumentTensors, openCheckpoint, type Loaded, type LoadTimes } from './load.js';
import { caseOf, type CheckpointCase } from './names.js';
import {
  exportOptionsSchema,
  inferenceOptionsSchema,
  loadOptionsSchema,
  parseBenchmarkOptions,
  parseOptions,
  profileOptionsSchema,
  verifyOptionsSchema,
} from './option-checks.js';
import {
  describeValue,
  type BenchmarkOptions,
  type ExportOptions,
  type LoadOptions,
  type TaskOptions,
  type VerifyRunOptions,
} from './options.js';
import { profileLoaded, type ProfileReport } from './profile.js';
import { arrayFromBytes, bytesForTensor, float32FromBytes, outputArray, tensorInfo, type TensorArray, type TensorInfo } from './tensors.js';
import type { VerifyReport } from './verdict.js';
import { verifyLoaded } from './verify.js';
import type { WeightSource } from './weights.js';

interface ReadOptions {
  readonly as?: 'bits' | 'float32';
}

/** An output where it lies, as a feed of a checkpoint on the same device. Made by `deviceOutput`. */
export class DeviceTensor {
  readonly info: TensorInfo;
  /** @internal */
  readonly #executor: NativeExecutor;
  readonly #entry: number;

  /** @internal Use `deviceOutput`. */
  constructor(info: TensorInfo, executor: NativeExecutor, entry: number) {
    this.info = info;
    this.#executor = executor;
    this.#entry = entry;
  }

  /** @internal Puts the copy into both executors' queues. */
  copyTo(executor: NativeExecutor, entry: number): Promise<unknown> {
    return executor.copyFrom(entry, this.#executor, this.#entry);
  }
}

/** Inputs, and any weights, by name: arrays as `setInput` takes them, or another checkpoint's output on the same device. */
export type Feeds = Readonly<Record<string, TensorArray | DeviceTensor>>;
/** What `run` brings back of an inference. */
export interface InferenceOptions {
  /** `float32`: values instead of the stored bits. Default `bits`. */
  readonly as?: 'bits' | 'float32' | undefined;
  /** The outputs to copy to the host, by name. Default: all; none where they only feed another checkpoint. */
  readonly fetch?: readonly string[] | undefined;
  /** Arrays to write outputs into, by name, of the type that the output would have: used again, call after call. */
  readonly out?: Readonly<Record<string, TensorArray>> | undefined;
}

/** Outputs by name. */
export type Outputs<T extends TensorArray = TensorArray> = Readonly<Record<string, T>>;

/**
 * A checkpoint on a device. Made by `loadPrebuilt`; `dispose()` (or `await using`) frees its memory.
 *
 * @example
 * const layer = await loadPrebuilt('llama2-70b/llama2_bs1_seq1_async');
 * const { layer0_mlp: y } = await layer.run({ x: new Float32Array(8192).fill(0.5) }, { as: 'float32' });
 * await layer.dispose();
 */
export class Prebuilt implements AsyncDisposable {
  /** The checkpoint's folder. */
  readonly path: string;
  /** Model, setting and format. */
  readonly case: CheckpointCase;
  readonly device: DeviceInfo;
  /** Names that `setInput` is meant for: activations. For a foreign checkpoint without graph.params, all. */
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  /** Every tensor that `setInput` takes, weights included, by name. */
  readonly inputs: ReadonlyMap<string, TensorInfo>;
  readonly outputs: readonly TensorInfo[];
  /** Where the weights came from. */
  readonly weights: WeightSource;
  readonly loadTimes: LoadTimes;
  /** What to know before believing a result, e.g. that weights are fake. */
  readonly warnings: readonly string[];
  private readonly loaded: Loaded;
  private disposing: Promise<void> | null = null;

  private constructor(loaded: Loaded) {
    this.loaded = loaded;
    const { checkpoint } = loaded;
    const { graph } = checkpoint;
    this.path = checkpoint.folder;
    this.case = caseOf(checkpoint.folder, checkpoint.manifest);
    this.device = loaded.device;
    this.inputNames = inputNamesOf(checkpoint);
    this.inputs = new Map(argumentTensors(checkpoint).map(({ name, shape, dtype }) => [name, tensorInfo(name, shape, dtype)]));
    this.outputs = graph.heads.map((entry) => {
      const { node, shape, dtype } = graph.entries[entry]!;
      return tensorInfo(graph.nodes[node]!.name, shape, dtype);
    });
    this.outputNames = this.outputs.map(({ name }) => name);
    this.weights = loaded.weights;
    this.loadTimes = loaded.times;
    this.warnings = loaded.warnings;
  }

  /** @internal Use `loadPrebuilt`. */
  static async load(path: string, options?: LoadOptions): Promise<Prebuilt> {
    if (typeof path !== 'string')
      throw new LadderError('BAD_ARGUMENT', `expected a string for \`path\` but received ${describeValue(path)}`);
    return new Prebuilt(await openCheckpoint(path, parseOptions(loadOptionsSchema, options)));
  }

  /** Steps of one inference. */
  get operatorCount(): number {
    return this.loaded.plan.operators.length;
  }

  /** The reference operators compute, on the CPU, instead of model.so. */
  get usesReference(): boolean {
    return this.loaded.usesReference;
  }

  /** Whether `dispose` was called. */
  get disposed(): boolean {
    return this.disposing !== null;
  }

  /**
   * Sets an input, or any weight. `data` must not change until the promise settles.
   * @param data the tensor's typed array (`inputs.get(name).arrayType`); for FP16 and bfloat16 also a `Float32Array`, which is rounded
   * @throws LadderError `UNKNOWN_INPUT`, `WRONG_TYPE`, `WRONG_LENGTH`, `DISPOSED`
   */
  async setInput(name: string, data: TensorArray): Promise<void> {
    const { plan, executor } = this.use();
    const { info, entry } = this.input(name);
    await executor.write(entry, bytesForTensor(info, plan.entries[entry]!.dtype, data));
  }

  /**
   * What an input or a weight holds, copied: what was set, read from graph.params, or generated.
   * @param options `as: 'float32'` for values instead of the stored bits
   * @throws LadderError `UNKNOWN_INPUT`, `BAD_ARGUMENT`, `WRONG_TYPE` where FP32 is asked of FP8 codes, `DISPOSED`
   */
  getInput(name: string, options?: { readonly as?: 'bits' }): Promise<TensorArray>;
  getInput(name: string, options: { readonly as: 'float32' }): Promise<Float32Array>;
  async getInput(name: string, options: ReadOptions = {}): Promise<TensorArray> {
    this.use();
    const { info, entry } = this.input(name);
    return this.read(info, entry, options);
  }

  /**
   * Writes the weights that runs use, seeded and set ones too, as graph.params: with them stock TVM computes the same. Of a
   * foreign checkpoint without graph.params everything is written, as nothing tells weights from inputs.
   * @param path the file; its folder is made
   * @throws LadderError `BAD_ARGUMENT`, `IO`, `ABORTED`, `DISPOSED`
   * @example await layer.exportParams('graph.params');
   */
  async exportParams(path: string, options?: ExportOptions): Promise<ExportedParams> {
    if (typeof path !== 'string' || path === '')
      throw new LadderError('BAD_ARGUMENT', `expected a file name for \`path\` but received ${describeValue(path)}`);
    return exportLoaded(this.use(), path, parseOptions(exportOptionsSchema, options));
  }

  /**
   * Runs one inference. With feeds, sets them, runs and reads the outputs as one turn: calls made at once do not mix. An input that
   * is not fed keeps what it holds; arrays must not change until the promise settles.
   * @param feeds by the names of `inputs`
   * @returns the outputs by name; those of `out` in the arrays given
   * @throws LadderError `OPERATOR` and CUDA errors naming the operator, `UNKNOWN_INPUT`, `WRONG_TYPE`, `WRONG_LENGTH`, `BAD_ARGUMENT`,
   *   `UNSUPPORTED` for a tensor of another device, `DISPOSED`, of the checkpoint whose tensor is fed, too
   * @example
   * // Layer after layer, with no copy to the host between:
   * const [, { y }] = await Promise.all([
   *   first.run({ x }, { fetch: [] }),
   *   second.run({ x: first.deviceOutput('y') }, { out: { y: reused } }),
   * ]);
   */
  run(): Promise<void>;
  run(feeds: Feeds, options: InferenceOptions & { readonly as: 'float32' }): Promise<Outputs<Float32Array>>;
  run<O extends Outputs>(feeds: Feeds, options: InferenceOptions & { readonly out: O }): Promise<Outputs & O>;
  run(feeds: Feeds, options?: InferenceOptions): Promise<Outputs>;
  async run(feeds?: Feeds, options?: InferenceOptions): Promise<unknown> {
    const { executor, plan } = this.use();
    if (feeds === undefined) return executor.run();
    if (typeof feeds !== 'object' || feeds === null)
      throw new LadderError('BAD_ARGUMENT', `expected an object of arrays by name for \`feeds\` but received ${describeValue(feeds)}`);
    const { as, out, fetch = this.outputNames } = parseOptions(inferenceOptionsSchema, options);
    const wanted = [...new Set([...fetch, ...Object.keys(out)])].map((name) => {
      const output = this.output(name);
      const given = out[name];
      return { ...output, given: given === undefined ? null : outputArray(output.info, plan.entries[output.entry]!.dtype, as, given) };
    });
    // Everything is checked before anything is on its way, and all of it is on its way before anybody else's turn.
    const sets = Object.entries(feeds).map(([name, data]) => this.feed(name, data));
    const turn = [...sets.map((set) => set()), executor.run()];
    const reads = wanted.map(({ info, entry, given }) => this.read(info, entry, { as }, given));
    const [arrays] = await Promise.all([Promise.all(reads), ...turn]);
    return Object.fromEntries(wanted.map(({ info }, index) => [info.name, arrays[index]!]));
  }

  /**
   * An output as a feed of another checkpoint on the same device (or of this one): copied there in both checkpoints' turn, after the
   * calls made before, with no way over the host.
   * @throws LadderError `BAD_ARGUMENT` for a name that no output has, `DISPOSED`
   */
  deviceOutput(name: string): DeviceTensor {
    const { executor } = this.use();
    const { info, entry } = this.output(name);
    return new DeviceTensor(info, executor, entry);
  }

  /**
   * An output's contents, copied.
   * @param index position in `outputs`
   * @param options `as: 'float32'` for values instead of the stored bits
   * @throws LadderError `BAD_ARGUMENT` for another index, `WRONG_TYPE` where FP32 is asked of FP8 codes, `DISPOSED`
   */
  getOutput(index?: number, options?: { readonly as?: 'bits' }): Promise<TensorArray>;
  getOutput(index: number, options: { readonly as: 'float32' }): Promise<Float32Array>;
  async getOutput(index = 0, options: ReadOptions = {}): Promise<TensorArray> {
    const { checkpoint } = this.use();
    const info = Number.isSafeInteger(index) ? this.outputs[index] : undefined;
    if (!info)
      throw new LadderError('BAD_ARGUMENT', `expected 0…${this.outputs.length - 1} for \`index\` but received ${describeValue(index)}`);
    return this.read(info, checkpoint.graph.heads[index]!, options);
  }

  /**
   * Times the checkpoint.
   * @throws LadderError `BAD_ARGUMENT`, `UNSUPPORTED` (launch `graph` where it cannot be captured), `ABORTED`, `DISPOSED`
   */
  async benchmark(options?: BenchmarkOptions): Promise<BenchmarkResult> {
    const { executor, device, checkpoint } = this.use();
    return measure({ executor, device, manifest: checkpoint.manifest, setting: this.case.setting }, parseBenchmarkOptions(options));
  }

  /** Times each operator by itself. @throws LadderError `BAD_ARGUMENT`, `ABORTED`, `DISPOSED` */
  async profile(options?: TaskOptions & { readonly samples?: number | undefined }): Promise<ProfileReport> {
    return profileLoaded(this.use(), parseOptions(profileOptionsSchema, options));
  }

  /** Checks structure and numbers; overwrites inputs that were set. A mismatch is `passed: false`, not an error. @throws LadderError `BAD_ARGUMENT`, `ABORTED`, `DISPOSED` */
  async verify(options?: VerifyRunOptions): Promise<VerifyReport> {
    return verifyLoaded(this.use(), parseOptions(verifyOptionsSchema, options));
  }

  /**
   * Ends what runs at its next opportunity (`ABORTED`, unless it was done), refuses what has not begun (`DISPOSED`), then frees
   * everything. Any number of calls do.
   */
  dispose(): Promise<void> {
    this.disposing ??= this.loaded.executor.dispose();
    return this.disposing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  private input(name: string): { info: TensorInfo; entry: number } {
    const info = this.inputs.get(name);
    const { checkpoint } = this.loaded;
    if (!info) {
      const known = [...this.inputs.keys()];
      throw new LadderError(
        'UNKNOWN_INPUT',
        `expected one of ${known.slice(0, 8).join(', ')}${known.length > 8 ? `, … (${known.length} in all)` : ''} for \`name\` but received ${describeValue(name)}`,
        { checkpoint: checkpoint.name },
      );
    }
    return { info, entry: argumentTensors(checkpoint).find((tensor) => tensor.name === name)!.entry };
  }

  private output(name: string): { info: TensorInfo; entry: number } {
    const index = this.outputNames.indexOf(name);
    if (index < 0)
      throw new LadderError(
        'BAD_ARGUMENT',
        `expected one of the outputs ${this.outputNames.join(', ')} but received ${describeValue(name)}`,
      );
    return { info: this.outputs[index]!, entry: this.loaded.checkpoint.graph.heads[index]! };
  }

  /** Checks a feed and gives what puts it on its way. */
  private feed(name: string, data: TensorArray | DeviceTensor): () => Promise<unknown> {
    const { info, entry } = this.input(name);
    const { plan, executor } = this.loaded;
    if (!(data instanceof DeviceTensor)) {
      const bytes = bytesForTensor(info, plan.entries[entry]!.dtype, data);
      return () => executor.write(entry, bytes);
    }
    if (data.info.dtype !== info.dtype)
      throw new LadderError('WRONG_TYPE', `expected ${info.dtype} for \`${name}\` but received ${data.info.name} of ${data.info.dtype}`);
    if (data.info.elements !== info.elements)
      throw new LadderError(
        'WRONG_LENGTH',
        `expected ${info.elements} elements for \`${name}\` (shape [${info.shape.join(', ')}]) but received ${data.info.name} of ${data.info.elements}`,
      );
    return () => data.copyTo(executor, entry);
  }

  private async read(info: TensorInfo, entry: number, options: ReadOptions, given: TensorArray | null = null): Promise<TensorArray> {
    if (options.as !== undefined && options.as !== 'bits' && options.as !== 'float32') {
      throw new LadderError('BAD_ARGUMENT', `expected 'bits' or 'float32' for \`as\` but received ${describeValue(options.as)}`);
    }
    const { dtype } = this.loaded.plan.entries[entry]!;
    const { executor } = this.loaded;
    if (given !== null && options.as !== 'float32') {
      await executor.readInto(entry, new Uint8Array(given.buffer, given.byteOffset, given.byteLength));
      return given;
    }
    const bytes = await executor.read(entry);
    if (options.as !== 'float32') return arrayFromBytes(dtype, bytes);
    const values = float32FromBytes(info, dtype, bytes);
    if (!(given instanceof Float32Array)) return values;
    given.set(values);
    return given;
  }

  private use(): Loaded {
    if (this.disposing !== null) throw new LadderError('DISPOSED', `${this.loaded.checkpoint.name} was disposed of; load it again`);
    return this.loaded;
  }
}
