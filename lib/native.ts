/**
 * The native addon's whole surface, typed. Nothing else in lib/ touches the addon.
 *
 * Every asynchronous call runs on the executor's own thread (which holds the CUDA context), in the order of the calls, and
 * never on JavaScript's. Errors are `LadderError`s: the class is handed over when the addon is loaded.
 * Buffers passed in must not be changed until the promise settles; buffers handed out are fresh ArrayBuffers.
 */
import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { LadderError } from './errors.js';

/** DLPack type code: 0 int, 1 uint, 2 float, 3 opaque handle, 4 bfloat. */
export type TypeCode = 0 | 1 | 2 | 3 | 4;

/** A DLPack data type. A `bool` is uint with 1 bit; an FP8 keeps code 2 with 8 bits and its kind in `name`. */
export interface DataType {
  /** As TVM writes it. */
  readonly name: string;
  readonly code: TypeCode;
  /** Bits per lane, 1…64. */
  readonly bits: number;
  readonly lanes: number;
}

/**
 * How a tensor is filled when graph.params does not hold it: a counter-based generator, so that element i of a tensor
 * can be made on the device and on the host, in any order.
 *
 *   key  = splitmix64(seed XOR fnv1a64(tensor name))            (64-bit FNV-1a over the UTF-8 bytes)
 *   u(i) = high 32 bits of mix(key + (i+1)·0x9E3779B97F4A7C15)   (mix: SplitMix64's finaliser)
 *
 * `bits`: byte b of the tensor is byte b mod 4 (little-endian) of u(b div 4).
 * `uniform`: element i is fma(float(u(i) >> 8) · 2⁻²⁴, high − low, low) in FP32, rounded to nearest even to float16, bfloat16 or
 *   float32; for int types the floor of it.
 * `code`: byte b is base + (r & mask), plus r & 0x80 if `signed`, with r as in `bits`: FP8 and E8M0 codes in a range without NaN.
 */
export type Fill =
  | { readonly kind: 'bits' }
  | { readonly kind: 'uniform'; readonly low: number; readonly high: number }
  | { readonly kind: 'code'; readonly base: number; readonly mask: number; readonly signed: boolean };

/** Sign, exponent, mantissa from the top. */
export interface FloatCodes {
  readonly kind: 'float';
  readonly exponentBits: number;
  readonly mantissaBits: number;
  readonly bias: number;
  /** Largest finite code without its sign. */
  readonly maxCode: number;
  /** Whether the code after it is infinity; all others beyond are NaN. */
  readonly infinities: boolean;
  /** What a magnitude beyond the largest becomes: the largest finite code, or infinity. */
  readonly saturates: boolean;
  readonly nanCode: number;
}

/** Two's complement, of which only min…max are made; ties to even. */
export interface IntegerCodes {
  readonly kind: 'integer';
  readonly min: number;
  readonly max: number;
}

/** Code i means values[i]; ascending. */
export interface TableCodes {
  readonly kind: 'table';
  readonly values: readonly number[];
  /** Which code takes a value halfway between two. */
  readonly tie: 'lower' | 'upper';
}

export type Codes = FloatCodes | IntegerCodes | TableCodes;

/** How a scale follows from the numbers that share it. */
export type ScaleFit =
  /** The largest magnitude becomes `top`; a scale of 0 becomes 1, and its codes 0. */
  | { readonly kind: 'absmax'; readonly top: number }
  /** The mean magnitude, which has the least squared error where only signs are stored. */
  | { readonly kind: 'mean' }
  /** A power of two that brings the largest magnitude's exponent to `emax` (OCP MX v1.0, section 6.3); 2^0 for zeros. */
  | { readonly kind: 'mx'; readonly emax: number };

/** One digit of a mixed-radix layout: see `Layout` in lib/operators/program.ts. */
export interface LayoutDigit {
  readonly axis: string;
  readonly stride: number;
  readonly size: number;
}

