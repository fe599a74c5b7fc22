"""What stands before the first block, and what after the last."""

import pytest
import torch
from stack_families import FAMILIES, Residual, Tower, build, run
from torch import Tensor, nn

from stackwise.stack import Stack

torch.set_num_threads(1)
every_family = pytest.mark.parametrize("family", FAMILIES)


def stack_of(family: str) -> Stack:
    return Stack.of(build(family), side=FAMILIES[family].side)


def names(stack: Stack) -> tuple[list[str], list[str]]:
    known = {module: name for name, module in stack.model.named_modules()}
    return [known[module] for module in stack.stem], [known[module] for module in stack.head]


@every_family
def test_the_stem_runs_before_the_blocks_and_the_head_after_them(family: str) -> None:
    stack = stack_of(family)
    ran: list[str] = []

    def note(what: str) -> object:
        return lambda *_: ran.append(what)

    for what, modules in (("stem", stack.stem), ("block", stack.blocks), ("head", stack.head)):
        for module in modules:
            for part in module.modules():
                part.register_forward_pre_hook(note(what))
    run(stack.model, family)
    first, last = ran.index("block"), len(ran) - ran[::-1].index("block")
    assert "stem" in ran[:first]
    assert "head" not in ran[:last]
    if not family.startswith(("t5", "bart")):  # whose two sides share embeddings and dropout
        assert "stem" not in ran[first:]


@every_family
def test_stem_blocks_and_head_are_the_whole_model(family: str) -> None:
    stack = stack_of(family)
    with stack.path([2, 0]):  # which changes nothing of it
        parts = [*stack.stem, *stack.blocks, *stack.head]
    assert parts == [*stack.stem, *stack.blocks, *stack.head]
    assert len(set(parts)) == len(parts)
    held = {id(parameter) for part in parts for parameter in part.parameters()}
    assert held == {id(parameter) for parameter in stack.model.parameters()}


@pytest.mark.parametrize(
    ("family", "stem", "head"),
    [
        ("llama", ["model.embed_tokens", "model.rotary_emb"], ["model.norm", "lm_head"]),
        ("gpt2", ["transformer.wte", "transformer.wpe", "transformer.drop"],
         ["transformer.ln_f", "lm_head"]),
        ("opt", ["model.decoder.embed_tokens", "model.decoder.embed_positions"],
         ["model.decoder.final_layer_norm", "lm_head"]),
        ("bert", ["bert.embeddings"], ["cls"]),
        ("vit", ["vit.embeddings"], ["vit.layernorm", "classifier"]),
        ("t5-encoder", ["shared", "encoder.embed_tokens", "encoder.dropout"],
         ["encoder.final_layer_norm", "decoder", "lm_head"]),
        ("bart-decoder", ["model.shared", "model.encoder", "model.decoder.embed_tokens",
                          "model.decoder.embed_positions", "model.decoder.layernorm_embedding"],
         ["lm_head"]),
        ("module-list", ["stem"], ["head"]),
        ("sequential", ["0"], ["5"]),
    ],
)  # fmt: skip
def test_the_parts_of_a_family_by_name(family: str, stem: list[str], head: list[str]) -> None:
    assert names(stack_of(family)) == (stem, head)


def test_a_sequence_of_blocks_alone_has_neither() -> None:
    stack = Stack.of(nn.Sequential(Residual(), Residual()))
    assert names(stack) == ([], [])
    assert isinstance(stack.head, nn.ModuleList) and not list(stack.stem.parameters())


def test_a_network_that_begins_with_its_blocks_has_a_head_alone() -> None:
    from stackwise.tasks.table.baselines.mlp import MLP

    stack = Stack.of(MLP(n_numeric=3, cardinalities=[2], n_outputs=2, width=8))
    assert names(stack) == ([], ["head"])


def test_a_fitted_learner_has_those_of_its_network() -> None:
    class Fitted:
        network_ = Tower()

    assert list(Stack.of(Fitted()).head) == [Fitted.network_.head]


def test_the_forward_counts_and_not_the_order_of_registration() -> None:
    class Backwards(Tower):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Linear(2, 2)
            self._modules = dict(reversed(self._modules.items()))

        def forward(self, x: Tensor) -> Tensor:
            return self._answer(self._read(x))

        def _read(self, x: Tensor) -> Tensor:
            return self.stem(x)

        def _answer(self, h: Tensor) -> Tensor:
            for layer in self.layers:
                h = layer(h)
            return self.head(h)

    stack = Stack.of(Backwards())
    assert names(stack) == (["unused", "stem"], ["head"])  # unused: where it was registered


def test_in_one_nested_call_the_innermost_runs_first() -> None:
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.norm = nn.Linear(16, 2), nn.LayerNorm(16)
            self.blocks = nn.Sequential(Residual(), Residual())
            self.stem = nn.Linear(5, 16)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.norm(self.blocks(self.stem(x))))

    assert names(Stack.of(Nested())) == (["stem"], ["norm", "head"])


def test_parts_in_a_dictionary_of_modules_are_in_its_order() -> None:
    class Nano(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            blocks = nn.ModuleList([Residual(), Residual()])
            parts = {"wte": nn.Embedding(9, 16), "h": blocks, "ln_f": nn.LayerNorm(16)}
            self.lm_head = nn.Linear(16, 9)
            self.transformer = nn.ModuleDict(parts)

        def forward(self, ids: Tensor) -> Tensor:
            h = self.transformer.wte(ids)
            for block in self.transformer.h:
                h = block(h)
            return self.lm_head(self.transformer.ln_f(h))

    assert names(Stack.of(Nano())) == (["transformer.wte"], ["transformer.ln_f", "lm_head"])


def test_the_stem_is_frozen_by_its_parameters() -> None:
    stack = stack_of("llama")
    stack.stem.requires_grad_(False)
    frozen = [name for name, p in stack.model.named_parameters() if not p.requires_grad]
    assert frozen == ["model.embed_tokens.weight"]
