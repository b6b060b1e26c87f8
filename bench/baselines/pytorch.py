#!/usr/bin/env python3
"""Times one model of Figure 8 with PyTorch, eager or compiled by Inductor, by the project's own protocol.

Run by lib/baselines/adapters/pytorch.ts, or by hand. One JSON object on stdout; on stderr progress lines
(`ladder-progress {"stage": …}`) and whatever PyTorch says. A failure is an object with "ok": false and exit status 1.

  python3 pytorch.py --mode eager --model llama2-70b --batch 1 --seq 1
  python3 pytorch.py --mode inductor --model vit --batch 128
  python3 pytorch.py --mode inductor --precision int4 --model llama2-70b --batch 32     a decoder layer at low precision
  python3 pytorch.py --selftest [--mode inductor] [--precision int4] [--model vit]     all models, or one, at tiny sizes; parameter counts
                                                                                       at full size
  python3 pytorch.py --probe                          which PyTorch and GPU there are

Inductor means torch.compile(mode="max-autotune-no-cudagraphs", fullgraph, static shapes), its result captured into one
CUDA graph here: that is mode "max-autotune" without the copy of the inputs that its own graphs make on every call.
"""
import argparse
import copy
import faulthandler
import functools
import gc
import json
import math
import os
import sys
import threading
import time
import traceback

OLDEST_TORCH = (2, 5)  # scaled_dot_product_attention(enable_gqa=…)
# Relative L2 error of the output against an FP32 evaluation of the weights before they were quantised: roundings to FP16; to 4
# bits of mantissa, of both operands (0.8 to 2.1 % on tiny layers); to 16 steps per group of weights (1.3 to 3.7 %). Without
# either product of the MLP it is 10 % and more.
TOLERANCE = {"fp16": 1e-2, "fp8": 3e-2, "int4": 6e-2}


class Failure(Exception):
    """Ends the script with this reason in its answer."""


def log_progress(stage, fraction=None, detail=None):
    print("ladder-progress " + json.dumps({"stage": stage, "fraction": fraction, "detail": detail}), file=sys.stderr, flush=True)


def throttled_progress(stage):
    last = [0.0]

    def report(fraction):
        now = time.monotonic()
        if fraction >= 1 or now - last[0] >= 0.25:
            last[0] = now
            log_progress(stage, fraction)
    return report


class Heartbeat:
    """Says every few seconds that a stage without a fraction is alive, so that nobody takes an autotuner for a hang."""

    def __init__(self, stage):
        self._stage, self._done = stage, threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def _beat(self):
        start = time.monotonic()
        while not self._done.wait(5):
            log_progress(self._stage, None, f"{time.monotonic() - start:.0f} s")

    def __enter__(self):
        log_progress(self._stage)
        self._thread.start()

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()


class TimeLimit:
    """Ends the process when a stage takes too long, its name last on stderr after every thread's stack: a hang in a compiler
    or in a kernel answers to nothing else."""

    def __init__(self, seconds, label):
        self._seconds, self._label = seconds, label
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def _end(self):
        faulthandler.dump_traceback()
        print(f"FAIL {self._label}: not done after its time limit of {self._seconds:g} s", file=sys.stderr, flush=True)
        os._exit(1)

    def __enter__(self):
        self._timer.start()
        # Needs no Python, for a hang that keeps the interpreter's lock.
        faulthandler.dump_traceback_later(self._seconds + 10, exit=True)

    def __exit__(self, *_):
        self._timer.cancel()
        faulthandler.cancel_dump_traceback_later()


