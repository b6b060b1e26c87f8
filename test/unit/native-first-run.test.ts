// What the first run of a device executor finds: launches that failed or did not happen, and operators that launch by
// themselves, whose work must then be in order with ours. Against the stand-in for the driver: no GPU needed.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseElf, localFunctionAddress } from '../../lib/artifact/elf.js';
import { FileSource } from '../../lib/artifact/byte-source.js';
import type { ExecutorPlan, PlanModule } from '../../lib/native.js';
import { buildFakeCuda, fakePlan, runWithFakeCuda } from '../fixtures/native/fake-cuda-run.js';
import { makePlan, Workshop } from '../fixtures/native/objects.js';

const workshop = new Workshop();
let library: string;
let embedded: string;
let lastErrorAddress: number | null;
let stripped: string;
/** Operators of both routes in one object. */
let mixed: string;

beforeAll(() => {
  library = buildFakeCuda(workshop);
  embedded = workshop.compile('embedded_launches.c', ['-ldl']);
  lastErrorAddress = addressIn(embedded);
  stripped = workshop.compile('embedded_launches.c', ['-ldl', '-s'], 'stripped');
  mixed = workshop.compile('both_routes.c', ['-ldl']);
});
afterAll(() => workshop.remove());

function addressIn(path: string): number | null {
  const source = new FileSource(path);
  try {
    return localFunctionAddress(source, parseElf(source), 'cudaGetLastError');
  } finally {
    source.close();
  }
}

/** x float32 [8] → … → y float32 [8], one operator after the other. */
function chain(functions: readonly string[], module: Partial<PlanModule> = {}): ExecutorPlan {
  const tensor = { dtype: 'float32', shape: [8] };
  return makePlan({
    device: 2,
    tensors: [tensor, ...functions.map(() => tensor)],
    operators: functions.map((functionName, i) => ({ functionName, inputs: [i], outputs: [i + 1] })),
    module: { path: embedded, images: [], constants: [], constantUsers: [], launchesItself: true, lastErrorAddress, ...module },
  });
}

interface Failure {
  code: string;
  message: string;
  context: Record<string, unknown>;
}
const kOpen = 'const executor = await addon.openExecutor(plan); await executor.write(0, floats(Array.from({ length: 8 }, (_, i) => i)));';
const run = (plan: ExecutorPlan, body: string, environment: NodeJS.ProcessEnv = {}): unknown =>
  runWithFakeCuda(library, plan, `${kOpen} ${body}`, '', environment);

describe('a launch that failed without a word', () => {
  test('the runtime’s last error is found in an object that does not export it', () => {
    expect(lastErrorAddress).toBeGreaterThan(0);
    expect(addressIn(stripped)).toBeNull();
  });
  test.each([
    [209, 'WRONG_ARCHITECTURE', /FAKE_ERROR_209.*rebuild model\.so for this GPU/],
    [98, 'WRONG_ARCHITECTURE', /cudaErrorInvalidDeviceFunction.*rebuild/],
    [9, 'CUDA', /cudaErrorInvalidConfiguration.*grid or block/],
    [35, 'CUDA', /cudaErrorInsufficientDriver.*update the driver/],
    [701, 'CUDA', /FAKE_ERROR_701.*registers or shared memory/],
  ])('error %i becomes %s, with the operator', (code, wanted, message) => {
    for (const call of [
      'run()',
      'runOperator(0)',
      "measureSamples({ launch: 'stream', l2: 'hot', warmupMs: 0, minSamples: 1, maxSamples: 1, maxMs: 0 }, null)",
    ]) {
      const error = run(chain(['embedded_add_one']), `return attempt(executor.${call});`, { FAKE_LAST_ERROR: String(code) }) as Failure;
      expect(error).toMatchObject({
        code: wanted,
        message: expect.stringMatching(message),
        context: { operator: 'embedded_add_one', node: 'node0' },
      });
    }
  });
  test('where the runtime cannot be asked, the outputs tell', () => {
    const plan = chain(['embedded_add_one'], { path: stripped, lastErrorAddress: null });
    const error = run(plan, 'return attempt(executor.run());', { FAKE_LAST_ERROR: '209' }) as Failure;
    expect(error).toMatchObject({ code: 'OPERATOR', message: expect.stringMatching(/embedded_add_one.*launched nothing.*ladder inspect/) });
  });
  test.each(['run()', 'capture()', 'profile(2, null)', "measurePaper({ launch: 'stream', number: 1, repeat: 1, minRepeatMs: 0 }, null)"])(
    'one operator that launches nothing among others is named by %s',
    (call) => {
      const error = run(
        chain(['embedded_add_one', 'embedded_nothing', 'embedded_add_one']),
        `return attempt(executor.${call});`,
      ) as Failure;
      expect(error).toMatchObject({ code: 'OPERATOR', context: { operator: 'embedded_nothing', node: 'node1' } });
    },
  );
  test('an operator whose output happens to be the poison is no error', () => {
    expect(run(chain(['embedded_poison']), 'await executor.run(); return [...new Uint8Array(await executor.read(1, 0, 2))];')).toEqual([
      0xa5, 0xa5,
    ]);
  });
});

