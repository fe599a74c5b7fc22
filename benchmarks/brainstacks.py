"""Stacks of experts against LoRA of as many numbers in peft, and against a loop over the experts.

One training step and one pass of a decoder in which every linear layer of the blocks has a stack
of four experts of rank 16 (two taken), against peft's LoRA of rank 64 beside the same layers; the
file; and the experts of one layer as two products against the loop that says the same.
"""

import copy
import tempfile
from pathlib import Path

import peft
import torch
from torch import nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from side_by_side import alternate, line
from stackwise.adapt import base_hash
from stackwise.adapt.brainstacks import (
    Domain,
    ExpertDelta,
    ExpertStack,
    Switch,
    adapted_layers,
    gates,
    mixture,
)
from stackwise.adapt.brainstacks.places import sizes_of
from stackwise.adapt.brainstacks.switch import ACTIVE

WIDTHS = {"small": 128, "middle": 256, "large": 512}
EXPERTS, RANK = 4, 16
ROUTING = (
    "the choice of experts: a product, a top-k, a softmax and a scatter for each token and layer, "
    "which LoRA does not have; with one expert, which needs no choice, see the row below"
)


def decoder(width: int) -> nn.Module:
    """Four blocks, 256 tokens."""
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=256, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=4,
        num_attention_heads=4, max_position_embeddings=128,
    ))  # fmt: skip


def with_lora(model: nn.Module, rank: int) -> nn.Module:
    """peft's LoRA beside the layers that get a stack."""
    config = peft.LoraConfig(
        r=rank, lora_alpha=16, use_rslora=True, target_modules=list(adapted_layers(model))
    )
    return peft.get_peft_model(copy.deepcopy(model), config)


def with_stacks(model: nn.Module, experts: int) -> nn.Module:
    """A fresh stack that learns, beside each layer."""
    model = copy.deepcopy(model).requires_grad_(False)
    for name, layer in adapted_layers(model).items():
        Switch.of(model).beside(model, name)
        d_in, d_out = sizes_of(layer)
        layer.add_module(ACTIVE, ExpertStack(
            d_in, d_out, experts=experts, top_k=min(2, experts), rank=RANK * EXPERTS // experts
        ))  # fmt: skip
    return model


def stepping(model: nn.Module, ids: torch.Tensor):
    """What takes one step of AdamW on what learns."""
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=1e-4, fused=True)
    model.train()

    def run() -> None:
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return run


def delta_of(model: nn.Module) -> ExpertDelta:
    """A domain with random numbers."""
    layers = {}
    for name, layer in adapted_layers(model).items():
        d_in, d_out = sizes_of(layer)
        stack = ExpertStack(d_in, d_out, experts=EXPERTS, rank=RANK)
        nn.init.normal_(stack.b, std=0.01)
        layers[name] = stack.done(torch.float16, fold=False)
    return ExpertDelta({"domain": Domain([layers], scale=4.0)}, base=base_hash(model))


def bytes_of(folder: Path) -> int:
    """Of all its files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    """Print a line a case."""
    threads = torch.get_num_threads()
    peer = "peft LoRA, rank 64"
    for name, width in WIDTHS.items():
        model = decoder(width)
        ids = torch.randint(256, (4, 128))
        lora = with_lora(model, RANK * EXPERTS)
        pair = stepping(with_stacks(model, EXPERTS), ids), stepping(copy.deepcopy(lora), ids)
        line(f"training step, 4 experts, {name} (width {width})", *alternate(*pair, 7), peer, "s",
             "float32", threads, ROUTING)  # fmt: skip
        pair = stepping(with_stacks(model, 1), ids), stepping(copy.deepcopy(lora), ids)
        line(f"training step, 1 expert, {name} (width {width})", *alternate(*pair, 7), peer, "s",
             "float32", threads, "the same two products")  # fmt: skip
        delta = delta_of(model)
        put = delta.put(copy.deepcopy(model)).eval()
        lora.eval()
        with torch.no_grad():
            found = alternate(lambda m=put, i=ids: m(i), lambda m=lora, i=ids: m(i), 9)
            line(f"a pass, 4 experts, {name} (width {width})", *found, peer, "s", "float32",
                 threads, ROUTING)  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            delta.save(Path(folder) / "ours")
            lora.save_pretrained(Path(folder) / "theirs")
            sizes = [bytes_of(Path(folder) / one) for one in ("ours", "theirs")]
        line(f"file, {name} (width {width})", *sizes, peer, "bytes", "float16", threads)

        stack = ExpertStack(width, width, experts=8, rank=RANK)
        x = torch.randn(512, width)

        def batched(s: ExpertStack = stack, rows: torch.Tensor = x) -> torch.Tensor:
            return mixture(rows, gates(functional.linear(rows, s.router), 2), s.a, s.b, s.scale)

        def loop(s: ExpertStack = stack, rows: torch.Tensor = x) -> torch.Tensor:
            gate = gates(functional.linear(rows, s.router), 2)
            each = [gate[:, e, None] * (rows @ s.a[e].T @ s.b[e].T) for e in range(8)]
            return torch.stack(each).sum(0) * s.scale

        with torch.no_grad():
            line(f"8 experts of one layer, {name} (width {width})", *alternate(batched, loop, 25),
                 "a loop over the experts", "s", "float32", threads)  # fmt: skip


if __name__ == "__main__":
    main()