/** A value of a program: numbers over named axes, and how its tensors are stored. */
export interface NativeValue {
  /** Logical; the last varies fastest in a plain layout. */
  readonly axes: readonly { readonly name: string; readonly extent: number }[];
  /** `f16`, `f32`: one tensor of numbers. `quantised`: codes, and scales unless `scale` is null. */
  readonly type: 'f16' | 'f32' | 'quantised';
  /** Quantised: what a code is. */
  readonly element: { readonly bits: number; readonly codes: Codes } | null;
  /** Bits that a stored code takes; cells of less than 8 fill bytes from the low bits up. */
  readonly cellBits: number;
  /** Quantised: coordinates along the named axes that share a scale; axes not named share it throughout. */
  readonly scale: {
    readonly type: 'f16' | 'f32' | 'e8m0';
    readonly per: readonly { readonly axis: string; readonly count: number }[];
    readonly fit: ScaleFit;
  } | null;
  /** Stored order of the numbers or codes; an axis may have more places than coordinates. */
  readonly layout: readonly LayoutDigit[];
  /** Stored order of the scales over the axes in `scale.per`, of ceil(extent / count) coordinates each. Empty for a single scale, and without scales. */
  readonly scaleLayout: readonly LayoutDigit[];
}

/** An expression in postfix order: each instruction takes its operands from a stack and leaves its result there. */
export type NativeInstruction =
  /** Element of input `index` at the output's coordinates (axes that it lacks left out); `parts` > 1: its last axis holds that many blocks, and `part` says which. */
  | { readonly op: 'input'; readonly index: number; readonly part: number; readonly parts: number }
  | { readonly op: 'constant'; readonly value: number }
  | { readonly op: 'add' | 'sub' | 'mul' | 'div' | 'min' | 'max' | 'neg' | 'exp' | 'tanh' | 'erf' };

/** One operation. */
export interface NativeNode {
  /** dense, norm, quantise, attention, map: lib/operators. */
  readonly kind: string;
  /** Parameters: booleans as 0 and 1. */
  readonly numbers: Readonly<Record<string, number>>;
  readonly strings: Readonly<Record<string, string>>;
  /** `map`: what it computes. */
  readonly expression: readonly NativeInstruction[] | null;
  /** Indices of values. */
  readonly inputs: readonly number[];
  readonly outputs: readonly number[];
}

/** What an operator of the graph computes, in topological order. Its tensors are those of `inputs`, then of `outputs`: of a quantised value its codes, then its scales. */
export interface NativeProgram {
  readonly values: readonly NativeValue[];
  readonly nodes: readonly NativeNode[];
  readonly inputs: readonly number[];
  readonly outputs: readonly number[];
}

/** What the CUDA driver and NVML say of one device. All clocks in MHz. */
export interface NativeDevice {
  readonly ordinal: number;
  readonly name: string;
  readonly uuid: string;
  /** e.g. [9, 0] */
  readonly computeCapability: readonly [number, number];
  readonly multiprocessors: number;
  readonly memoryBytes: number;
  readonly l2Bytes: number;
  readonly sharedMemoryPerBlockBytes: number;
}

/** NVML's reading at one moment; null where NVML is absent or does not say. */
export interface NativeDeviceState {
  readonly smClockMHz: number | null;
  readonly memoryClockMHz: number | null;
  readonly maxSmClockMHz: number | null;
  readonly temperatureC: number | null;
  readonly powerW: number | null;
  /** Names of the active clock-event (throttle) reasons: 'sw_power_cap', 'hw_thermal_slowdown', … ('gpu_idle' included). */
  readonly throttleReasons: readonly string[] | null;
}

/** What of the CUDA side is there. Never throws: absence is an answer. */
export interface NativeCudaStatus {
  /** libcuda.so.1 was found and cuInit succeeded. */
  readonly available: boolean;
  /** e.g. 13000, or 0 */
  readonly driverApiVersion: number;
  /** From NVML, e.g. "580.159.04", or null */
  readonly driverVersion: string | null;
  readonly nvml: boolean;
  readonly deviceCount: number;
  /** Why not available, with the CUDA name, or why there is no device; or null */
  readonly reason: string | null;
  /** What to do about it, or null */
  readonly remedy: string | null;
}

/** One tensor entry of the graph. */
export interface PlanEntry {
  readonly shape: readonly number[];
  readonly dtype: DataType;
  /** Index into `storages`. */
  readonly storage: number;
  /** Bytes of the tensor. */
  readonly sizeBytes: number;
}

/** One buffer; entries that share it are aliases. */
export interface PlanStorage {
  readonly sizeBytes: number;
  /** Where it lives: DLPack's device type, 1 CPU or 2 CUDA. */
  readonly deviceType: 1 | 2;
}

