/**
 * The systems of Figure 8: one record each, looked up by id. A new one is a file beside this one and a line here (or
 * `systems.add` at run time); the scan of logs, the bench, labels, legends and fills take it from there.
 */
import { figureLabel, formatLabel } from '../../formats/index.js';
import { Registry } from '../../registry.js';
import { amos } from './amos.js';
import { ladder, ladderNode } from './ladder.js';
import { onnxRuntime } from './onnxruntime.js';
import { pyTorchEager } from './pytorch-eager.js';
import { pyTorchInductor } from './pytorch-inductor.js';
import { pyTorchLowPrecision } from './pytorch-low-precision.js';
import { roller } from './roller.js';
import type { Fill, System, SystemAdapter, SystemLog } from './system.js';
import { tensorIr } from './tensorir.js';
import { tensorRt } from './tensorrt.js';
import { vendorLayers } from './vendor.js';
import { vllm } from './vllm.js';
import { welder } from './welder.js';

/** In the order in which the scan asks them: where a folder's name speaks of several, the first one wrote its logs. */
export const systems = new Registry<System>('system', [
  amos,
  tensorIr,
  ladder,
  ladderNode,
  welder,
  roller,
  onnxRuntime,
  tensorRt,
  pyTorchEager,
  pyTorchInductor,
  ...pyTorchLowPrecision,
  ...vendorLayers,
  vllm,
]);

/** A system whose logs can be read. */
export type LoggingSystem = System & { readonly log: SystemLog };
/** A system that can be measured here. */
export type RunnableSystem = System & { readonly adapter: SystemAdapter };

/** The system of a name in data, records or options, however it is capitalised. */
export function systemNamed(name: string): System | null {
  const wanted = name.toLowerCase();
  return systems.all().find(({ id, label, aliases = [] }) => [id, label.toLowerCase(), ...aliases].includes(wanted)) ?? null;
}

/** The systems whose logs can be read, in the scan's order. */
export function loggingSystems(): readonly LoggingSystem[] {
  return systems.all().filter((system): system is LoggingSystem => system.log !== undefined);
}

/**
 * The systems that can be measured here, in the figure's order.
 * @param searching those that search for hours to days, or the others
 */
export function runnableSystems(searching: boolean): readonly RunnableSystem[] {
  return systems
    .all()
    .filter((system): system is RunnableSystem => system.adapter !== undefined && (system.adapter.searches === true) === searching)
    .sort((a, b) => a.adapter.place - b.adapter.place);
}

/** What the bars of a system at a format look like. @param format as the paper writes it */
export function fillOfBars({ bars }: System, format: string): Fill {
  return bars.byFormat?.find(({ weight, activation }) => formatLabel(weight, activation) === figureLabel(format))?.fill ?? bars.fill;
}

export type { Fill, Hatch, System } from './system.js';
export { ladder, ladderNode } from './ladder.js';
export { pyTorchInductor } from './pytorch-inductor.js';
export { welder } from './welder.js';
