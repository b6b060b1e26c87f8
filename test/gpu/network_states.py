"""Writes the networks of Figure 8 as their libraries would save them: random weights by the public names, inputs, and what PyTorch makes
of them. The modules are those of bench/baselines/networks.py; where torchvision, timm or torchaudio is installed, its own module must take
the state by name and compute the same.

  python3 network_states.py FOLDER        → FOLDER/<id>.weights.safetensors, <id>.inputs.safetensors (two inputs, `x`), <id>.x.bin (the
                                            first, float32), <id>.y.bin (computed in float16); one line of JSON per network
"""
import json
import os
import re
import struct
import sys

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "bench", "baselines"))
import models  # noqa: E402

SEED = 7
INPUTS, CALIBRATION = 2, 8
# Of a batch norm's true mean, so much is its running mean; the rest counts as variance. With all of it networks of random numbers take
# large means from each other, which magnifies the rounding of FP16 a hundred times; those of trained ones are not like that.
KEPT_MEAN = 0.4
NORM = r"(weight|bias|running_mean|running_var|num_batches_tracked)"


def numbered(blocks, word):
    """Index of a block → `<word><stage>.<block>`, stages from `first` on."""
    first, counts = blocks
    places = [(stage, block) for stage, count in enumerate(counts) for block in range(count)]
    return lambda index: f"{word}{places[index][0] + first}.{places[index][1]}"


_resnet = numbered((1, (3, 4, 6, 3)), "layer")
_shufflenet = numbered((2, (4, 8, 4)), "stage")
_resnet_parts = {"reduce": ("conv1", "bn1"), "spatial": ("conv2", "bn2"), "expand": ("conv3", "bn3"),
                 "project": ("downsample.0", "downsample.1")}
_main, _side = {"0": (0, 1), "1": (3, 4), "2": (5, 6)}, {"0": (0, 1), "1": (2, 3)}
_conformer_parts = {
    "first.norm": "ffn1.sequential.0", "first.up": "ffn1.sequential.1", "first.down": "ffn1.sequential.4",
    "attention_norm": "self_attn_layer_norm", "attention.out": "self_attn.out_proj",
    "convolution.layer_norm": "conv_module.layer_norm", "convolution.expand": "conv_module.sequential.0",
    "convolution.conv": "conv_module.sequential.2", "convolution.norm": "conv_module.sequential.3",
    "convolution.project": "conv_module.sequential.5",
    "second.norm": "ffn2.sequential.0", "second.up": "ffn2.sequential.1", "second.down": "ffn2.sequential.4",
    "norm": "final_layer_norm",
}
_vit_parts = {"attention_norm": "norm1", "attention.qkv": "attn.qkv", "attention.out": "attn.proj", "mlp_norm": "norm2",
              "up": "mlp.fc1", "down": "mlp.fc2"}


def resnet_name(name):
    name = re.sub(r"^stem\.conv", "conv1", re.sub(r"^stem\.norm", "bn1", re.sub(r"^head", "fc", name)))
    block = re.fullmatch(rf"layers\.(\d+)\.(\w+)\.(conv|norm)\.{NORM}", name)
    if not block:
        return name
    index, part, kind, ending = block.groups()
    return f"{_resnet(int(index))}.{_resnet_parts[part][kind == 'norm']}.{ending}"


def shufflenet_name(name):
    for own, (conv, norm) in {"stem": ("conv1.0", "conv1.1"), "last": ("conv5.0", "conv5.1")}.items():
        name = re.sub(rf"^{own}\.conv", conv, re.sub(rf"^{own}\.norm", norm, name))
    unit = re.fullmatch(rf"units\.(\d+)\.(main|side)\.(\d)\.(conv|norm)\.{NORM}", name)
    if not unit:
        return re.sub(r"^head", "fc", name)
    index, branch, part, kind, ending = unit.groups()
    number = (_main if branch == "main" else _side)[part][kind == "norm"]
    return f"{_shufflenet(int(index))}.branch{2 if branch == 'main' else 1}.{number}.{ending}"


def vit_name(name):
    name = re.sub(r"^patch\.", "patch_embed.proj.", name)
    name = {"class_token": "cls_token", "positions": "pos_embed"}.get(name, name)
    block = re.fullmatch(r"(blocks\.\d+)\.(.+)\.(weight|bias)", name)
    return f"{block[1]}.{_vit_parts[block[2]]}.{block[3]}" if block else name