/** One step of the flat loop. `__nop` nodes are not steps. */
export interface PlanOperator {
  readonly node: string;
  readonly functionName: string;
  readonly inputs: readonly number[];
  readonly outputs: readonly number[];
  /** flatten_data = "1": tensors are passed as 1-D. */
  readonly flatten: boolean;
  /** packed: call `functionName` of model.so; copy: `__copy`; reference: run `program` on the host. */
  readonly kind: 'packed' | 'copy' | 'reference';
  /** Ours: what it computes. Needed for `reference`, and for `verifyOperator`. */
  readonly program: NativeProgram | null;
}

/** One kernel of the module blob. */
export interface PlanKernel {
  readonly name: string;
  readonly argumentTypes: readonly DataType[];
  /** blockIdx.x … threadIdx.z, tir.use_dyn_shared_memory; in the order in which their values follow the arguments. */
  readonly launchTags: readonly string[];
  /** cudaLaunchAttributeProgrammaticStreamSerialization (only honoured where the device has compute capability ≥ 9.0). */
  readonly programmaticStreamSerialization: boolean;
}

/** A device image of the blob and its kernels. */
export interface PlanImage {
  /** ptx, cubin or fatbin: all go to cuModuleLoadDataEx. */
  readonly format: string;
  readonly bytes: Uint8Array;
  /** Loaded when one of its kernels is first looked up: it may be of another GPU's machine code. */
  readonly onDemand: boolean;
  readonly kernels: readonly PlanKernel[];
}

/** A constant of a `const_loader` entry: where it lies in model.so. Read only where `constantUsers` want it. */
export interface PlanConstant {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: DataType;
  readonly fileOffset: number;
  readonly sizeBytes: number;
}

/** model.so. */
export interface PlanModule {
  readonly path: string;
  readonly images: readonly PlanImage[];
  readonly constants: readonly PlanConstant[];
  /** const_loader: per symbol, the constants that it needs (`__init_` + symbol, where model.so has it, is called with them at load, as in TVM). */
  readonly constantUsers: readonly { readonly symbol: string; readonly constants: readonly string[] }[];
  /** It carries code that launches by itself: all work then goes to the legacy default stream, in order with those launches. */
  readonly launchesItself: boolean;
  /** Where in it a CUDA runtime's `cudaGetLastError` lies that it does not export; null: unknown. */
  readonly lastErrorAddress: number | null;
}

/** All that an executor needs; checked by lib/artifact before it comes here. */
export interface ExecutorPlan {
  /** 1 CPU, 2 CUDA. */
  readonly deviceType: 1 | 2;
  readonly deviceOrdinal: number;
  readonly entries: readonly PlanEntry[];
  readonly storages: readonly PlanStorage[];
  readonly operators: readonly PlanOperator[];
  /** null when every operator is `reference`. */
  readonly module: PlanModule | null;
}

/** Times of load phases, host milliseconds. */
export interface NativeLoadTimes {
  readonly dlopenMs: number;
  /** cuModuleLoadData, including JIT of PTX where it happens. */
  readonly moduleMs: number;
  readonly allocateMs: number;
}

/** A copy from a file into an entry, past the JavaScript heap. */
export interface ParamCopy {
  readonly entry: number;
  readonly fileOffset: number;
  readonly sizeBytes: number;
}

/** Reports how far a measurement has come, 0…1, at most every 100 ms. */
export type NativeProgress = (fraction: number) => void;

export interface PaperOptions {
  readonly launch: 'stream' | 'graph';
  /** TVM's number = 5. */
  readonly number: number;
  /** TVM's repeat = 5. */
  readonly repeat: number;
  /** TVM's min_repeat_ms = 500. */
  readonly minRepeatMs: number;
}

export interface PaperResult {
  /** One value per repeat: mean milliseconds per inference over `numbers[i]` inferences. */
  readonly valuesMs: Float64Array;
  readonly numbers: Float64Array;
}

export interface SamplesOptions {
  readonly launch: 'stream' | 'graph';
  /** cold: the L2 is filled with other data before each inference, outside the events. */
  readonly l2: 'hot' | 'cold';
  readonly warmupMs: number;
  /** Stop at `maxSamples`, or after `maxMs` once `minSamples` are there. */
  readonly minSamples: number;
  readonly maxSamples: number;
  readonly maxMs: number;
}

