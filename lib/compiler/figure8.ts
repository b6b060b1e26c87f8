/** The checkpoints of Figure 8 that this package ships: all models that it builds, in all settings and formats. */
import { figure8Models } from '../models/index.js';
import type { CheckpointRequest } from './design.js';
import { parseRequest } from './request.js';

/** Models that are built × batch sizes × formats, one layer. */
export function figure8Requests(): readonly CheckpointRequest[] {
  return figure8Models()
    .filter(({ graph }) => graph !== undefined)
    .flatMap(({ id, figure8 }) =>
      figure8.settings.flatMap(({ batch, seq }) =>
        figure8.formats.map(({ weight, activation }) => parseRequest({ model: id, batch, seq, weight, act: activation })),
      ),
    );
}