def import_torch():
    try:
        import torch
    except ImportError as error:
        raise Failure(f"{sys.executable} cannot import torch ({error}); install PyTorch with CUDA for this Python") from error
    version = tuple(int("".join(c for c in part if c.isdigit()) or 0) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < OLDEST_TORCH:
        raise Failure(f"PyTorch {torch.__version__} is too old: expected at least {'.'.join(map(str, OLDEST_TORCH))}")
    return torch


def require_cuda(torch):
    if torch.version.cuda is None:
        raise Failure(f"PyTorch {torch.__version__} was built without CUDA")
    if not torch.cuda.is_available():
        raise Failure(f"PyTorch {torch.__version__} (CUDA {torch.version.cuda}) finds no usable GPU: torch.cuda.is_available() is False")


def describe_environment(torch, ordinal):
    """Versions, and the device with the record's field names."""
    from nvml import Nvml
    properties = torch.cuda.get_device_properties(ordinal)
    nvml = Nvml(getattr(properties, "uuid", ""))
    try:
        import triton
        triton_version = triton.__version__
    except ImportError:
        triton_version = None
    return nvml, {
        "torchVersion": torch.__version__,
        "cudaVersion": torch.version.cuda,
        "cudnnVersion": torch.backends.cudnn.version(),
        "tritonVersion": triton_version,
        "device": {
            "kind": "cuda",
            "name": properties.name,
            "computeCapability": f"{properties.major}.{properties.minor}",
            "driverVersion": nvml.driver_version(),
            "multiprocessors": properties.multi_processor_count,
            "memoryBytes": properties.total_memory,
            "l2Bytes": getattr(properties, "L2_cache_size", None),
        },
    }


def reference_output(torch, model, x):
    """The same weights in FP32 without TF32, or None with a reason where memory does not suffice."""
    try:
        reference = copy.deepcopy(model).float()(x.float())
    except torch.cuda.OutOfMemoryError as error:
        reason = f"numerics unchecked: no memory for the FP32 evaluation ({str(error).splitlines()[0]})"
        reference = None
    else:
        reason = None
    gc.collect()
    torch.cuda.empty_cache()
    return reference, reason


def compile_model(torch, model, x, autotune):
    """Compiles and runs once; returns the callable, milliseconds, and whether Inductor found the result of an earlier run."""
    import torch._inductor.config as inductor
    from torch._dynamo.utils import counters
    if hasattr(inductor, "autotune_num_choices_displayed"):
        inductor.autotune_num_choices_displayed = 0
    torch._dynamo.reset()
    counters.clear()
    start = time.perf_counter()
    compiled = torch.compile(model, mode="max-autotune-no-cudagraphs" if autotune else None, fullgraph=True, dynamic=False)
    with Heartbeat("compile"):
        compiled(x)
        torch.cuda.synchronize()
    milliseconds = (time.perf_counter() - start) * 1e3
    cached = counters["inductor"]["fxgraph_cache_hit"] + counters["aot_autograd"]["autograd_cache_hit"] > 0
    return compiled, milliseconds, cached


def capture_graph(torch, call):
    """Captures `call` after a warm-up on a side stream, as CUDA graphs ask for; returns what replays it and gives its output."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = call()

    def replay():
        graph.replay()
        return output
    return replay


def measure(arguments, torch):
    import low_precision
    import models
    import networks
    import protocol

    models.check_setting(arguments.model, arguments.batch, arguments.seq)
    if arguments.precision != "fp16" and not models.specification(arguments.model).is_layer:
        raise Failure(f"--precision {arguments.precision} is for decoder layers, and {arguments.model} is a network")
    require_cuda(torch)
    device = torch.device("cuda", arguments.device)
    if arguments.device >= torch.cuda.device_count():
        raise Failure(f"expected --device below {torch.cuda.device_count()} but received {arguments.device}")
    torch.cuda.set_device(device)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = False
    nvml, answer = describe_environment(torch, arguments.device)
    warnings = []

    log_progress("build")
    dtype = torch.float16 if arguments.precision == "fp16" else torch.bfloat16
    model = models.build(arguments.model, arguments.seq, device, dtype, arguments.seed, arguments.tiny)
    parameters = models.count_parameters(model)
    x = models.random_input(arguments.model, arguments.batch, arguments.seq, device, dtype, arguments.seed + 2, arguments.tiny)
    spec = models.specification(arguments.model)
    log_progress("reference")
    reference, unchecked = reference_output(torch, model, x)
    if unchecked:
        warnings.append(unchecked)
    if arguments.precision != "fp16":
        log_progress("quantise")
        model = low_precision.convert(model, arguments.precision)

    memory_format = arguments.memory_format
    if memory_format == "own":
        memory_format = "channels_last" if arguments.mode in spec.channels_last else "contiguous"
    if memory_format == "channels_last" and x.dim() == 4:
        model = model.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)

    compile_ms, cached, folded, launch = None, None, 0, "stream"
    call = functools.partial(model, x)
    if arguments.mode == "inductor":
        folded = networks.fold_batch_norms(model)
        # Tiny sizes try the path out, not the autotuner.
        compiled, compile_ms, cached = compile_model(torch, model, x, autotune=not arguments.tiny)
        call = functools.partial(compiled, x)
        log_progress("capture")
        try:
            call = capture_graph(torch, call)
            launch = "graph"
        except RuntimeError as error:
            torch.cuda.synchronize()
            warnings.append(f"not captured into a CUDA graph, launched from Python instead: {str(error).splitlines()[0]}")

    log_progress("warmup")
    state_before = nvml.state()
    protocol.warm_up(call, arguments.warmup_ms)
    result, states = protocol.measure_samples(call, arguments.min_samples, arguments.max_samples, arguments.max_ms, arguments.recovery_ms,
                                              arguments.rests, nvml.state, throttled_progress("samples"))
    sustained = None
    if arguments.sustained:
        log_progress("sustained")
        sustained = protocol.measure_sustained(call, arguments.min_samples, arguments.max_samples, arguments.max_ms, nvml.state)
    state_after = nvml.state()
    paper = protocol.measure_paper(call, arguments.number, arguments.repeat, arguments.min_repeat_ms, throttled_progress("paper"))

    # Checked last, on the path that was timed: a graph's output is what its last replay wrote.
    output = call()
    torch.cuda.synchronize()
    models.check_output(arguments.model, arguments.batch, arguments.seq, output, arguments.tiny)
    error = None if reference is None else models.relative_l2(output, reference)
    answer.update({
        "schema": "ladder-pytorch/1", "ok": True,
        "mode": arguments.mode, "precision": arguments.precision, "model": arguments.model, "batch": arguments.batch, "seq": arguments.seq,
        "tiny": arguments.tiny, "seed": arguments.seed,
        "launch": launch, "memoryFormat": memory_format, "foldedBatchNorms": folded, "compileMs": compile_ms, "compileCached": cached,
        "parameters": parameters, "outputShape": list(output.shape),
        "relativeL2": error if error is not None and math.isfinite(error) else None, "tolerance": TOLERANCE[arguments.precision],
        "numericsOk": None if error is None else error <= TOLERANCE[arguments.precision],
        "samples": result, "sustained": sustained, "paper": paper,
        "stateBefore": state_before, "statesDuring": states, "stateAfter": state_after, "warnings": warnings,
    })
    return answer


def selftest_shapes(spec, mode):
    """Batch and tokens that the self-test tries. A compilation takes seconds, so that Inductor gets the richest shape only."""
    shapes = [(1, 1), (4, 1), (1, 64)] if spec.is_layer else [(1, 1), (4, 1)]
    return shapes[-1:] if mode == "inductor" else shapes


def selftest(arguments, torch):
    """Counts at full size without memory, then every model tiny: shape, numerics, folding, and the protocol. Inductor without
    max-autotune; each model within a time limit."""
    import models
    require_cuda(torch)
    failures = []
    names = [arguments.model] if arguments.model else [name for name, spec in models.MODELS.items()
                                                       if arguments.precision == "fp16" or spec.is_layer]
    arguments.tiny, arguments.min_samples, arguments.max_samples, arguments.max_ms = True, 5, 20, 50
    arguments.warmup_ms, arguments.repeat, arguments.min_repeat_ms = 5, 2, 5
    start = time.monotonic()
    for index, name in enumerate(names):
        log_progress("selftest", index / len(names), f"{name} {arguments.mode}, after {time.monotonic() - start:.0f} s")
        with TimeLimit(arguments.selftest_limit_s, f"{name} {arguments.mode}"):
            spec = models.specification(name)
            shapes = selftest_shapes(spec, arguments.mode)
            for batch, seq in shapes:
                arguments.model, arguments.batch, arguments.seq = name, batch, seq
                label = f"{name} batch {batch} seq {seq} {arguments.mode} {arguments.precision}"
                try:
                    if (batch, seq) == shapes[0]:
                        models.build(name, 4096 if spec.is_layer else 1, "meta", torch.float16, 0)
                    answer = measure(arguments, torch)
                    if not answer["numericsOk"]:
                        raise Failure(f"relative L2 error {answer['relativeL2']} exceeds {answer['tolerance']}")
                    times = answer["samples"]["rawMs"]
                    print(f"ok   {label}: relative L2 {answer['relativeL2']:.2e}, median {sorted(times)[len(times) // 2]:.4f} ms, "
                          f"{answer['launch']}, output {answer['outputShape']}", file=sys.stderr, flush=True)
                except Exception as error:  # every model is tried, whatever the one before it did
                    traceback.print_exc()
                    failures.append(f"{label}: {type(error).__name__}: {error}")
                    print(f"FAIL {label}: {error}", file=sys.stderr, flush=True)
    if failures:
        raise Failure("; ".join(failures))
    return {"schema": "ladder-pytorch-selftest/1", "ok": True, "mode": arguments.mode, "models": names,
            "seconds": time.monotonic() - start, "torchVersion": torch.__version__}


def probe(arguments, torch):
    require_cuda(torch)
    _, answer = describe_environment(torch, arguments.device)
    return {"schema": "ladder-pytorch-probe/1", "ok": True, **answer}


def parse_arguments():
    parser = argparse.ArgumentParser(description="Times one model of Figure 8 with PyTorch.")
    parser.add_argument("--mode", choices=["eager", "inductor"], default="eager")
    parser.add_argument("--precision", choices=list(TOLERANCE), default="fp16", help="of the linear layers of a decoder layer")
    parser.add_argument("--model")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seq", type=int, default=1)
    parser.add_argument("--device", type=int, default=0, help="CUDA ordinal")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--warmup-ms", type=float, default=200)
    parser.add_argument("--min-samples", type=int, default=100)
    parser.add_argument("--max-samples", type=int, default=2000)
    parser.add_argument("--max-ms", type=float, default=3000)
    parser.add_argument("--recovery-ms", type=float, default=250, help="pause after 100 ms that the power limit slowed down; 0: none, and all samples count")
    parser.add_argument("--rests", action="store_true", help="short bursts and pauses from the beginning: arithmetic decides")
    parser.add_argument("--sustained", action="store_true", help="sample after a second of load as well, with nothing set aside")
    parser.add_argument("--number", type=int, default=5)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--min-repeat-ms", type=float, default=500)
    parser.add_argument("--memory-format", choices=["own", "contiguous", "channels_last"], default="own",
                        help="own: channels_last where models.py says that it is faster")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to try the script out")
    parser.add_argument("--selftest", action="store_true")
    parser.add_argument("--selftest-limit-s", type=float, default=120, help="of one model; a longer one ends the self-test")
    parser.add_argument("--probe", action="store_true")
    arguments = parser.parse_args()
    if not (arguments.selftest or arguments.probe) and arguments.model is None:
        parser.error("--model is required")
    return arguments


def main():
    arguments = parse_arguments()
    # Only the answer goes to stdout: compilers and libraries print to it too.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    torch = None
    try:
        log_progress("import")
        torch = import_torch()
        task = selftest if arguments.selftest else probe if arguments.probe else measure
        with torch.no_grad():
            answer = task(arguments, torch)
    except Exception as error:
        traceback.print_exc()
        lines = str(error).strip().splitlines() or [""]
        name = "" if isinstance(error, Failure) else f"{type(error).__name__}: "
        answer = {"schema": "ladder-pytorch/1", "ok": False, "reason": name + lines[0],
                  "torchVersion": None if torch is None else torch.__version__, "traceback": traceback.format_exc()[-4000:]}
    print(json.dumps(answer), file=answers, flush=True)
    return 0 if answer["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