export interface SamplesResult {
  /** Time between the event pair of each inference, milliseconds. On the CPU: host time. */
  readonly gpuMs: Float64Array;
  /** Host time to enqueue each inference, milliseconds. */
  readonly enqueueMs: Float64Array;
  /** Host time of the whole measurement with a synchronisation at its end, divided by its inferences, milliseconds. */
  readonly hostMsPerInference: number;
}

/** Whether the operators could be captured into a CUDA graph. */
export interface CaptureResult {
  readonly captured: boolean;
  /** Why not: e.g. "operator X launched on the legacy stream". */
  readonly reason: string | null;
  readonly kernelNodes: number;
  /** Edges with programmatic dependent launch. */
  readonly programmaticEdges: number;
}

export interface ProfileResult {
  /** [operator][sample] milliseconds, flattened: `operators.length × samples`. Each operator alone between two events. */
  readonly operatorMs: Float64Array;
  readonly samples: number;
}

/** Which part of an operator's outputs is compared with the reference. */
export interface VerifyOptions {
  /** Seed of the random activations and of the sampled rows and columns. */
  readonly seed: bigint;
  /** Fill of each input entry, by position; null keeps what is in it (weights). */
  readonly inputs: readonly (Fill | null)[];
  /** At most this many output columns (n) and rows (m) are computed by the reference; 0 = all. */
  readonly maxColumns: number;
  readonly maxRows: number;
}

export interface VerifyOutput {
  /** Elements compared. */
  readonly compared: number;
  /** Elements in all. */
  readonly elements: number;
  /** Elements of the whole output still holding the poison pattern in two runs with different poisons. */
  readonly unwritten: number;
  readonly nonFinite: number;
  /** max |device − reference| */
  readonly maxAbsolute: number;
  /** ‖device − reference‖₂ / ‖reference‖₂ over the compared elements */
  readonly relativeL2: number;
  /** max |device − reference| / rms(reference) */
  readonly maxOverRms: number;
  /** Integer codes only: share of elements that differ at all, and by more than one step. */
  readonly differing: number;
  readonly differingByMore: number;
  /** Whether two runs on the same inputs gave the same bits; null for an operator that writes over its inputs, and so ran once. */
  readonly deterministic: boolean | null;
}

/** What two runs' results of one tensor have in common. */
export interface TensorComparison {
  /** Elements of the first that are infinite or NaN; 0 for types that have neither. */
  readonly nonFinite: number;
  /** Bit by bit. */
  readonly equal: boolean;
  /** max |first − second|; 0 where they are equal, and for types whose values a byte does not say. */
  readonly maxDifference: number;
  /** ‖first − expected‖₂ / ‖expected‖₂; null without `expected`, and for types whose values a byte does not say. */
  readonly relativeL2: number | null;
}

/** A loaded checkpoint on one device. Created by `openExecutor`; `dispose` frees all, in-flight work first, twice is fine. */
export interface NativeExecutor {
  readonly loadTimes: NativeLoadTimes;
  /** Copies `bytes` into the entry. */
  write(entry: number, bytes: Uint8Array): Promise<void>;
  /** The entry's bytes, `offset`…`offset+length` (default: all); `cancel` ends it between pieces. */
  read(entry: number, offset?: number, length?: number): Promise<ArrayBuffer>;
  /** All of the entry's bytes, into `bytes`, which are as many. */
  readInto(entry: number, bytes: Uint8Array): Promise<void>;
  /** Copies an entry of another executor on the same device, or of this one, in both executors' turn: after what was called before, before what is called after. */
  copyFrom(entry: number, source: NativeExecutor, sourceEntry: number): Promise<unknown>;
  fill(entry: number, fill: Fill, key: bigint): Promise<void>;
  /** Sets every byte of the entry. */
  setBytes(entry: number, value: number): Promise<void>;
  loadParams(path: string, copies: readonly ParamCopy[]): Promise<void>;
  /** One inference, synchronised: from the second on by its graph, where it can be captured; one of less than 0.25 ms on the calling thread. */
  run(): Promise<void>;
  /** One operator, synchronised. */
  runOperator(operator: number): Promise<void>;
  capture(): Promise<CaptureResult>;
  measurePaper(options: PaperOptions, progress: NativeProgress | null): Promise<PaperResult>;
  measureSamples(options: SamplesOptions, progress: NativeProgress | null): Promise<SamplesResult>;
  profile(samples: number, progress: NativeProgress | null): Promise<ProfileResult>;
  /**
   * Fills inputs, poisons outputs, runs the operator (twice, with two poisons), compares with the reference on the device's own inputs. One result per output.
   * Without a program nothing is compared: `compared` is 0, the errors are NaN, and an operator that writes over its inputs runs once.
   */
  verifyOperator(operator: number, options: VerifyOptions): Promise<readonly VerifyOutput[]>;
  /** Makes the measurement in flight end with `ABORTED` at the next inference. Returns at once. */
  cancel(): void;
  dispose(): Promise<void>;
}