describe('faults after the first run', () => {
  const samples = "measureSamples({ launch: 'stream', l2: 'hot', warmupMs: 0, minSamples: 4, maxSamples: 4, maxMs: 0 }, null)";
  const paper = "measurePaper({ launch: 'stream', number: 2, repeat: 1, minRepeatMs: 0 }, null)";
  test.each(['run()', samples, paper])('a launch that fails is looked for operator by operator: %s', (call) => {
    const body = `await executor.run(); await executor.run(); const error = await attempt(executor.${call}); await executor.dispose(); return error;`;
    const error = run(chain(['embedded_add_one', 'embedded_fails_to_launch', 'embedded_add_one']), body) as Failure;
    expect(error).toMatchObject({ code: 'CUDA', context: { operator: 'embedded_fails_to_launch', node: 'node1' } });
  });
  test('a fault that ends the context says how to find its operator', () => {
    const body = `await executor.run(); await executor.run(); const error = await attempt(executor.run()); await executor.dispose(); return error;`;
    const error = run(chain(['embedded_add_one', 'embedded_faults']), body) as Failure;
    expect(error).toMatchObject({ code: 'CUDA', context: { contextLost: 1 } });
    expect(error.message).toMatch(/start a new process; `ladder verify` runs operator by operator/);
  });
  test('a fault of the first run names it', () => {
    const error = run(
      chain(['embedded_add_one', 'embedded_faults', 'embedded_faults', 'embedded_faults']),
      'return attempt(executor.run());',
    ) as Failure;
    expect(error).toMatchObject({ code: 'CUDA', context: { contextLost: 1, operator: 'embedded_faults', node: 'node3' } });
  });
});

describe('operators that launch by themselves', () => {
  /** An embedded operator that takes 20 ms, beside an image that nobody calls, and one of its kernels that does. */
  const both = (functions: readonly string[], launchesItself: boolean): ExecutorPlan => {
    const { module } = fakePlan(mixed, []);
    return chain(functions, { ...module!, launchesItself, lastErrorAddress: null });
  };
  const measure = `await executor.run();
    const values = [...new Float32Array(await executor.read(plan.entries.length - 1))];
    const samples = await executor.measureSamples({ launch: 'stream', l2: 'hot', warmupMs: 0, minSamples: 3, maxSamples: 3, maxMs: 0 }, null);
    const capture = await executor.capture();
    await executor.dispose();
    return { values, ms: Math.min(...samples.gpuMs), capture };`;

  test.each([true, false])('are timed and in order beside an unused image (known before: %s)', (launchesItself) => {
    const result = run(both(['embedded_add_one', 'embedded_add_one'], launchesItself), measure) as {
      values: number[];
      ms: number;
      capture: { captured: boolean; reason: string };
    };
    expect(result.values).toEqual([2, 3, 4, 5, 6, 7, 8, 9]);
    expect(result.ms).toBeGreaterThan(35);
    expect(result.capture).toMatchObject({ captured: false, reason: expect.stringMatching(/embedded_add_one.*launches by itself/) });
  });
  test.each([true, false])('are in order with kernels of the blob and with copies (known before: %s)', (launchesItself) => {
    const plan = both(['embedded_add_one', 'twice', 'embedded_add_one', '__copy', 'twice'], launchesItself);
    const operators = plan.operators.map((operator) =>
      operator.functionName === '__copy' ? { ...operator, kind: 'copy' as const } : operator,
    );
    const result = run({ ...plan, operators }, measure) as { values: number[]; ms: number };
    expect(result.values).toEqual([0, 1, 2, 3, 4, 5, 6, 7].map((x) => 2 * (2 * (x + 1) + 1)));
    expect(result.ms).toBeGreaterThan(35);
  });
  test('none of them: kernels of the blob go to a stream of their own and are captured', () => {
    expect(run(both(['twice'], false), 'await executor.run(); return executor.capture();')).toMatchObject({
      captured: true,
      kernelNodes: 1,
    });
  });
});
