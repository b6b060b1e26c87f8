#!/usr/bin/env python3
"""The vendor's layer: the dense products of one decoder layer by cuBLASLt and its attention by cuDNN, through PyTorch, as one
sequence in a CUDA graph, and nothing else: no norm, activation function, residual, position or quantisation. What a layer
that is made of the vendor's parts cannot be faster than.

Run by lib/baselines/adapters/vendor.ts, which samples it in turn with a checkpoint. On stdout one JSON object a line: first
what was built, or "ok": false with the reason; then, for every line of stdin such as
  {"warmupMs": 2, "minSamples": 1, "maxSamples": 100, "maxMs": 100}
the samples that were taken. Ends when stdin does. Progress lines on stderr as pytorch.py's.

  python3 vendor.py --type fp8 --model llama2-70b --batch 1 --seq 4096
"""
import argparse
import json
import os
import sys
import traceback

from pytorch import Failure, capture_graph, describe_environment, import_torch, log_progress, require_cuda

# torch._int_mm takes more than 16 rows, and whole eights.
LEAST_INT8_ROWS = 32


def dense_shapes(spec):
    """[n, k] of a layer's products: queries, keys and values as one, and where there is a gate it and the up-projection."""
    from decoder_layers import LlamaLayer
    sizes = spec.sizes
    hidden, inner = sizes["hidden"], sizes["intermediate"]
    kv_heads = sizes.get("kv_heads", sizes["heads"])
    qkv = hidden + 2 * kv_heads * (hidden // sizes["heads"])
    parts = 2 if spec.make is LlamaLayer else 1
    return [(qkv, hidden), (hidden, hidden), (parts * inner, hidden), (hidden, inner)]


def random_operand(torch, kind, shape):
    if kind == "int8":
        return torch.randint(-127, 128, shape, dtype=torch.int8, device="cuda")
    values = torch.randn(shape, dtype=torch.float16, device="cuda")
    return values if kind == "fp16" else values.to(torch.float8_e4m3fn)


def make_product(torch, kind, rows, n, k):
    """A call of x [rows, k] · weight [n, k]ᵀ on operands of its own. FP8 has one scale, and FP16 results; INT8 has INT32 ones."""
    x, weight = random_operand(torch, kind, (rows, k)), random_operand(torch, kind, (n, k))
    if kind == "fp16":
        return lambda: torch.mm(x, weight.t())
    if kind == "int8":
        return lambda: torch._int_mm(x, weight.t())
    one = torch.ones((), dtype=torch.float32, device="cuda")
    return lambda: torch._scaled_mm(x, weight.t(), scale_a=one, scale_b=one, out_dtype=torch.float16, use_fast_accum=kind == "fp8-fast")


def make_attention(torch, sizes, batch, seq):
    """cuDNN's attention without a mask; keys and values as many heads as queries, as not every version takes fewer."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    q, k, v = (torch.randn(batch, sizes["heads"], seq, sizes["hidden"] // sizes["heads"], dtype=torch.float16, device="cuda") for _ in range(3))

    def attend():
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            return torch.nn.functional.scaled_dot_product_attention(q, k, v)
    return attend


def build(arguments, torch):
    import models
    spec = models.specification(arguments.model)
    models.check_setting(arguments.model, arguments.batch, arguments.seq)
    if not spec.is_layer:
        raise Failure(f"the vendor's layer is a decoder layer, and {arguments.model} is a network")
    require_cuda(torch)
    torch.cuda.set_device(arguments.device)
    torch.manual_seed(arguments.seed)
    if hasattr(torch.backends.cuda, "preferred_blas_library"):
        torch.backends.cuda.preferred_blas_library("cublaslt")
    _, answer = describe_environment(torch, arguments.device)
    rows = arguments.batch * arguments.seq
    if arguments.type == "int8":
        rows = max(rows, LEAST_INT8_ROWS)
    log_progress("build")
    shapes = dense_shapes(spec)
    calls = [make_product(torch, arguments.type, rows, n, k) for n, k in shapes]
    if arguments.seq > 1:  # over one token it is the value itself
        calls.insert(1, make_attention(torch, spec.sizes, arguments.batch, arguments.seq))

    def layer():
        return [call() for call in calls]
    for output in layer():
        if not bool(torch.isfinite(output).all()):
            raise Failure("a result has elements that are not finite")
    log_progress("capture")
    replay = capture_graph(torch, layer)
    return replay, {**answer, "schema": "ladder-vendor/1", "ok": True, "type": arguments.type, "model": arguments.model,
                    "batch": arguments.batch, "seq": arguments.seq, "rows": rows, "products": [[rows, n, k] for n, k in shapes],
                    "attention": "cudnn" if arguments.seq > 1 else None}


def take(protocol, call, request):
    """As NativeExecutor.measureSamples (lib/native.ts)."""
    protocol.warm_up(call, request["warmupMs"], 1)
    samples = protocol.take_burst(call, request["maxSamples"], request["maxMs"], request["minSamples"])
    return {"gpuMs": samples["rawMs"], "enqueueMs": samples["enqueueMs"], "hostMsPerInference": samples["hostMs"] / len(samples["rawMs"])}


def parse_arguments():
    parser = argparse.ArgumentParser(description="Serves samples of the vendor's products and attention of one decoder layer.")
    parser.add_argument("--type", choices=["fp16", "fp8", "fp8-fast", "int8"], required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seq", type=int, default=1)
    parser.add_argument("--device", type=int, default=0, help="CUDA ordinal")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    # Only answers go to stdout: libraries print to it too.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(answer):
        print(json.dumps(answer), file=answers, flush=True)
    torch = None
    try:
        log_progress("import")
        torch = import_torch()
        import protocol
        with torch.no_grad():
            call, description = build(arguments, torch)
            say(description)
            for line in sys.stdin:
                say(take(protocol, call, json.loads(line)))
    except Exception as error:
        traceback.print_exc()
        lines = str(error).strip().splitlines() or [""]
        say({"schema": "ladder-vendor/1", "ok": False, "reason": ("" if isinstance(error, Failure) else f"{type(error).__name__}: ") + lines[0]})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
