/**
 * Devices: what there is, which one an option means, and what a record says of it.
 */
import { cpus, totalmem } from 'node:os';
import { LadderError } from '../errors.js';
import { native } from '../native.js';
import { parseOptions, loadOptionsSchema } from './option-checks.js';
import type { BenchRecord } from './record-types.js';

/** One device that a checkpoint can run on. */
export interface DeviceInfo {
  /** What the `device` option takes: `cuda:0` or `cpu`. */
  readonly id: string;
  readonly kind: 'cuda' | 'cpu';
  readonly name: string;
  /** e.g. "9.0"; null for the CPU. */
  readonly computeCapability: string | null;
  readonly driverVersion: string | null;
  /** Multiprocessors; logical cores of the CPU. */
  readonly multiprocessors: number;
  readonly memoryBytes: number;
  readonly l2Bytes: number | null;
  readonly uuid: string | null;
}

function cpuDevice(): DeviceInfo {
  const cores = cpus();
  return {
    id: 'cpu',
    kind: 'cpu',
    name: cores[0]?.model.trim() || 'CPU',
    computeCapability: null,
    driverVersion: null,
    multiprocessors: cores.length,
    memoryBytes: totalmem(),
    l2Bytes: null,
    uuid: null,
  };
}

/**
 * The CUDA devices of this machine, then its CPU. A machine without a driver has only the CPU.
 * @throws LadderError `ADDON` when the addon is not built
 * @example for (const device of listDevices()) console.log(device.id, device.name);
 */
export function listDevices(): readonly DeviceInfo[] {
  const status = native().cudaStatus();
  const cuda = status.available ? native().devices() : [];
  return [
    ...cuda.map(
      (device): DeviceInfo => ({
        id: `cuda:${device.ordinal}`,
        kind: 'cuda',
        name: device.name,
        computeCapability: device.computeCapability.join('.'),
        driverVersion: status.driverVersion,
        multiprocessors: device.multiprocessors,
        memoryBytes: device.memoryBytes,
        l2Bytes: device.l2Bytes,
        uuid: device.uuid,
      }),
    ),
    cpuDevice(),
  ];
}

/**
 * The device that `auto`, `cpu`, `cuda` or `cuda:<ordinal>` means here.
 * @throws LadderError `NO_DRIVER`, `NO_DEVICE` where a CUDA device is asked for by name and is not there; `BAD_ARGUMENT`
 */
export function selectDevice(wanted: string): DeviceInfo {
  const { device: name } = parseOptions(loadOptionsSchema, { device: wanted });
  const devices = name === 'cpu' ? [cpuDevice()] : listDevices();
  if (name === 'auto') return devices[0] ?? cpuDevice();
  const found = devices.find((device) => device.id === (name === 'cuda' ? 'cuda:0' : name));
  if (found) return found;
  const status = native().cudaStatus();
  if (!status.available) {
    throw new LadderError(
      'NO_DRIVER',
      `no CUDA driver could be used (${status.reason ?? 'unknown reason'}); ${status.remedy ?? 'see `ladder doctor`'}; or, for a checkpoint of this project, use the CPU with device 'cpu'`,
      { device: name },
    );
  }
  if (status.deviceCount === 0)
    throw new LadderError(
      'NO_DEVICE',
      `${status.reason}; ${status.remedy}; or, for a checkpoint of this project, use the CPU with device 'cpu'`,
      { device: name },
    );
  throw new LadderError(
    'NO_DEVICE',
    `expected one of ${devices.map((device) => device.id).join(', ')} for \`device\` but received ${JSON.stringify(name)}`,
    { device: name },
  );
}

/** Every CUDA device, for work that is shared out over them. */
export const kAllDevices = 'cuda:all';

/**
 * The devices that `cuda:all` means here, every CUDA device, or the one that {@link selectDevice} chooses.
 * @throws LadderError as there; `BAD_ARGUMENT` where they differ, so that chance would decide what a case is measured on
 */
export function selectDevices(wanted: string): readonly DeviceInfo[] {
  if (wanted !== kAllDevices) return [selectDevice(wanted)];
  const first = selectDevice('cuda');
  const devices = listDevices().filter(({ kind }) => kind === 'cuda');
  const odd = devices.find(({ name, computeCapability }) => name !== first.name || computeCapability !== first.computeCapability);
  if (odd)
    throw new LadderError(
      'BAD_ARGUMENT',
      `expected GPUs of one kind for --device ${kAllDevices} but found ${first.name} (${first.id}) and ${odd.name} (${odd.id}); choose one, e.g. --device ${odd.id}`,
      { device: kAllDevices },
    );
  return devices;
}

/** Ordinal of a CUDA device; 0 for the CPU, which has only one. */
export function ordinalOf(device: DeviceInfo): number {
  return device.kind === 'cuda' ? Number(device.id.slice('cuda:'.length)) : 0;
}

/** Compute capability of a CUDA device as numbers. */
export function computeCapabilityOf(device: DeviceInfo): readonly [number, number] {
  const [major = 0, minor = 0] = (device.computeCapability ?? '').split('.').map(Number);
  return [major, minor];
}

/** The device as a record holds it. */
export function deviceForRecord(device: DeviceInfo): BenchRecord['device'] {
  const { id, kind, name, computeCapability, driverVersion, multiprocessors, memoryBytes, l2Bytes } = device;
  return { id, kind, name, computeCapability, driverVersion, multiprocessors, memoryBytes, l2Bytes };
}

/** A device's name as a folder: `nvidia-h100-80gb-hbm3`. */
export function deviceFolder(device: { readonly name: string }): string {
  return (
    device.name
      .toLowerCase()
      .replace(/[^a-z0-9]+/g, '-')
      .replace(/^-|-$/g, '') || 'device'
  );
}
