"""The six models of Figure 8 by name: sizes, settings, random weights and inputs, and the checks of both.

Owns what makes a PyTorch model comparable with the checkpoints; modules are in decoder_layers.py and networks.py, timing
in pytorch.py. Weights and inputs are seeded and random, never zero; FP16 throughout.
"""
import dataclasses
import math
from typing import Any, Callable, Dict, Optional, Tuple

import torch
from torch import nn

from decoder_layers import BloomLayer, LlamaLayer, RmsNorm
from networks import Conformer, ResNet50, ShuffleNetV2, Vit


class ModelError(Exception):
    """A model or setting that does not exist, or a model that is not what it claims to be."""


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """`make(**sizes)` builds the module; layers also take `seq`. `parameters` is the published count of the full size."""

    make: Callable[..., nn.Module]
    sizes: Dict[str, Any]
    tiny: Dict[str, Any]
    parameters: int
    # Elements of matrix weights only, where the published figure counts those (LLMs).
    matrix_weights: Optional[int]
    is_layer: bool
    # Input and output shape without the batch, from the sizes and seq.
    input_shape: Callable[[Dict[str, Any], int], Tuple[int, ...]]
    output_shape: Callable[[Dict[str, Any], int], Tuple[int, ...]]
    # Modes in which the convolutions get channels-last data, where cuDNN's FP16 kernels need no transposes. Not
    # ShuffleNet's in eager mode: its shuffles would undo the layout after every unit.
    channels_last: Tuple[str, ...] = ()


def _hidden(sizes, seq):
    return (seq, sizes["hidden"])


def _image(sizes, _seq):
    return (3, sizes.get("size", 224), sizes.get("size", 224))


def _classes(sizes, _seq):
    return (sizes.get("classes", 1000),)


def _frames(sizes, _seq):
    return (512, sizes.get("width", 512))


MODELS: Dict[str, ModelSpec] = {
    "llama2-70b": ModelSpec(
        LlamaLayer, dict(hidden=8192, heads=64, kv_heads=8, intermediate=28672),
        dict(hidden=256, heads=8, kv_heads=2, intermediate=512),
        855_654_400, 855_638_016, True, _hidden, _hidden),
    "bloom-176b": ModelSpec(
        BloomLayer, dict(hidden=14336, heads=112, intermediate=57344),
        dict(hidden=896, heads=7, intermediate=3584),  # of whole groups of 128
        2_466_437_120, 2_466_250_752, True, _hidden, _hidden),
    "resnet-50": ModelSpec(
        ResNet50, {}, dict(blocks=(1, 1, 1, 1), stem=16, classes=10), 25_557_032, None, False, _image, _classes,
        channels_last=("eager", "inductor")),
    "shufflenet-v2": ModelSpec(
        ShuffleNetV2, {}, dict(repeats=(2, 2, 2), channels=(8, 16, 32, 64, 64), classes=10), 2_278_604, None, False,
        _image, _classes, channels_last=("inductor",)),
    "vit": ModelSpec(Vit, {}, dict(width=64, depth=2, heads=2, mlp=128, classes=10), 22_878_952, None, False, _image, _classes),
    "conformer": ModelSpec(Conformer, {}, dict(width=64, heads=2, ffn=64, depth=2), 34_940_928, None, False, _frames, _frames),
}


def specification(name):
    if name not in MODELS:
        raise ModelError(f"expected one of {', '.join(MODELS)} for --model but received {name!r}")
    return MODELS[name]


def check_setting(name, batch, seq):
    spec = specification(name)
    if batch < 1 or seq < 1 or (seq != 1 and not spec.is_layer):
        raise ModelError(f"{name} takes --batch of at least 1 and --seq {'of at least 1' if spec.is_layer else '1'}, "
                         f"but received --batch {batch} --seq {seq}")


def count_parameters(model):
    return sum(p.numel() for p in model.parameters())


def check_parameters(name, model):
    """Compares a full-size model with the published counts."""
    spec = specification(name)
    found = count_parameters(model)
    if found != spec.parameters:
        raise ModelError(f"{name}: expected {spec.parameters} parameters but the module has {found}")
    if spec.matrix_weights is not None:
        matrices = sum(p.numel() for p in model.parameters() if p.dim() == 2)
        if matrices != spec.matrix_weights:
            raise ModelError(f"{name}: expected {spec.matrix_weights} matrix weights but the module has {matrices}")


def _randomise_norms(model):
    """Gains and shifts away from 1 and 0, so that leaving one out would show."""
    for module in model.modules():
        if isinstance(module, (nn.LayerNorm, RmsNorm, nn.BatchNorm1d, nn.BatchNorm2d)):
            module.weight.uniform_(0.5, 1.5)
            if getattr(module, "bias", None) is not None:
                module.bias.uniform_(-0.5, 0.5)


def calibrate_batch_norms(model, x):
    """One pass in training mode makes the running statistics those of the data: random weights then neither overflow FP16
    nor fade away over fifty layers."""
    norms = [m for m in model.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
    if not norms:
        return
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    model(x)
    for norm in norms:
        norm.eval()


def random_input(name, batch, seq, device, dtype, seed, tiny=False):
    spec = specification(name)
    generator = torch.Generator(device=device).manual_seed(seed)
    shape = (batch, *spec.input_shape(spec.tiny if tiny else spec.sizes, seq))
    return torch.randn(shape, generator=generator, device=device, dtype=torch.float32).to(dtype)


@torch.no_grad()
def build(name, seq, device, dtype, seed, tiny=False):
    """A model in eval mode with random weights. Layers are made in `dtype` on the device at once: 2466 M weights in FP32
    would take 10 GB more."""
    spec = specification(name)
    sizes = spec.tiny if tiny else spec.sizes
    torch.manual_seed(seed)
    previous = torch.get_default_dtype()
    torch.set_default_dtype(dtype if spec.is_layer else torch.float32)
    try:
        with torch.device(device):
            model = spec.make(**sizes, seq=seq) if spec.is_layer else spec.make(**sizes)
    finally:
        torch.set_default_dtype(previous)
    model.eval()
    if not tiny:
        check_parameters(name, model)
    if str(device) == "meta":
        return model
    _randomise_norms(model)
    if not spec.is_layer:
        calibrate_batch_norms(model, random_input(name, 1, seq, device, torch.float32, seed + 1, tiny))
    return model.to(dtype)


def check_output(name, batch, seq, output, tiny=False):
    """Shape, and that every element is finite: NaN and infinity would also be fast."""
    spec = specification(name)
    expected = (batch, *spec.output_shape(spec.tiny if tiny else spec.sizes, seq))
    if tuple(output.shape) != expected:
        raise ModelError(f"{name}: expected an output of shape {expected} but received {tuple(output.shape)}")
    if not bool(torch.isfinite(output).all()):
        raise ModelError(f"{name}: the output has elements that are not finite")


def relative_l2(output, reference):
    """‖output − reference‖₂ / ‖reference‖₂ in FP64 sums, NaN if the reference vanishes."""
    difference = (output.float() - reference.float()).double().pow(2).sum().sqrt().item()
    norm = reference.float().double().pow(2).sum().sqrt().item()
    return difference / norm if norm > 0 else math.nan
