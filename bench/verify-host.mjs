// What `ladder verify` of a checkpoint costs the host: every operator is verified with a stand-in for the device, which writes
// its outputs at once and wrong, so that all of the time is the comparison's. Needs a C compiler, no GPU.
//
// Usage: node bench/verify-host.mjs CHECKPOINT…   one line per operator: seconds, CPU seconds, elements compared, memory's peak
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readCheckpoint } from '../dist/artifact/checkpoint.js';
import { planExecutor } from '../dist/artifact/plan.js';
import { native } from '../dist/native.js';
import { fillWeights } from '../dist/run/load.js';
import { parseOptions, verifyOptionsSchema } from '../dist/run/options.js';

/** Operators with 1 to 4 outputs, by TVM's calling convention; every byte they write is 0x2a, a small number in any type. */
const standIns = `
#include <stdint.h>
#include <string.h>
typedef struct { void* data; int32_t device, ordinal, dimensions; uint8_t code, bits; uint16_t lanes; int64_t* shape; } Tensor;
void* __tvm_module_ctx = 0;
static int fill(Tensor** tensors, int count, int outputs) {
  for (int i = count - outputs; i < count; ++i) {
    int64_t bytes = (tensors[i]->bits + 7) / 8;
    for (int d = 0; d < tensors[i]->dimensions; ++d) bytes *= tensors[i]->shape[d];
    memset(tensors[i]->data, 0x2a, bytes);
  }
  return 0;
}
#define OUTPUTS(n) int stand_in_##n(Tensor** tensors, int* codes, int count, void* a, int* b, void* c) { return fill(tensors, count, n); }
OUTPUTS(1) OUTPUTS(2) OUTPUTS(3) OUTPUTS(4)
`;

/** Largest resident memory so far, GiB. */
const peak = () => Number(/VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]) / 2 ** 20;

function compileStandIns(folder) {
  const [source, path] = [join(folder, 'stand_ins.c'), join(folder, 'stand_ins.so')];
  writeFileSync(source, standIns);
  const { status, stderr } = spawnSync(process.env.CC ?? 'cc', ['-O2', '-fPIC', '-shared', '-o', path, source], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`the C compiler failed: ${stderr}`);
  return { path, images: [], constants: [], constantUsers: [], launchesItself: false, lastErrorAddress: null };
}

async function verify(path, module) {
  const checkpoint = await readCheckpoint(path);
  const plan = planExecutor(checkpoint, { deviceType: 1, deviceOrdinal: 0, useReference: true });
  const operators = plan.operators.map((operator) => ({
    ...operator,
    kind: 'packed',
    functionName: `stand_in_${operator.outputs.length}`,
  }));
  const executor = await native().openExecutor({ ...plan, operators, module });
  try {
    await fillWeights(checkpoint, executor, undefined, {});
    const { maxColumns, maxRows } = parseOptions(verifyOptionsSchema, {});
    const start = performance.now();
    for (const [index, { node }] of operators.entries()) {
      const [before, cpu] = [performance.now(), process.cpuUsage()];
      const inputs = checkpoint.manifest.operators[index].probe;
      const results = await executor.verifyOperator(index, { seed: 1n, inputs, maxColumns, maxRows });
      const { user, system } = process.cpuUsage(cpu);
      const compared = results.map((result) => result.compared).join(', ');
      const seconds = ((performance.now() - before) / 1000).toFixed(2);
      console.log(
        `${seconds.padStart(8)} s  ${((user + system) / 1e6).toFixed(2).padStart(6)} s CPU  ${peak().toFixed(2)} GiB  ${node}: ${compared}`,
      );
    }
    console.log(`${((performance.now() - start) / 1000).toFixed(2).padStart(8)} s  ${checkpoint.name}`);
  } finally {
    await executor.dispose();
  }
}

const folder = mkdtempSync(join(tmpdir(), 'ladder-verify-host-'));
try {
  const module = compileStandIns(folder);
  for (const path of process.argv.slice(2)) await verify(path, module);
} finally {
  rmSync(folder, { recursive: true });
}