/** What one host-side run of a reference operator needs: for tests, and for the `--device cpu` path's own checks. */
export interface ReferenceCall {
  readonly program: NativeProgram;
  readonly inputs: readonly Uint8Array[];
  /** Written. */
  readonly outputs: readonly Uint8Array[];
}

/** D [m, n] = A [m, k] · B [n, k]ᵀ by the vendor's library. FP16 and FP8 accumulate in FP32 and give FP16, INT8 gives INT32. */
export interface NativeMatmul {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly type: 'fp16' | 'fp8_e4m3' | 'int8';
  /** A libcublasLt.so to try first, or null for the usual places. */
  readonly library: string | null;
}

export interface NativeMatmulResult {
  /** Median of single products, CUDA events, milliseconds. */
  readonly ms: number;
  /** 2·m·n·k over `ms`; integer types: operations. */
  readonly flopsPerSecond: number;
  /** Operands and result, each once, over `ms`. */
  readonly bytesPerSecond: number;
  /** How many of the library's algorithms were timed; the fastest counts. */
  readonly algorithms: number;
  readonly samples: number;
  /** e.g. 130000 */
  readonly libraryVersion: number;
  /** B was rotated over as many copies, so that it came from device memory. */
  readonly weightCopies: number;
}

/** A stretch of a matrix's rows on their way into a checkpoint's storage. Arrays of numbers are views of their bytes. */
export interface NativePackJob {
  /** Row by row, little-endian. */
  readonly numbers: Uint8Array;
  readonly type: 'F32' | 'F16' | 'BF16';
  readonly rows: number;
  readonly columns: number;
  /** Numbers of a row that share a scale; divides `columns`. */
  readonly group: number;
  /** Of 1, 2, 4, 8 or 16 bits. */
  readonly element: { readonly bits: number; readonly codes: Codes };
  /** Scales: E8M0 where they are powers of two, else float16; null: none. */
  readonly fit: ScaleFit | null;
  /** Whether, below the scale that `fit` says, the one with the least squared error is searched for. */
  readonly leastSquares: boolean;
  /** float32 [rows, columns / group]: scales that are given, numbers that float16 holds; null: they follow from the numbers. */
  readonly scales: Uint8Array | null;
  /** float64 [rows] and [columns]: a code's place in `weight`, counted in codes, is the sum of its row's and its column's. */
  readonly rowPlaces: Uint8Array;
  readonly columnPlaces: Uint8Array;
  /** float64 [rows] and [columns / group]: the same of scales. */
  readonly scaleRowPlaces: Uint8Array;
  readonly scaleGroupPlaces: Uint8Array;
  /** float64 [rows, 2], written: Σ (w − stored)² and Σ w² of each row; null: nobody asks. */
  readonly squares: Uint8Array | null;
  /** Written: the whole stored tensors, of which codes of less than a byte are ORed into what is there. */
  readonly weight: Uint8Array;
  readonly scale: Uint8Array;
}

/** A number that cannot be stored: itself, or since its group's scale is too large for float16 or held too roughly by it. */
export interface NativePackFault {
  readonly kind: 'number' | 'large' | 'tiny';
  readonly row: number;
  readonly column: number;
  readonly value: number;
}