def conformer_name(name):
    index, part, ending = re.fullmatch(rf"layers\.(\d+)\.(.+)\.{NORM}", name).groups()
    own = f"conformer_layers.{index}"
    if part == "attention.qkv":
        return f"{own}.self_attn.in_proj_{ending}"
    return f"{own}.{_conformer_parts[part]}.{ending}"


def torchvision_model(word):
    def make():
        import torchvision
        return getattr(torchvision.models, word)(weights=None)
    return make


def timm_model():
    import timm
    return timm.create_model("vit_small_patch32_224", pretrained=False)


class TorchaudioConformer(nn.Module):
    def __init__(self):
        super().__init__()
        import torchaudio
        self.conformer = torchaudio.models.Conformer(
            input_dim=512, num_heads=8, ffn_dim=512, num_layers=12, depthwise_conv_kernel_size=31)

    def load_state_dict(self, state, strict=True):
        return self.conformer.load_state_dict(state, strict=strict)

    def forward(self, x):
        return self.conformer(x, torch.full((x.shape[0],), x.shape[1]))[0]


NETWORKS = {
    "resnet-50": (resnet_name, torchvision_model("resnet50")),
    "shufflenet-v2": (shufflenet_name, torchvision_model("shufflenet_v2_x1_0")),
    "vit": (vit_name, timm_model),
    "conformer": (conformer_name, TorchaudioConformer),
}


def inputs_of(name, count, seed):
    """Frames of noise; images of noise at every scale, each of its own contrast."""
    if name == "conformer":
        return models.random_input(name, count, 1, "cpu", torch.float32, seed).half().float()
    generator = torch.Generator().manual_seed(seed)
    x = torch.zeros(count, 3, 224, 224)
    for size in (4, 8, 16, 32, 224):
        x += F.interpolate(torch.randn(count, 3, size, size, generator=generator), size=224, mode="bilinear")
    return (x * (0.3 + torch.rand(count, 1, 1, 1, generator=generator))).half().float()


def build(name):
    """Random weights, norms away from 1 and 0, their running statistics near those of the inputs."""
    model = models.build(name, 1, "cpu", torch.float32, SEED)
    models.calibrate_batch_norms(model, inputs_of(name, CALIBRATION, SEED + 1))
    for norm in model.modules():
        if isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d)):
            norm.running_var.add_(((1 - KEPT_MEAN) * norm.running_mean) ** 2)
            norm.running_mean.mul_(KEPT_MEAN)
    return model


def write_safetensors(path, tensors):
    header, at = {}, 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        header[name] = {"dtype": {torch.float32: "F32", torch.int64: "I64"}[tensor.dtype], "shape": list(tensor.shape),
                        "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(tensor.contiguous().numpy().tobytes())


def library_error(make, state, x, y):
    """Relative L2 of the library's own module with this state against ours; what is missing where it is not installed."""
    try:
        module = make()
    except Exception as error:  # not installed, or for another PyTorch
        return f"not compared: {type(error).__name__}: {error}"
    module.load_state_dict(state, strict=True)
    return models.relative_l2(module.eval()(x), y)


@torch.no_grad()
def main(folder):
    device = "cuda" if torch.cuda.is_available() else "cpu"  # where FP16 is computed; numbers are the same wherever
    for name, (rename, make) in NETWORKS.items():
        model = build(name)
        state = {rename(own): tensor for own, tensor in model.state_dict().items()}
        x = inputs_of(name, INPUTS, SEED + 2)
        y = model(x)
        library = library_error(make, state, x, y)
        rounded = model.half().to(device)(x.half().to(device)).float().cpu()
        path = os.path.join(folder, name)
        write_safetensors(f"{path}.weights.safetensors", state)
        write_safetensors(f"{path}.inputs.safetensors", {"x": x})
        x[:1].numpy().tofile(f"{path}.x.bin")
        rounded[:1].numpy().tofile(f"{path}.y.bin")
        print(json.dumps({"model": name, "tensors": len(state), "library": library, "half": models.relative_l2(rounded, y)}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
