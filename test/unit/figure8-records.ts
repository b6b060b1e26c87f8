/** A record of ours for tests: valid by the schema, changed at will. */
import type { BenchRecord } from '../../lib/run/record-types.js';
import { parseRecord, unmeasured } from '../../lib/run/record.js';

/** A record of one LLAMA case on an H100. */
export function makeRecord(change: Partial<BenchRecord>): BenchRecord {
  const record: BenchRecord = {
    schema: 'ladder-record/1',
    system: 'ladder.node',
    systemVersion: '0.1.0',
    model: 'llama2-70b',
    setting: 'bs1_seq1',
    format: 'W_FP16 A_FP16',
    checkpoint: null,
    status: 'ok',
    reason: null,
    warnings: [],
    clock: 'gpu-events',
    mode: 'samples',
    launch: 'graph',
    l2: 'hot',
    ...unmeasured,
    latencyMs: 0.6,
    device: {
      kind: 'cuda',
      name: 'NVIDIA H100 80GB HBM3',
      computeCapability: '9.0',
      driverVersion: null,
      multiprocessors: 132,
      memoryBytes: 8e10,
      l2Bytes: null,
    },
    stateBefore: null,
    stateAfter: null,
    date: '2026-01-02T03:04:05Z',
    commit: 'unknown',
    ...change,
  };
  return parseRecord(JSON.stringify(record), 'test');
}

/** An imagined bench on an H100: three LLAMA cases of PyTorch, two of ours, one failure, one without a reference. Not measured. */
export function measuredCases(): BenchRecord[] {
  const rival = (system: string, setting: string, latencyMs: number): BenchRecord =>
    makeRecord({ system, setting, latencyMs, launch: 'stream' });
  return [
    rival('pytorch-eager', 'bs1_seq1', 0.8),
    rival('pytorch-inductor', 'bs1_seq1', 0.6),
    rival('pytorch-eager', 'bs32_seq1', 1.14),
    rival('pytorch-inductor', 'bs32_seq1', 0.71),
    rival('pytorch-eager', 'bs1_seq4096', 13.2),
    rival('pytorch-inductor', 'bs1_seq4096', 11.5),
    makeRecord({ latencyMs: 0.59 }),
    makeRecord({ format: 'W_INT4 A_FP16', latencyMs: 0.16 }),
    makeRecord({ format: 'W_NF4 A_FP16', status: 'failed', reason: 'out of memory', latencyMs: null }),
    makeRecord({ model: 'bloom-176b', latencyMs: 1.7 }),
  ];
}
