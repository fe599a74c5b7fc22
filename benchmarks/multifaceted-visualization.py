"""What a step of activation maximisation costs, against the plainest correct form.

The peer is what one writes with PyTorch alone: the whole network forth and back, with weights that
ask for gradients, and the denoising of the published code, a hundred iterations from nothing. Ours
stops behind the unit's module, freezes the weights, and denoises in ten iterations from where the
last step ended. Both make the same gradient step, on EfficientNet-Lite0 of random weights, which
costs what a trained one does. Cases, at three sizes:

- output: a class;
- block: a channel in the middle of the network.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from side_by_side import alternate, line
from stackwise.layers.efficientnet_lite import EfficientNetLite
from stackwise.probe.multifaceted_visualization import Phase, maximise, unit_of
from stackwise.probe.multifaceted_visualization.inputs import shown
from stackwise.probe.multifaceted_visualization.looking import target_of
from stackwise.probe.multifaceted_visualization.smoothing import differences, divergence
from stackwise.probe.multifaceted_visualization.units import frozen

SIDES = (64, 112, 160)
STEPS = 4
WEIGHT, STEP = 0.3, 2.0
UNITS = {"output": "output:17", "block": "blocks.8:17"}


def plainly_denoised(picture: Tensor, weight: float, iterations: int = 100) -> Tensor:
    """Projected gradient on the dual, from nothing."""
    p = torch.zeros(2, *picture.shape)
    for _ in range(iterations):
        q = p + differences(divergence(p) + 2 * weight * picture) / 8
        p = q / q.square().sum(0).sqrt().clamp(min=1)
    return picture + divergence(p) / (2 * weight)


def plain(network: nn.Module, unit: str, picture: Tensor, steps: int, weight: float) -> Tensor:
    """Activation maximisation in so many steps, as one would write it."""
    module, _, channel = unit.partition(":")
    for _ in range(steps):
        asked = picture.clone().requires_grad_(True)
        kept: list[Tensor] = []
        handles = []
        if module != "output":
            part = network.get_submodule(module)
            handles = [part.register_forward_hook(lambda _m, _i, out, kept=kept: kept.append(out))]
        answer = network(asked / 255)
        for handle in handles:
            handle.remove()
        one = (kept[0] if kept else answer)[:, int(channel)]
        network.zero_grad()
        one.mean().backward()
        assert asked.grad is not None
        picture = picture + STEP * asked.grad / asked.grad.abs().mean()
        picture = picture.clamp(0, 255)
        if weight < float("inf"):
            picture = plainly_denoised(picture, weight).clamp(0, 255)
    return picture


def measure(side: int) -> None:
    """Print the cases of one size."""
    torch.manual_seed(0)
    network = EfficientNetLite().eval()
    begun = torch.rand(2, 3, side, side)
    begun[:, :, 0, 0], begun[:, :, 0, 1] = 0, 1  # so that 0 to 255 are 0 to 1
    of = shown(network, begun, 2, 0)
    start = of.pictures[0]
    for name, unit in UNITS.items():
        target = target_of(of, unit_of(unit))

        def ours(weight: float = WEIGHT, steps: int = STEPS, target: object = target) -> Tensor:
            phase = Phase(steps, (weight, weight), (STEP, STEP))
            with frozen(network):
                return maximise(target, start, [phase])  # type: ignore[arg-type]

        def peer(weight: float = WEIGHT, steps: int = STEPS, unit: str = unit) -> Tensor:
            return plain(network, unit, start[None], steps, weight)[0]

        torch.testing.assert_close(
            ours(float("inf"), 1), peer(float("inf"), 1), rtol=1e-3, atol=0.05
        )
        both: list[Callable[[], object]] = [ours, peer]
        seconds = [one / STEPS for one in alternate(both[0], both[1], 5)]
        line(
            f"{name} {side}", seconds[0], seconds[1], "whole passes, denoised from nothing",
            "s a step", "float32", torch.get_num_threads(),
        )  # fmt: skip


def main() -> None:
    """Print every case."""
    torch.set_num_threads(1)
    for side in SIDES:
        measure(side)


if __name__ == "__main__":
    main()
