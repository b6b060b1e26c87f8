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


def warm_up(call, at_least_ms):
    """Runs for `at_least_ms` of host time, 3 inferences at the least."""
    start, count = time.perf_counter(), 0
    while count < 3 or (time.perf_counter() - start) * 1e3 < at_least_ms:
        call()
        count += 1
        torch.cuda.synchronize()


def measure_samples(call, min_samples, max_samples, max_ms, progress):
    """One pair of events per inference. Stops at `max_samples`, or after `max_ms` once `min_samples` are there."""
    samples, enqueue = [], []
    pending = collections.deque()

    def collect():
        first, last = pending.popleft()
        last.synchronize()
        samples.append(first.elapsed_time(last))

    torch.cuda.synchronize()
    start = time.perf_counter()
    while True:
        launched = len(samples) + len(pending)
        elapsed_ms = (time.perf_counter() - start) * 1e3
        if launched >= max_samples or (launched >= min_samples and elapsed_ms >= max_ms):
            break
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        first.record()
        before = time.perf_counter()
        call()
        enqueue.append((time.perf_counter() - before) * 1e3)
        last.record()
        pending.append((first, last))
        if len(pending) >= QUEUE_DEPTH:
            collect()
        progress(min(1.0, max(launched / max_samples, min(launched / min_samples, elapsed_ms / max(max_ms, 1e-3)))))
    while pending:
        collect()
    host_ms = (time.perf_counter() - start) * 1e3
    return {"rawMs": samples, "enqueueMs": enqueue, "hostMsPerInference": host_ms / len(samples)}


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
