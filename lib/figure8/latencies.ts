/** Latencies of a model's formats, out of saved records. */
import type { QualityReport } from '../compiler/types.js';
import { loadRecords } from './entries.js';
import { gpuSlug, ownSystem } from './names.js';

/** What the formats of a report take on one GPU. */
export interface FormatLatencies {
  /** Null: there is no record. */
  readonly gpu: string | null;
  /** ms, by label. */
  readonly latencies: ReadonlyMap<string, number>;
}

/**
 * Latencies of a report's checkpoints in saved records, the newest of each, on the GPU of that name or that of the newest record.
 * @throws LadderError `BAD_RECORD`, `IO`
 */
export async function findLatencies(
  report: QualityReport,
  folders: readonly string[],
  wanted: string | undefined,
): Promise<FormatLatencies> {
  const names = new Map(report.formats.map(({ checkpoint, label }) => [checkpoint, label]));
  const found = (await Promise.all(folders.map(loadRecords)))
    .flatMap(({ records }) => records.map(({ record }) => record))
    .filter(
      ({ system, model, checkpoint, status, latencyMs, clock, device }) =>
        system === ownSystem &&
        model === report.model &&
        checkpoint !== null &&
        names.has(checkpoint) &&
        status === 'ok' &&
        latencyMs !== null &&
        clock !== 'cpu-host' &&
        (wanted === undefined || device.name === wanted || gpuSlug(device.name) === wanted.toLowerCase()),
    )
    .sort((a, b) => (a.date < b.date ? -1 : 1));
  const gpu = found.at(-1)?.device.name ?? null;
  return {
    gpu,
    latencies: new Map(
      found.filter(({ device }) => device.name === gpu).map(({ checkpoint, latencyMs }) => [names.get(checkpoint!)!, latencyMs!]),
    ),
  };
}
