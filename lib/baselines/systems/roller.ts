/** Roller: prints what Welder prints, so that only a folder's name tells its logs. */
import { kDarkHatch, type System, type SystemLog } from './system.js';
import { kWelderClock, kWelderFile, parseWelder, type WelderResult } from './welder.js';

const kLabel = 'Roller';

const log: SystemLog<WelderResult> = {
  folder: /roller/i,
  mark: null,
  file: kWelderFile,
  clock: kWelderClock,
  parse: (source, name) => parseWelder(source, name, kLabel),
};

export const roller: System = {
  id: 'roller',
  label: kLabel,
  bars: { fill: { color: '#f2f2f2', hatch: 'upright', hatchColor: kDarkHatch } },
  log,
};