export interface NativeAddon {
  /** Hands over the class of the errors that native code throws: (code, message, context). Called once, here. */
  setErrorClass(errorClass: typeof LadderError): void;
  cudaStatus(): NativeCudaStatus;
  devices(): readonly NativeDevice[];
  deviceState(ordinal: number): NativeDeviceState;
  /** Reads `sizeBytes` of device memory `repeats` times; resolves to the best bytes/s. */
  measureReadBandwidth(ordinal: number, sizeBytes: number, repeats: number): Promise<number>;
  /** Times the fastest algorithm that cuBLASLt has for a product. `UNSUPPORTED` without the library, or where it has none. */
  measureMatmul(ordinal: number, matmul: NativeMatmul): Promise<NativeMatmulResult>;
  /** Stores rows, on all cores; resolves to the first number that cannot be stored, or null. */
  packRows(job: NativePackJob): Promise<NativePackFault | null>;
  openExecutor(plan: ExecutorPlan): Promise<NativeExecutor>;
  referenceRun(call: ReferenceCall): Promise<void>;
  /** Looks through whole tensors of one type, on all cores. `WRONG_LENGTH` unless they are equally long. */
  compareTensors(dtype: DataType, first: Uint8Array, second: Uint8Array, expected: Uint8Array | null): Promise<TensorComparison>;
  /** The generator of `Fill` on the host: bytes `offset`… of a tensor of that type. */
  fillBytes(fill: Fill, key: bigint, dtype: DataType, firstElement: number, target: Uint8Array): void;
  /** Names of the global packed functions that model.so may call here. */
  globalFunctions(): readonly string[];
  /** Bytes now allocated by all executors, on the host and on the devices: what leak tests read. */
  allocatedBytes(): { readonly host: number; readonly device: number };
}

/** A shared object that is shorter than what the linker maps of it, after a full disk or a broken copy, would end the process with SIGBUS. */
function refuseCutShort(path: string): void {
  // Opening a pipe would wait for a writer.
  if (!statSync(path).isFile()) throw new Error(`${path} is no regular file`);
  const file = openSync(path, 'r');
  try {
    const header = Buffer.alloc(64);
    readSync(file, header, 0, header.length, 0);
    // What is no ELF object is for the linker to refuse, and no danger.
    if (header.readUInt32BE(0) !== 0x7f454c46) return;
    const segments = Buffer.alloc(56 * header.readUInt16LE(56));
    const inFile = readSync(file, segments, 0, segments.length, Number(header.readBigUInt64LE(32)));
    const sizeBytes = fstatSync(file).size;
    // The section headers come last.
    const sections = Number(header.readBigUInt64LE(40)) + header.readUInt16LE(58) * header.readUInt16LE(60);
    if (sections > sizeBytes) throw new Error(`${path} is cut short: it has ${sizeBytes} of ${sections} bytes`);
    for (let at = 0; at + 56 <= inFile; at += 56) {
      const isMapped = segments.readUInt32LE(at) === 1;
      const end = segments.readBigUInt64LE(at + 8) + segments.readBigUInt64LE(at + 32);
      if (isMapped && end > sizeBytes) throw new Error(`${path} is cut short: it has ${sizeBytes} of ${end} bytes`);
    }
    if (inFile < segments.length || segments.length === 0) throw new Error(`${path} is cut short: it has ${sizeBytes} bytes`);
  } finally {
    closeSync(file);
  }
}

/**
 * How to build the addon: a package manager that runs no install scripts leaves it out.
 * @param folder the package's
 */
export function addonRemedy(folder: string = fileURLToPath(new URL('..', import.meta.url))): string {
  const parts = folder.split('/');
  if (!parts.includes('node_modules')) return "build it with `node native/build.mjs` in the package's folder";
  return parts.includes('.pnpm')
    ? 'build it with `pnpm approve-builds` and `pnpm rebuild ladder-checkpoints`'
    : 'build it with `npm rebuild ladder-checkpoints`';
}

let loaded: NativeAddon | undefined;

/**
 * Loads the addon on first use. `LADDER_ADDON` names another build of it (the sanitized one, native/build.mjs).
 * @throws LadderError `ADDON` with the remedy when it is not built for this Node.js
 */
export function native(): NativeAddon {
  if (loaded) return loaded;
  const require = createRequire(import.meta.url);
  let addon: NativeAddon;
  try {
    const path = require.resolve(process.env['LADDER_ADDON'] ?? '../build/Release/ladder.node');
    refuseCutShort(path);
    addon = require(path) as NativeAddon;
  } catch (cause) {
    throw new LadderError(
      'ADDON',
      `the native addon could not be loaded; ${addonRemedy()} (needs a C++17 compiler, make and python3): ${(cause as Error).message}`,
      {},
      { cause },
    );
  }
  addon.setErrorClass(LadderError);
  loaded = addon;
  return addon;
}
