"""The measuring protocol, the same as the project's own: CUDA events on the stream that works, warm-up first.

Two figures: per-inference samples, and the paper's rule (TVM's time_evaluator with number 5, repeat 5,
min_repeat_ms 500). No statistics: the raw values leave this process. The L2 cache stays hot.
"""
import collections
import time

import torch

# Inferences enqueued ahead of the one being waited for: the GPU never waits for Python between samples unless the
# system under test is itself bound by its launches.
QUEUE_DEPTH = 16
# As in lib/run/bursts.ts and lib/run/conditions.ts, which explain them.
BURST_MS, LEAST_BURST_MS, BURST_WARM_UP_MS, PATIENCE, CAPPED_CLOCK_SHARE = 100, 40, 2, 2, 0.75
SUSTAINED_LOAD_MS = 1000


def warm_up(call, at_least_ms, at_least=3):
    """Runs for `at_least_ms` of host time and `at_least` inferences."""
    start, count = time.perf_counter(), 0
    while count < at_least or (time.perf_counter() - start) * 1e3 < at_least_ms:
        call()
        count += 1
        torch.cuda.synchronize()


def take_burst(call, at_most, max_ms, at_least=1, look=None):
    """Samples for `max_ms`, `at_least` so many: a dictionary of lists, and its host time. `look` is called every 100 ms meanwhile."""
    samples, enqueue = [], []
    pending = collections.deque()

    def collect():
        first, last = pending.popleft()
        last.synchronize()
        samples.append(first.elapsed_time(last))

    torch.cuda.synchronize()
    start = last_look = time.perf_counter()
    while len(enqueue) < at_least or (len(enqueue) < at_most and (time.perf_counter() - start) * 1e3 < max_ms):
        if look is not None and time.perf_counter() - last_look >= 0.1:
            look()
            last_look = time.perf_counter()
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        first.record()
        before = time.perf_counter()
        call()
        enqueue.append((time.perf_counter() - before) * 1e3)
        last.record()
        pending.append((first, last))
        if len(pending) >= QUEUE_DEPTH:
            collect()
    while pending:
        collect()
    return {"rawMs": samples, "enqueueMs": enqueue, "hostMs": (time.perf_counter() - start) * 1e3}


def power_capped(state):
    """Whether the power limit held the clock so low that it shaped what was measured: judgement.ts has the same rule."""
    if state is None or "sw_power_cap" not in (state["throttleReasons"] or []):
        return False
    clock, highest = state["smClockMHz"], state["maxSmClockMHz"]
    return not clock or not highest or clock / highest < CAPPED_CLOCK_SHARE


def measure_samples(call, min_samples, max_samples, max_ms, recovery_ms, rests, read_state, progress):
    """One pair of events per inference, in bursts, shorter and with a pause after each once the power limit slowed one, as in bursts.ts;
    `rests`: from the beginning, and after the caller's warm-up. Stops at `max_samples`, or after `max_ms` once `min_samples` are there. `read_state`: clock and throttle reasons, or None."""
    kept, capped, everything = [], [], []
    burst_ms, paused_ms, paused_in_vain_ms = LEAST_BURST_MS if rests and recovery_ms > 0 else BURST_MS, 0.0, 0.0
    cooled = burst_ms < BURST_MS
    if cooled:
        time.sleep(recovery_ms / 1e3)

    def count(bursts):
        return sum(len(burst["rawMs"]) for burst in bursts)

    def host_ms(bursts):
        return sum(burst["hostMs"] for burst in bursts)

    while True:
        time_is_up = host_ms(kept) + paused_ms >= max_ms
        if everything:
            progress(min(1.0, max(count(kept) / max_samples, min(1.0 if time_is_up else (host_ms(kept) + paused_ms) / max_ms, count(kept) / min_samples))))
        if count(kept) >= max_samples or (count(kept) >= min_samples and time_is_up):
            break
        if count(everything) >= min_samples and host_ms(capped) + paused_in_vain_ms > PATIENCE * max_ms:
            break
        if everything or cooled:
            warm_up(call, BURST_WARM_UP_MS, 1)
        fitting = max(1, int(burst_ms / min(burst["hostMs"] / len(burst["rawMs"]) for burst in everything))) if everything else max_samples
        burst = take_burst(call, min((min_samples if time_is_up else max_samples) - count(kept), fitting), burst_ms)
        burst["state"] = read_state()
        slowed = recovery_ms > 0 and power_capped(burst["state"])
        everything.append(burst)
        (capped if slowed else kept).append(burst)
        if slowed:
            burst_ms = max(LEAST_BURST_MS, burst_ms / 2)
        if burst_ms < BURST_MS:
            time.sleep(recovery_ms / 1e3)
            paused_ms += recovery_ms
            paused_in_vain_ms += recovery_ms if slowed else 0.0
    enough = count(kept) >= min_samples
    chosen = kept if enough else everything

    def values(bursts, key):
        return [value for burst in bursts for value in burst[key]]

    return {
        "rawMs": values(chosen, "rawMs"), "enqueueMs": values(chosen, "enqueueMs"), "hostMsPerInference": host_ms(chosen) / count(chosen),
        "setAsideMs": values(capped, "rawMs") if enough else [],
    }, [burst["state"] for burst in chosen if burst["state"] is not None]


def measure_sustained(call, min_samples, max_samples, max_ms, read_state):
    """Samples after a second of load, none set aside, and the readings meanwhile: lib/run/benchmark.ts has the same."""
    states = []

    def look():
        state = read_state()
        if state is not None:
            states.append(state)

    warm_up(call, SUSTAINED_LOAD_MS)
    samples = take_burst(call, max_samples, max_ms, min_samples, look)
    if not states:
        look()
    return {"rawMs": samples["rawMs"], "states": states}


def measure_paper(call, number, repeat, min_repeat_ms, progress):
    """TVM's rule: `number` grows until one repeat lasts `min_repeat_ms`, and stays for the next repeats."""
    values, numbers = [], []
    call()
    torch.cuda.synchronize()
    for index in range(repeat):
        elapsed_ms = 0.0
        while True:
            if elapsed_ms > 0:
                number = int(max(min_repeat_ms / (elapsed_ms / number) + 1, number * 1.618))
            first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            first.record()
            for _ in range(number):
                call()
            last.record()
            last.synchronize()
            elapsed_ms = first.elapsed_time(last)
            if elapsed_ms >= min_repeat_ms:
                break
        values.append(elapsed_ms / number)
        numbers.append(number)
        progress((index + 1) / repeat)
    return {"valuesMs": values, "numbers": numbers}
