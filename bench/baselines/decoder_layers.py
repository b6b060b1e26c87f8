"""One decoder layer of LLaMA2-70B and of BLOOM-176B in plain PyTorch, as Figure 8 of the Ladder paper times them.

Owns the arithmetic only; sizes and checks are in models.py. No KV cache and no mask: the layer sees the S tokens of its
input. Projections are separate modules, as in the published models; whatever fuses them is the system under test.
"""
import math

import torch
import torch.nn.functional as F
from torch import nn


class RmsNorm(nn.Module):
    """x · rsqrt(mean(x²) + eps) · weight over the last axis."""

    def __init__(self, width, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x):
        return F.rms_norm(x, (x.shape[-1],), self.weight, self.eps)


def rotary_tables(seq, head_dim, base):
    """cos and sin, [seq, head_dim], of the rotate-half embedding; angles in FP32, because FP16 has no 4096 · 1e-4."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
    angles = torch.outer(torch.arange(seq, dtype=torch.float32), base ** -exponents)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x, cos, sin):
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class LlamaLayer(nn.Module):
    """x [batch, seq, hidden] → the same shape. Grouped-query attention, rotary embedding, SwiGLU."""

    def __init__(self, hidden, heads, kv_heads, intermediate, seq, eps=1e-5, rope_base=10000.0):
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, hidden // heads
        self.input_norm = RmsNorm(hidden, eps)
        self.q = nn.Linear(hidden, hidden, bias=False)
        self.k = nn.Linear(hidden, kv_heads * self.head_dim, bias=False)
        self.v = nn.Linear(hidden, kv_heads * self.head_dim, bias=False)
        self.o = nn.Linear(hidden, hidden, bias=False)
        self.post_norm = RmsNorm(hidden, eps)
        self.gate = nn.Linear(hidden, intermediate, bias=False)
        self.up = nn.Linear(hidden, intermediate, bias=False)
        self.down = nn.Linear(intermediate, hidden, bias=False)
        cos, sin = rotary_tables(seq, self.head_dim, rope_base)
        self.register_buffer("cos", cos.to(self.q.weight.dtype))
        self.register_buffer("sin", sin.to(self.q.weight.dtype))

    def forward(self, x):
        batch, seq, hidden = x.shape
        h = self.input_norm(x)
        q = self.q(h).view(batch, seq, self.heads, self.head_dim).transpose(1, 2)
        k = self.k(h).view(batch, seq, self.kv_heads, self.head_dim).transpose(1, 2)
        v = self.v(h).view(batch, seq, self.kv_heads, self.head_dim).transpose(1, 2)
        q, k = rotate(q, self.cos, self.sin), rotate(k, self.cos, self.sin)
        a = F.scaled_dot_product_attention(q, k, v, enable_gqa=self.kv_heads != self.heads)
        x = x + self.o(a.transpose(1, 2).reshape(batch, seq, hidden))
        h = self.post_norm(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


def alibi_slopes(heads):
    """Press et al. 2022: a geometric series for the largest power of two below, the odd terms of a finer one for the rest."""
    power = 2 ** int(math.floor(math.log2(heads)))
    slopes = [2.0 ** (-8.0 * (i + 1) / power) for i in range(power)]
    slopes += [2.0 ** (-4.0 * (2 * i + 1) / power) for i in range(heads - power)]
    return torch.tensor(slopes, dtype=torch.float32)


class BloomLayer(nn.Module):
    """x [batch, seq, hidden] → the same shape. Fused QKV interleaved per head, ALiBi, GELU (tanh), biases everywhere."""

    def __init__(self, hidden, heads, intermediate, seq, eps=1e-5):
        super().__init__()
        self.heads, self.head_dim = heads, hidden // heads
        self.input_norm = nn.LayerNorm(hidden, eps)
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.dense = nn.Linear(hidden, hidden)
        self.post_norm = nn.LayerNorm(hidden, eps)
        self.up = nn.Linear(hidden, intermediate)
        self.down = nn.Linear(intermediate, hidden)
        # The bias slope·position is shifted to end at 0, which a softmax does not see: FP16 then keeps it exact where the
        # weights are large (3700 ± 1 would be an error of e).
        positions = torch.arange(seq, dtype=torch.float32) - (seq - 1)
        bias = alibi_slopes(heads).to(positions.device).view(1, heads, 1, 1) * positions
        self.register_buffer("alibi", bias.to(self.qkv.weight.dtype))

    def forward(self, x):
        batch, seq, hidden = x.shape
        qkv = self.qkv(self.input_norm(x)).view(batch, seq, self.heads, 3, self.head_dim)
        q, k, v = qkv[:, :, :, 0].transpose(1, 2), qkv[:, :, :, 1].transpose(1, 2), qkv[:, :, :, 2].transpose(1, 2)
        bias = self.alibi.expand(batch, self.heads, seq, seq)
        a = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        x = x + self.dense(a.transpose(1, 2).reshape(batch, seq, hidden))
        return x + self.down(F.gelu(self.up(self.post_norm(x)), approximate="tanh"))
