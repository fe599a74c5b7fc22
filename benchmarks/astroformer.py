"""Astroformer against its plain form, as public code writes it.

The peer has the same blocks in plain torch: attention as two products and a softmax over logits
with the table's entries, put together anew in each call, LayerNorm over channels by its definition,
and squeeze-excitation by pooling modules. Both have the same weights and give the same numbers.

- a training step and a prediction of `pico`, `nano` and a slim `0` at their sizes of pictures;
- attention alone, forward and backward, at three sizes of maps.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from side_by_side import alternate, line
from stackwise.build.astroformer import Astroformer, RelativeAttention
from stackwise.build.astroformer.blocks import SqueezeExcite
from stackwise.layers.channel_norm import ChannelNorm

NETWORKS = {
    "pico, 64 x 1 x 28 x 28": ({"size": "pico", "image_size": 28, "channels": 1}, 64, 9),
    "nano, 32 x 3 x 32 x 32": ({"size": "nano", "image_size": 32}, 32, 9),
    "0 with depths 1 1 2 2, 4 x 3 x 128 x 128": (
        {"size": "0", "image_size": 128, "depths": (1, 1, 2, 2)}, 4, 5,
    ),
}  # fmt: skip
ATTENTIONS = {
    "64 x 128 channels, maps of 4 x 4": (128, 4, 64, 16, 15),
    "16 x 192 channels, maps of 8 x 8": (192, 8, 16, 16, 15),
    "4 x 384 channels, maps of 14 x 14": (384, 14, 4, 32, 9),
}
PEER = "plain PyTorch"
SAME = (
    "nearly all time is in convolutions and matrix products, which both call alike: ours wins "
    "little, and less than runs on this machine differ by"
)


class PlainAttention(nn.Module):
    """softmax(q k / sqrt(e) + w) v, each step a tensor."""

    def __init__(self, of: RelativeAttention) -> None:
        super().__init__()
        self.heads, self.qkv, self.out, self.table = of.heads, of.qkv, of.out, of.table

    def forward(self, x: Tensor) -> Tensor:
        rows, _, height, width = x.shape
        q, k, v = self.qkv(x).view(rows, self.heads, -1, height * width).chunk(3, 2)
        places = torch.stack(
            torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        ).flatten(1)
        offsets = places[:, :, None] - places[:, None, :]
        index = (offsets[0] + height - 1) * (2 * width - 1) + offsets[1] + width - 1
        bias = self.table[index.flatten()].view(height * width, height * width, -1)
        logits = q.transpose(-1, -2) @ k / q.shape[2] ** 0.5 + bias.permute(2, 0, 1)
        seen = v @ logits.softmax(-1).transpose(-1, -2)
        output: Tensor = self.out(seen.reshape(rows, -1, height, width))
        return output


class PlainNorm(nn.Module):
    """LayerNorm over the channels of a map."""

    def __init__(self, of: nn.LayerNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = of.weight, of.bias, of.eps

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).square().mean(1, keepdim=True)
        normed = (x - mean) / (variance + self.eps).sqrt()
        return normed * self.weight[:, None, None] + self.bias[:, None, None]


class PlainExcite(nn.Module):
    """Squeeze-excitation, a module a step."""

    def __init__(self, of: SqueezeExcite) -> None:
        super().__init__()
        self.steps = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), of.first, nn.SiLU(), of.second, nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = x * self.steps(x)
        return output


PLAIN: dict[type[nn.Module], Callable[..., nn.Module]] = {
    RelativeAttention: PlainAttention, ChannelNorm: PlainNorm, SqueezeExcite: PlainExcite,
}  # fmt: skip


def plain(network: nn.Module) -> nn.Module:
    """A copy whose parts are the plain ones."""
    made = copy.deepcopy(network)
    for module in list(made.modules()):
        for name, child in list(module.named_children()):
            if type(child) in PLAIN:
                setattr(module, name, PLAIN[type(child)](child))
    return made


def networks(threads: int) -> None:
    """Whole networks."""
    for case, (given, batch, repeats) in NETWORKS.items():
        ours = Astroformer(n_outputs=10, **given).eval()
        peer = plain(ours).eval()
        x = torch.randn(batch, given.get("channels", 3), *ours.image_size)
        y = torch.randint(0, 10, (batch,))
        with torch.no_grad():
            assert torch.allclose(ours(x), peer(x), atol=1e-4)
            found = alternate(lambda ours=ours, x=x: ours(x), lambda p=peer, x=x: p(x), repeats)
        line(f"prediction, {case}", *found, PEER, "s", "float32", threads, SAME)
        steps = [trained(model.train(), x, y) for model in (ours, peer)]
        line(f"training step, {case}", *alternate(*steps, repeats), PEER, "s", "float32", threads,
             SAME)  # fmt: skip


def trained(model: nn.Module, x: Tensor, y: Tensor) -> Callable[[], None]:
    """A step of AdamW."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def attentions(threads: int) -> None:
    """Attention alone."""
    for case, (dim, side, batch, head_dim, repeats) in ATTENTIONS.items():
        ours = RelativeAttention(dim, dim, head_dim, (side, side))
        peer = PlainAttention(copy.deepcopy(ours))
        x = torch.randn(batch, dim, side, side)
        assert torch.allclose(ours(x), peer(x), atol=1e-4)

        def both(module: nn.Module, x: Tensor = x) -> None:
            module(x).square().mean().backward()
            module.zero_grad(set_to_none=True)

        found = alternate(lambda o=ours, b=both: b(o), lambda p=peer, b=both: b(p), repeats)
        line(f"forward and backward of attention, {case}", *found, PEER, "s", "float32", threads,
             SAME)  # fmt: skip


def main() -> None:
    """Print a line a case."""
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    networks(threads)
    attentions(threads)


if __name__ == "__main__":
    main()
