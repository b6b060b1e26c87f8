"""ResNet-50, ShuffleNet v2 (×1.0), ViT-small/32 and the Conformer of Figure 8 in plain PyTorch.

Written from the papers and checked against the published parameter counts (models.py), so that no model library and no
download is needed: ResNet-50 and ShuffleNet are torchvision's, ViT timm's vit_small_patch32_224, Conformer 12 of
torchaudio's ConformerLayer. Convolution and batch norm stay apart until `fold_batch_norms`.
"""
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm, optional ReLU."""

    def __init__(self, channels_in, channels_out, kernel, stride=1, groups=1, relu=True):
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(channels_out)
        self.relu = relu

    def forward(self, x):
        x = self.norm(self.conv(x))
        return F.relu(x) if self.relu else x


class Bottleneck(nn.Module):
    """1×1, 3×3 (with the stride), 1×1 to four times the width; a projection where the shape changes."""

    def __init__(self, channels_in, width, stride):
        super().__init__()
        self.reduce = ConvNorm(channels_in, width, 1)
        self.spatial = ConvNorm(width, width, 3, stride)
        self.expand = ConvNorm(width, 4 * width, 1, relu=False)
        changes = stride != 1 or channels_in != 4 * width
        self.project = ConvNorm(channels_in, 4 * width, 1, stride, relu=False) if changes else nn.Identity()

    def forward(self, x):
        return F.relu(self.expand(self.spatial(self.reduce(x))) + self.project(x))


class ResNet50(nn.Module):
    """x [batch, 3, size, size] → [batch, classes]."""

    def __init__(self, blocks=(3, 4, 6, 3), stem=64, classes=1000):
        super().__init__()
        self.stem = ConvNorm(3, stem, 7, 2)
        layers, channels = [], stem
        for stage, count in enumerate(blocks):
            width = stem * 2 ** stage
            for block in range(count):
                layers.append(Bottleneck(channels, width, 2 if stage > 0 and block == 0 else 1))
                channels = 4 * width
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(channels, classes)

    def forward(self, x):
        x = F.max_pool2d(self.stem(x), 3, 2, 1)
        return self.head(self.layers(x).mean((2, 3)))


def shuffle_channels(x):
    """Interleaves the two halves of the channels."""
    batch, channels, height, width = x.shape
    return x.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(batch, channels, height, width)


class ShuffleUnit(nn.Module):
    """Stride 1: half of the channels pass untouched. Stride 2: both branches see all of them."""

    def __init__(self, channels_in, channels_out, stride):
        super().__init__()
        half = channels_out // 2
        self.split = stride == 1
        branch_in = half if self.split else channels_in
        self.main = nn.Sequential(
            ConvNorm(branch_in, half, 1),
            ConvNorm(half, half, 3, stride, groups=half, relu=False),
            ConvNorm(half, half, 1),
        )
        self.side = nn.Identity() if self.split else nn.Sequential(
            ConvNorm(channels_in, channels_in, 3, stride, groups=channels_in, relu=False),
            ConvNorm(channels_in, half, 1),
        )

    def forward(self, x):
        side, main = x.chunk(2, dim=1) if self.split else (x, x)
        return shuffle_channels(torch.cat((self.side(side), self.main(main)), dim=1))


class ShuffleNetV2(nn.Module):
    """x [batch, 3, size, size] → [batch, classes]."""

    def __init__(self, repeats=(4, 8, 4), channels=(24, 116, 232, 464, 1024), classes=1000):
        super().__init__()
        self.stem = ConvNorm(3, channels[0], 3, 2)
        units, width = [], channels[0]
        for count, channels_out in zip(repeats, channels[1:]):
            for unit in range(count):
                units.append(ShuffleUnit(width, channels_out, 2 if unit == 0 else 1))
                width = channels_out
        self.units = nn.Sequential(*units)
        self.last = ConvNorm(width, channels[-1], 1)
        self.head = nn.Linear(channels[-1], classes)

    def forward(self, x):
        x = F.max_pool2d(self.stem(x), 3, 2, 1)
        return self.head(self.last(self.units(x)).mean((2, 3)))


class SelfAttention(nn.Module):
    """Multi-head self-attention with biases, no mask: x [batch, tokens, width] → the same shape."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x):
        batch, tokens, width = x.shape
        qkv = self.qkv(x).view(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        a = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
        return self.out(a.transpose(1, 2).reshape(batch, tokens, width))


class VitBlock(nn.Module):
    def __init__(self, width, heads, mlp):
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, 1e-6)
        self.attention = SelfAttention(width, heads)
        self.mlp_norm = nn.LayerNorm(width, 1e-6)
        self.up = nn.Linear(width, mlp)
        self.down = nn.Linear(mlp, width)

    def forward(self, x):
        x = x + self.attention(self.attention_norm(x))
        return x + self.down(F.gelu(self.up(self.mlp_norm(x))))


