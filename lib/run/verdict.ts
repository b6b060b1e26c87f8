/** What verification says: of the files, of each operator's outputs, and of the whole. Made by verify.ts and verify-foreign.ts. */
import type { DeviceInfo } from './device.js';

/** One thing that was checked without running anything. */
export interface StructureCheck {
  readonly name: string;
  readonly passed: boolean;
  readonly detail: string;
}

/** One output of one operator. */
export interface OperatorVerdict {
  readonly node: string;
  /** Which of its outputs. */
  readonly output: number;
  readonly shape: readonly number[];
  readonly dtype: string;
  readonly passed: boolean;
  /** Why it did not pass; empty when it did. */
  readonly failures: readonly string[];
  /** What is worth knowing and no failure: `fake weights overflow: …`. */
  readonly remarks: readonly string[];
  readonly elements: number;
  /** Elements compared with the reference; 0 for a foreign checkpoint. */
  readonly compared: number;
  /** Null where there is no reference. */
  readonly maxAbsolute: number | null;
  readonly relativeL2: number | null;
  readonly maxOverRms: number | null;
  /** What `relativeL2` may be; for quantised codes the share that may differ by a step. Null where there is no reference. */
  readonly tolerance: number | null;
  /** Share of codes that differ; null for outputs that are no codes. */
  readonly differing: number | null;
  /** How the tolerance came about. */
  readonly terms: readonly string[];
  /** Two runs on the same inputs gave the same bits; null where it ran once, as it writes over its inputs. */
  readonly deterministic: boolean | null;
}

/** One output of the whole checkpoint, from two runs. */
export interface EndToEndVerdict {
  readonly name: string;
  readonly elements: number;
  readonly passed: boolean;
  readonly failures: readonly string[];
  /** As an operator's. */
  readonly remarks: readonly string[];
  readonly nonFinite: number;
  readonly bitEqual: boolean;
  /** Largest difference between the two runs; 0 when bit-equal. */
  readonly maxDifference: number;
  /** ‖device − reference‖₂ / ‖reference‖₂; null where the reference did not run through. */
  readonly relativeL2: number | null;
  readonly tolerance: number | null;
}

export interface VerifyReport {
  readonly passed: boolean;
  /** semantic: against the reference; structural: a foreign checkpoint, whose operators' meaning is not known. */
  readonly kind: 'semantic' | 'structural';
  readonly structure: readonly StructureCheck[];
  readonly operators: readonly OperatorVerdict[];
  readonly endToEnd: readonly EndToEndVerdict[];
  /** What the end-to-end check did, and what it left out. */
  readonly endToEndScope: string;
  readonly device: DeviceInfo;
  readonly seed: number;
}
