// What doctor and the commands say of a driver that cannot be used: the advice that fits each failure. Against the stand-in
// for the driver.
import { spawnSync } from 'node:child_process';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { buildFakeCuda } from '../fixtures/native/fake-cuda-run.js';
import { Workshop } from '../fixtures/native/objects.js';

const cli = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const workshop = new Workshop();
let folder: string;
beforeAll(() => {
  folder = dirname(buildFakeCuda(workshop));
});
afterAll(() => workshop.remove());

interface Finding {
  readonly name: string;
  readonly state: string;
  readonly found: string;
  readonly remedy: string | null;
}

function doctor(environment: NodeJS.ProcessEnv): ReadonlyMap<string, Finding> {
  const { CUDA_VISIBLE_DEVICES: _, ...inherited } = process.env;
  const env = { ...inherited, LD_LIBRARY_PATH: folder, ...environment };
  const { stdout } = spawnSync(process.execPath, [cli, 'doctor', '--json'], { encoding: 'utf8', env });
  return new Map((JSON.parse(stdout) as Finding[]).map((finding) => [finding.name, finding]));
}

describe('a driver that cannot be used', () => {
  test.each([
    [34, {}, /stub.*LD_LIBRARY_PATH/],
    [100, {}, /--gpus all|nvidia-smi/],
    [100, { CUDA_VISIBLE_DEVICES: '' }, /CUDA_VISIBLE_DEVICES is "", which hides every GPU: unset it/],
    [100, { CUDA_VISIBLE_DEVICES: '-1' }, /CUDA_VISIBLE_DEVICES is "-1"/],
    [802, {}, /nvidia-fabricmanager/],
    [803, {}, /differ in version: reboot.*compat/],
    [804, {}, /forward-compatible.*compat/],
    [999, {}, /nvidia_uvm.*reboot/],
    [304, {}, /nvidia-smi.*dmesg/],
  ])('cuInit gives %i (%o)', (result, environment, remedy) => {
    const finding = doctor({ FAKE_CUDA_FAIL: `cuInit=${result}`, ...environment }).get('CUDA driver');
    expect(finding).toMatchObject({
      state: 'absent',
      found: expect.stringContaining(`FAKE_ERROR_${result}`),
      remedy: expect.stringMatching(remedy),
    });
    expect(finding!.remedy).toMatch(/--device cpu/);
  });

  test('a driver that shows no device', () => {
    const findings = doctor({ FAKE_CUDA_DEVICES: '0', CUDA_VISIBLE_DEVICES: '7' });
    expect(findings.get('CUDA driver')).toMatchObject({ state: 'ok' });
    expect(findings.get('GPU')).toMatchObject({ state: 'absent', remedy: expect.stringContaining('CUDA_VISIBLE_DEVICES is "7"') });
  });

  test('no driver, and no NVML', () => {
    if (doctor({ LD_LIBRARY_PATH: '' }).get('CUDA driver')!.state === 'ok') return;
    expect(doctor({ LD_LIBRARY_PATH: '' }).get('CUDA driver')).toMatchObject({
      found: expect.stringContaining('libcuda.so.1 could not be loaded'),
      remedy: expect.stringMatching(/install|start the container|add its folder/),
    });
    expect(doctor({}).get('NVML')).toMatchObject({
      state: 'absent',
      remedy: expect.stringMatching(/`utility`.*NVIDIA_DRIVER_CAPABILITIES/),
    });
  });

  test('a run says the same', () => {
    const env = { ...process.env, LD_LIBRARY_PATH: folder, FAKE_CUDA_FAIL: 'cuInit=999' };
    const args = [cli, 'run', 'llama2-70b/llama2_bs1_seq1_async', '--device', 'cuda'];
    const { status, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8', env });
    expect(status).toBe(1);
    expect(stderr).toMatch(/FAKE_ERROR_999.*nvidia_uvm.*NO_DRIVER/);
  });
});
