// Samples in bursts, on a GPU made of numbers: work heats it up to its power limit, a pause cools it down.
import { describe, expect, it } from 'vitest';
import { sampleInBursts, sampleInTurn, setAsideWarnings, type BurstLimits, type BurstResult } from '../../lib/run/bursts.js';

/** Inferences take 1 ms, and 2 ms once `untilCappedMs` of work have gone by without a pause. */
class PretendGpu {
  readonly warmups: number[] = [];
  readonly pauses: number[] = [];
  readonly fractions: number[] = [];
  private workedMs = 0;
  private capped = false;

  constructor(
    private readonly untilCappedMs: number,
    private readonly recovers = true,
  ) {}

  async take({ warmupMs, minSamples, maxSamples, maxMs }: Omit<BurstLimits, 'recoveryMs' | 'rests'>) {
    expect(maxSamples).toBeGreaterThanOrEqual(minSamples);
    this.warmups.push(warmupMs);
    this.capped ||= this.workedMs >= this.untilCappedMs;
    const each = this.capped ? 2 : 1;
    const count = Math.max(minSamples, Math.min(maxSamples, Math.ceil(maxMs / each)));
    this.workedMs += count * each;
    return { gpuMs: new Float64Array(count).fill(each), enqueueMs: new Float64Array(count).fill(0.01), hostMsPerInference: each };
  }
  read() {
    return {
      smClockMHz: this.capped ? 1200 : 1980,
      memoryClockMHz: 2619,
      maxSmClockMHz: 1980,
      temperatureC: 60,
      powerW: 700,
      throttleReasons: this.capped ? ['sw_power_cap'] : [],
    };
  }
  async pause(ms: number) {
    this.pauses.push(ms);
    if (this.recovers) [this.workedMs, this.capped] = [0, false];
  }
  onProgress(fraction: number) {
    this.fractions.push(fraction);
  }
}

const limits: BurstLimits = { warmupMs: 200, minSamples: 100, maxSamples: 1000, maxMs: 3000, recoveryMs: 250, rests: false };
const measure = async (gpu: PretendGpu, change: Partial<BurstLimits> = {}): Promise<BurstResult> =>
  sampleInBursts(gpu, { ...limits, ...change });

describe('sampleInBursts', () => {
  it('takes what was asked for, without a pause, where the clock holds', async () => {
    const gpu = new PretendGpu(Infinity);
    const result = await measure(gpu);
    expect(result).toMatchObject({ setAsideMs: [], hostMsPerInference: 1 });
    expect([result.gpuMs.length, result.enqueueMs.length, result.states.length]).toEqual([1000, 1000, 10]);
    expect([gpu.warmups[0], Math.max(...gpu.warmups.slice(1)), gpu.pauses]).toEqual([200, 2, []]);
    expect([gpu.fractions, gpu.fractions.at(-1)]).toEqual([[...gpu.fractions].sort((a, b) => a - b), 1]);
  });

  it('sets bursts under the power limit aside, rests, and goes on', async () => {
    const gpu = new PretendGpu(300);
    const result = await measure(gpu);
    expect([result.gpuMs.length, new Set(result.gpuMs), new Set(result.setAsideMs)]).toEqual([750, new Set([1]), new Set([2])]);
    expect(result.states.every(({ throttleReasons }) => throttleReasons?.length === 0)).toBe(true);
    // A pause after each burst since, of 50 ms, which counts as time.
    expect(gpu.pauses).toEqual(Array.from({ length: 10 }, () => 250));
    expect(setAsideWarnings(result.setAsideMs).join()).toMatch(
      /50 more samples, their median 2.000 ms, were set aside: the power limit held the clock below 75 %/,
    );
  });

  it('rests from the beginning where arithmetic decides, though no clock was low', async () => {
    const gpu = new PretendGpu(Infinity);
    const result = await measure(gpu, { rests: true });
    // The warm-up, then bursts of 40 ms, a pause after each.
    expect([gpu.warmups[0], new Set(gpu.warmups.slice(1))]).toEqual([200, new Set([2])]);
    expect(gpu.pauses.length).toBe(gpu.warmups.length);
    expect([result.gpuMs.length, result.setAsideMs]).toEqual([40 * (gpu.pauses.length - 1), []]);
  });

  it('counts all samples, with their readings, where no pause helps or none is wanted', async () => {
    const stuck = new PretendGpu(0, false);
    const result = await measure(stuck);
    expect([new Set(result.gpuMs), result.setAsideMs, result.states[0]?.throttleReasons]).toEqual([new Set([2]), [], ['sw_power_cap']]);
    expect(result.gpuMs.length).toBeGreaterThanOrEqual(limits.minSamples);
    expect(stuck.pauses.length).toBeLessThan(100);
    const unpaused = new PretendGpu(300);
    const whole = await measure(unpaused, { recoveryMs: 0 });
    expect([whole.gpuMs.length, new Set(whole.gpuMs), unpaused.pauses]).toEqual([1000, new Set([1, 2]), []]);
  });

  it('stops at the time limit once the least samples are there, and takes no more than those after it', async () => {
    expect((await measure(new PretendGpu(Infinity), { maxMs: 250 })).gpuMs.length).toBe(300);
    expect((await measure(new PretendGpu(Infinity), { maxMs: 0 })).gpuMs.length).toBe(100);
    expect((await measure(new PretendGpu(Infinity), { minSamples: 7, maxSamples: 7 })).gpuMs.length).toBe(7);
    // The last burst may end beyond.
    const stuck = (await measure(new PretendGpu(0, false), { maxMs: 0 })).gpuMs.length;
    expect(stuck >= 100 && stuck < 121).toBe(true);
  });

  it('takes several sources in turn, each until it has enough', async () => {
    const order: string[] = [];
    const gpu = (name: string, untilCappedMs: number): PretendGpu =>
      new (class extends PretendGpu {
        override async take(burst: Parameters<PretendGpu['take']>[0]) {
          order.push(name);
          return super.take(burst);
        }
      })(untilCappedMs);
    const [a, b] = await sampleInTurn([gpu('a', Infinity), gpu('b', 100)], { ...limits, maxSamples: 300 });
    expect(order.slice(0, 6).join('')).toBe('ababab');
    expect([a!.gpuMs.length, new Set(a!.gpuMs), a!.setAsideMs]).toEqual([300, new Set([1]), []]);
    expect([b!.gpuMs.length, new Set(b!.gpuMs), new Set(b!.setAsideMs)]).toEqual([300, new Set([1]), new Set([2])]);
    expect(order.filter((name) => name === 'a')).toHaveLength(3);
  });

  it('says nothing where nothing was set aside', () => {
    expect(setAsideWarnings([])).toEqual([]);
  });
});
