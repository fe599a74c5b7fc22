"""RCNet: latency at batch 1 and throughput at batch 16 of each neck, beside FPN and FPN + PAN.

Same maps of a backbone, same channels, batch norm in all. RevFP has half of the steps of PAN that
wait for each other, but more in each: two or three maps are weighed, and one is guided.
"""

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from side_by_side import alternate, line
from stackwise.layers.pyramid import FPN, PAN, RCNet

SIZES = {
    "32 channels, levels from 12 x 12": (32, 12, [24, 48, 48]),
    "64 channels, levels from 24 x 24": (64, 24, [48, 96, 96]),
    "128 channels, levels from 40 x 40": (128, 40, [64, 128, 128]),
}
LEVELS = 5
MORE = "weights, guidance and, in RCNet, all levels at the size of the second: more than a sum"
SAMPLES = "deformable convolutions: a sample is four values of memory and no product of matrices"


def maps_of(batch: int, side: int, widths: list[int]) -> list[Tensor]:
    """What a backbone gives."""
    return [
        torch.randn(batch, width, -(-side // 2**level), -(-side // 2**level))
        for level, width in enumerate(widths)
    ]


def multiplications(module: nn.Module, maps: list[Tensor]) -> float:
    """Million multiplications of one picture."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(maps)
    return counter.get_total_flops() / 2e6 / len(maps[0])


def main() -> None:
    """Print a line a case."""
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    for size, (channels, side, widths) in SIZES.items():
        ours = {
            "RevFP": RCNet(widths, channels, LEVELS, fusion="revfp", conv="plain"),
            "RCNet": RCNet(widths, channels, LEVELS, conv="plain"),
            "RCNet, deformable": RCNet(widths, channels, LEVELS, conv="deform"),
        }
        peers = {
            "FPN": FPN(widths, channels, LEVELS, norm="batch"),
            "FPN and a second pass (PAN)": PAN(widths, channels, LEVELS, norm="batch"),
        }
        for batch in (1, 16):
            if batch > 1 and channels > 64:
                continue  # seconds a call on one thread
            maps = maps_of(batch, side, widths)
            for name, neck in ours.items():
                for other, peer in peers.items():
                    counts = [multiplications(one.eval(), maps) for one in (neck, peer)]
                    with torch.no_grad():
                        found = alternate(
                            lambda neck=neck, maps=maps: neck(maps),
                            lambda peer=peer, maps=maps: peer(maps),
                            11 if batch == 1 else 3,
                        )
                    case = (
                        f"{name}, {size}, batch {batch}: {counts[0]:.1f} and {counts[1]:.1f} "
                        "million multiplications a picture"
                    )
                    line(case, *(one / batch for one in found), other, "s a picture", "float32",
                         threads, SAMPLES if "deform" in name else MORE)  # fmt: skip


if __name__ == "__main__":
    main()
