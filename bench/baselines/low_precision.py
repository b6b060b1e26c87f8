"""Linear layers at low precision by PyTorch's own products: FP8 (torch._scaled_mm) and INT4 (torch._weight_int4pack_mm).

Owns the conversion of a layer whose weights are there; what is timed, and how, is pytorch.py's. Both products give
BFloat16, so that the whole layer is of that type. Weights are quantised as torchao does: FP8 (E4M3) with one scale per
row and token, fast accumulation; INT4 with a scale and a zero per 128 weights along k, activations in BFloat16.
"""
import torch
from torch import nn

INT4_GROUP = 128
INT4_INNER_TILES = 8
FP8_LARGEST = 448.0


def quantise_fp8(x):
    """[rows, k] → codes, and a scale per row [rows, 1] in FP32."""
    scale = x.abs().amax(dim=1, keepdim=True).float().clamp(min=1e-12) / FP8_LARGEST
    return (x.float() / scale).to(torch.float8_e4m3fn), scale


class Fp8Linear(nn.Module):
    """y = x · weightᵀ + bias; both operands in FP8."""

    def __init__(self, linear):
        super().__init__()
        weight, scale = quantise_fp8(linear.weight.detach())
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale.t().contiguous())
        self.bias = linear.bias

    def forward(self, x):
        codes, scale = quantise_fp8(x.reshape(-1, x.shape[-1]))
        y = torch._scaled_mm(codes, self.weight.t(), scale_a=scale, scale_b=self.scale, bias=self.bias, out_dtype=torch.bfloat16,
                             use_fast_accum=True)
        return y.view(*x.shape[:-1], -1)


class Int4Linear(nn.Module):
    """y = x · weightᵀ + bias; weights are (code - 8) · scale + zero."""

    def __init__(self, linear):
        super().__init__()
        n, k = linear.weight.shape
        groups = linear.weight.detach().float().view(n, k // INT4_GROUP, INT4_GROUP)
        lowest, highest = groups.amin(dim=-1, keepdim=True), groups.amax(dim=-1, keepdim=True)
        scale = ((highest - lowest) / 15).clamp(min=1e-12)
        codes = ((groups - lowest) / scale).round().clamp(0, 15).to(torch.uint8).view(n, k)
        packed = (codes[:, ::2] << 4 | codes[:, 1::2]).contiguous()
        self.register_buffer("weight", torch._convert_weight_to_int4pack(packed, INT4_INNER_TILES))
        scales_and_zeros = torch.cat((scale, lowest + 8 * scale), dim=-1)
        self.register_buffer("scales_and_zeros", scales_and_zeros.transpose(0, 1).to(torch.bfloat16).contiguous())
        self.bias = linear.bias

    def forward(self, x):
        y = torch._weight_int4pack_mm(x.reshape(-1, x.shape[-1]), self.weight, INT4_GROUP, self.scales_and_zeros)
        return (y if self.bias is None else y + self.bias).view(*x.shape[:-1], -1)


KINDS = {"fp8": Fp8Linear, "int4": Int4Linear}


def convert(model, precision):
    """Replaces the linear layers, one after another: the rest stays as it is."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear):
                setattr(module, name, KINDS[precision](child))
    return model
