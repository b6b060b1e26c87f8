/**
 * The errors that this package throws: one class, one closed union of codes.
 * Native code throws the same class (it is handed over when the addon is loaded), so `error.code`
 * means the same on both sides of the boundary.
 */

/** What went wrong, stable across versions: switch on this, never on the message. */
export type ErrorCode =
  /** An option or argument is outside what the function accepts. */
  | 'BAD_ARGUMENT'
  /** A tensor name that the checkpoint does not have. */
  | 'UNKNOWN_INPUT'
  /** A buffer whose length is not the tensor's. */
  | 'WRONG_LENGTH'
  /** A typed array whose element type is not the tensor's. */
  | 'WRONG_TYPE'
  /** Used after `dispose()`. */
  | 'DISPOSED'
  /** A parameter that graph.params should hold and does not. */
  | 'MISSING_PARAMETER'
  /** The folder holds no graph.json. */
  | 'NOT_A_CHECKPOINT'
  /** graph.json is malformed or contradicts itself. */
  | 'BAD_GRAPH'
  /** graph.params is malformed, cut short, or contradicts the graph. */
  | 'BAD_PARAMS'
  /** model.so is no ELF object, or its module blob is malformed. */
  | 'BAD_MODULE'
  /** checkpoint.json is malformed or contradicts the graph. */
  | 'BAD_MANIFEST'
  /** There is no model.so, and it could not be built. */
  | 'MISSING_MODULE'
  /** model.so needs or lacks a symbol. */
  | 'MISSING_SYMBOL'
  /** model.so could not be loaded by the dynamic linker. */
  | 'LOAD_FAILED'
  /** The native addon is not built or cannot be loaded. */
  | 'ADDON'
  /** No CUDA driver on this machine. */
  | 'NO_DRIVER'
  /** The CUDA device asked for does not exist. */
  | 'NO_DEVICE'
  /** Device or host memory does not suffice. */
  | 'OUT_OF_MEMORY'
  /** The device code was not built for this GPU. */
  | 'WRONG_ARCHITECTURE'
  /** Any other CUDA failure; `context` has the CUDA name and text. */
  | 'CUDA'
  /** An operator of the checkpoint returned an error. */
  | 'OPERATOR'
  /** nvcc, cmake or a host compiler is missing. */
  | 'NO_COMPILER'
  /** A build ran and failed; `context.log` has the compiler's output. */
  | 'BUILD_FAILED'
  /** The AbortSignal fired. */
  | 'ABORTED'
  /** Valid, but not supported here. */
  | 'UNSUPPORTED'
  /** A log of another system without a usable result. */
  | 'BAD_LOG'
  /** A result record or data file that does not fit its schema. */
  | 'BAD_RECORD'
  /** Measurements that may not be compared with each other. */
  | 'NOT_COMPARABLE'
  /** Another process uses the folder or the device. */
  | 'BUSY'
  /** A file could not be read or written. */
  | 'IO'
  /** A defect of this package. */
  | 'INTERNAL';

/** Further facts about an error: operator, shapes, CUDA name, file, offset… */
export type ErrorContext = Readonly<Record<string, string | number | boolean | readonly (string | number)[]>>;

/**
 * Every error of this package.
 *
 * @example
 * try { await runPrebuilt(path); } catch (error) {
 *   if (error instanceof LadderError && error.code === 'NO_DRIVER') …
 * }
 */
export class LadderError extends Error {
  /** `AbortError` where an AbortSignal ended the call, as the platform's own. */
  override readonly name: 'LadderError' | 'AbortError';
  readonly code: ErrorCode;
  readonly context: ErrorContext;

  /** @param message what happened and what to do about it */
  constructor(code: ErrorCode, message: string, context: ErrorContext = {}, options?: ErrorOptions) {
    super(message, options);
    this.name = code === 'ABORTED' ? 'AbortError' : 'LadderError';
    this.code = code;
    this.context = context;
  }
}
