"""Modes against peft's IA3 and LoRA of rank 1: a training step, a pass with one on, the file.

Small Llamas of three sizes, all MLPs. A pass with a mode on is set against the pass of the base,
and so is one after `merge`; a network of which silent units were cut against the one before.
"""

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from side_by_side import alternate, line
from stackwise.adapt import base_hash
from stackwise.adapt.dopamine import Numbers, TauGate, find_sites, prune_silent
from stackwise.adapt.dopamine.learning import Gates, on_frozen

SIZES = {"small": (2, 128), "middle": (2, 256), "large": (3, 512)}
ROWS, TOKENS = 4, 128
STEPS, PASSES = 5, 15
NOISE = "as much work: 0.83 to 1.06 over three recordings on a busy machine, in no order of size"
SIGMOID = "a sigmoid a unit is part of each pass, for which the base has nothing"


def model_of(depth: int, width: int) -> LlamaForCausalLM:
    """A Llama with random weights, as wide within as SmolLM2 is (8 / 3)."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=2048, hidden_size=width, intermediate_size=width * 8 // 3,
        num_hidden_layers=depth, num_attention_heads=width // 64,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def stepper(parameters: Any, loss: Callable[[], torch.Tensor]) -> Callable[[], None]:
    """A step of AdamW."""
    optimizer = torch.optim.AdamW(list(parameters), lr=1e-3, fused=True)

    def step() -> None:
        loss().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def bytes_in(folder: Path, name: str) -> int:
    """The bytes of a file of tensors."""
    return (folder / name).stat().st_size


def main() -> None:
    """Every case, a line each."""
    threads = torch.get_num_threads()
    for name, (depth, width) in SIZES.items():
        model = model_of(depth, width)
        ids = torch.randint(0, 2048, (ROWS, TOKENS), generator=torch.Generator().manual_seed(0))
        sites = find_sites(model, lambda m=model, i=ids: m(input_ids=i[:1]).logits.sum())
        print_steps(name, model, ids, sites, threads)
        print_passes(name, model, ids, sites, threads)


def print_steps(name: str, model: Any, ids: torch.Tensor, sites: Any, threads: int) -> None:
    """Training steps beside peft's, and the bytes that are kept."""
    peers = {
        "peft's IA3": peft.IA3Config(
            target_modules=["down_proj"], feedforward_modules=["down_proj"], task_type="CAUSAL_LM"
        ),
        "peft's LoRA, r = 1": peft.LoraConfig(
            r=1, target_modules=["gate_proj", "up_proj", "down_proj"], task_type="CAUSAL_LM"
        ),
    }  # fmt: skip
    starts = {site.name: torch.zeros(site.width) for site in sites}
    twin = copy.deepcopy(model)
    for learn in (["gain"], ["tau", "gain"]):
        words = "gains" if learn == ["gain"] else "thresholds and gains"
        gates = Gates(twin, sites, starts, learn=learn, gain="plain", context=0)
        with on_frozen(gates), tempfile.TemporaryDirectory() as folder:
            mine = stepper(gates.parameters(), lambda: twin(input_ids=ids, labels=ids).loss)
            for peer, config in peers.items():
                adapted: Any = peft.get_peft_model(copy.deepcopy(model), config).eval()
                theirs = stepper(
                    (p for p in adapted.parameters() if p.requires_grad),
                    lambda a=adapted: a(input_ids=ids, labels=ids).loss,
                )
                ours, other = alternate(mine, theirs, STEPS)
                reason = NOISE if learn == ["gain"] else (
                    "each unit has a sigmoid and its gradient, where the peer multiplies once"
                )  # fmt: skip
                line(f"training step, {words}, {name}", ours, other, peer, "s", "float32", threads,
                     reason)  # fmt: skip
                place = Path(folder)
                adapted.save_pretrained(place / peer)
                TauGate("m", sites, gates.numbers()).save(place / "mode")
                line(f"bytes kept, {words}, {name}", bytes_in(place / "mode", "delta.safetensors"),
                     bytes_in(place / peer, "adapter_model.safetensors"), peer, "bytes", "float32",
                     threads, "two numbers a unit where the peer has one"
                     if learn != ["gain"] else "names of the layers are longer")  # fmt: skip


def print_passes(name: str, model: Any, ids: torch.Tensor, sites: Any, threads: int) -> None:
    """Passes with a mode on, merged, and cut, beside the base's."""
    torch.manual_seed(0)
    gains = {s.name: Numbers(gain=1 + 0.1 * torch.randn(s.width)) for s in sites}
    both = {s.name: Numbers(tau=0.1 * torch.randn(s.width), gain=gains[s.name].gain) for s in sites}
    base, known = copy.deepcopy(model), base_hash(model)

    def passing(network: Any) -> Callable[[], Any]:
        def run() -> Any:
            with torch.inference_mode():
                return network(input_ids=ids)

        return run

    for words, mode in {
        "that rescales": TauGate("gains", sites, gains, base=known),
        "with soft thresholds": TauGate("soft", sites, both, base=known),
        "with hard thresholds": TauGate("hard", sites, both, hard=True, base=known),
    }.items():
        with mode.on(model):
            ours, peer = alternate(passing(model), passing(base), PASSES)
        line(f"pass with a mode on {words}, {name}", ours, peer, "the base", "s", "float32",
             threads, SIGMOID if mode.gated else None)  # fmt: skip
    merged = TauGate("gains", sites, gains, base=known).merge(copy.deepcopy(model))
    ours, peer = alternate(passing(merged), passing(base), PASSES)
    line(f"pass after merge, {name}", ours, peer, "the base", "s", "float32", threads,
         "the same network as the base: 0.93 to 0.98 on a busy machine")  # fmt: skip
    half = {
        s.name: Numbers(tau=torch.where(torch.arange(s.width) % 2 == 0, 99.0, -99.0)) for s in sites
    }
    mode = TauGate("half", sites, half, hard=True, base=known)
    made = prune_silent(model, mode, [{"input_ids": ids, "labels": ids}], even=True)
    with mode.on(model), made.mode.on(made.model):
        ours, peer = alternate(passing(made.model), passing(model), PASSES)
    line(f"pass of a mode with half of the units silent, cut, {name}", ours, peer,
         "the same mode, not cut", "s", "float32", threads)  # fmt: skip


if __name__ == "__main__":
    main()
