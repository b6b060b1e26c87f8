/** The trade-off of formats as files. */
import type { QualityReport } from '../compiler/types.js';
import type { FormatLatencies } from './latencies.js';
import { modelLabel, settingLabel } from './names.js';
import { writePicture } from './output.js';
import { drawQuality } from './quality-chart.js';

/**
 * Draws `quality_<model>_<setting>` as SVG, PNG and PDF below a folder.
 * @returns the paths; none where no format has an error
 * @throws LadderError `IO`
 */
export async function writeQuality(
  { report, gpu, latencies }: FormatLatencies & { readonly report: QualityReport },
  out: string,
): Promise<readonly string[]> {
  const name = `quality_${report.model}_${report.setting}`;
  const picture = drawQuality(
    { report, latencies, source: gpu === null ? '' : `latency at ${settingLabel(report.setting)} on ${gpu}` },
    name.replace(/[^\w-]+/g, '-'),
  );
  return picture ? Object.values(await writePicture(picture, out, name, `Formats of ${modelLabel(report.model)}`)) : [];
}