class Vit(nn.Module):
    """x [batch, 3, size, size] → [batch, classes]; a class token in front of the patches."""

    def __init__(self, width=384, depth=12, heads=6, mlp=1536, patch=32, size=224, classes=1000):
        super().__init__()
        self.patch = nn.Conv2d(3, width, patch, patch)
        self.class_token = nn.Parameter(torch.randn(1, 1, width) * 0.5)
        self.positions = nn.Parameter(torch.randn(1, (size // patch) ** 2 + 1, width) * 0.5)
        self.blocks = nn.Sequential(*(VitBlock(width, heads, mlp) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, 1e-6)
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.class_token.expand(x.shape[0], -1, -1), x), dim=1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


class FeedForward(nn.Module):
    def __init__(self, width, ffn):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, ffn)
        self.down = nn.Linear(ffn, width)

    def forward(self, x):
        return self.down(F.silu(self.up(self.norm(x))))


class ConvolutionModule(nn.Module):
    """Pointwise to twice the width, GLU, depthwise, batch norm, SiLU, pointwise; over time, channels first."""

    def __init__(self, width, kernel):
        super().__init__()
        self.layer_norm = nn.LayerNorm(width)
        self.expand = nn.Conv1d(width, 2 * width, 1)
        self.conv = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.BatchNorm1d(width)
        self.project = nn.Conv1d(width, width, 1)

    def forward(self, x):
        x = self.layer_norm(x).transpose(1, 2)
        x = self.project(F.silu(self.norm(self.conv(F.glu(self.expand(x), dim=1)))))
        return x.transpose(1, 2)


class ConformerLayer(nn.Module):
    def __init__(self, width, heads, ffn, kernel):
        super().__init__()
        self.first = FeedForward(width, ffn)
        self.attention_norm = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads)
        self.convolution = ConvolutionModule(width, kernel)
        self.second = FeedForward(width, ffn)
        self.norm = nn.LayerNorm(width)

    def forward(self, x):
        x = x + 0.5 * self.first(x)
        x = x + self.attention(self.attention_norm(x))
        x = x + self.convolution(x)
        return self.norm(x + 0.5 * self.second(x))


class Conformer(nn.Module):
    """x [batch, frames, width] → the same shape."""

    def __init__(self, width=512, heads=8, ffn=512, kernel=31, depth=12):
        super().__init__()
        self.layers = nn.Sequential(*(ConformerLayer(width, heads, ffn, kernel) for _ in range(depth)))

    def forward(self, x):
        return self.layers(x)


def fold_batch_norms(model):
    """Folds every batch norm into the convolution before it, which inference allows; in FP32, rounded once. Returns how many."""
    folded = 0
    for module in model.modules():
        if isinstance(module, (ConvNorm, ConvolutionModule)) and not isinstance(module.norm, nn.Identity):
            dtype = module.conv.weight.dtype
            module.conv = fuse_conv_bn_eval(module.conv.float(), module.norm.float()).to(dtype)
            module.norm = nn.Identity()
            folded += 1
    return folded
