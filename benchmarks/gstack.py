"""Growing a model in memory, against what growth scripts do; and what a mask costs, half open.

The peer makes a model of the deeper config (random weights, as transformers does) and loads a state
dict whose names are mapped to the base's. Growing a saved folder is in benchmarks/rebuild.py.
"""

import re
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from side_by_side import alternate, line
from stackwise.grow.gstack import Masked, stack_order, stacked

SIZES = {"4 blocks of 256": (4, 256), "6 of 512": (6, 512), "8 of 768": (8, 768)}
REPEATS = 5


def base_model(depth: int, width: int) -> Any:
    """A Llama with random weights."""
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=8192, hidden_size=width, intermediate_size=3 * width,
            num_hidden_layers=depth, num_attention_heads=width // 64,
        )
    ).eval()  # fmt: skip


def by_hand(model: Any, factor: int) -> Any:
    """A deeper model with copies of every tensor, by the names of the state dict."""
    depth, old = model.config.num_hidden_layers, model.state_dict()
    config = LlamaConfig(**model.config.to_dict() | {"num_hidden_layers": factor * depth})
    grown = LlamaForCausalLM(config)
    new = {}
    for name in grown.state_dict():
        found = re.match(r"(model\.layers\.)(\d+)(\..*)", name)
        new[name] = old[f"{found[1]}{int(found[2]) % depth}{found[3]}" if found else name]
    grown.load_state_dict(new)
    return grown


def main() -> None:
    """Every case, a line each."""
    threads = torch.get_num_threads()
    for name, (depth, width) in SIZES.items():
        model = base_model(depth, width)
        order = stack_order(depth, 2)
        ours, peer = alternate(lambda: stacked(model, order), lambda: by_hand(model, 2), REPEATS)  # noqa: B023
        line(f"grow {name} 2-fold", ours, peer, "config, init, load_state_dict", "s", "float32",
             threads)  # fmt: skip
        ids = torch.randint(0, 8192, (4, 64))
        grown, plain = stacked(model, order), stacked(model, order)
        mask = Masked(grown, range(depth, 2 * depth), c=0.5)

        def step(network: Any) -> None:
            network(input_ids=ids, labels=ids, use_cache=False).loss.backward()  # noqa: B023
            network.zero_grad(set_to_none=True)

        ours, peer = alternate(lambda: step(grown), lambda: step(plain), REPEATS)  # noqa: B023
        line(f"a step of {name} doubled, mask half open", ours, peer, "without the mask", "s",
             "float32", threads)  # fmt: skip
        mask.remove()


if __name__ == "__main__":
    main()
