"""Which parameters are blocks: every one that donors may move, tied ones once, by name."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from stackwise.errors import KnobError, ModelError
from stackwise.stack import Stack


@dataclass(frozen=True)
class Blocks:
    """The parameter blocks of a model.

    Attributes:
        weights: each block's tensor, by the first name that the model has for it, in its order.
        aliases: all the names of each block; a tied weight has several.
        left_out: names of parameters that stay as they are.
        optional: of these, the names of the head and of the table of tokens, whose shapes may be
            others in donors.
        prefix: of the names of the model's body, as transformers has it; "" elsewhere.
    """

    weights: dict[str, Tensor]
    aliases: dict[str, tuple[str, ...]]
    left_out: tuple[str, ...] = ()
    optional: frozenset[str] = field(default_factory=frozenset)
    prefix: str = ""

    def without(self, names: Sequence[str]) -> "Blocks":
        """The same with some of the blocks left out."""
        gone = set(names)
        return Blocks(
            {name: weight for name, weight in self.weights.items() if name not in gone},
            {name: also for name, also in self.aliases.items() if name not in gone},
            (*self.left_out, *names), self.optional, self.prefix,
        )  # fmt: skip


def blocks_of(
    model: nn.Module, *, exclude: Sequence[str] | None = None, matrices: bool = False
) -> Blocks:
    """The blocks of a model.

    Args:
        exclude: regular expressions; parameters whose name has one of them are left out. None
            leaves out the head: what transformers has beside a model's body, or the last layer.
        matrices: leave out what has one dimension: biases, gains of norms.

    Raises:
        ModelError: a parameter is no floating-point numbers, or none is left.
        KnobError: `exclude` is no regular expression.
    """
    names: dict[int, list[str]] = {}
    weights: dict[int, Tensor] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
        weights[id(parameter)] = parameter.detach()
    head = set(head_of(model))
    try:
        patterns = [re.compile(one) for one in exclude or ()]
    except (re.error, TypeError) as error:
        raise KnobError(f"exclude takes regular expressions of names ({error})") from error
    found: dict[str, Tensor] = {}
    aliases: dict[str, tuple[str, ...]] = {}
    left_out: list[str] = []
    for key, weight in weights.items():
        first, *others = names[key]
        every = (first, *others)
        if exclude is None:
            out = bool(head & {first}) and not others
        else:
            out = any(one.search(name) for one in patterns for name in every)
        if out or (matrices and weight.dim() < 2):
            left_out.append(first)
            continue
        if not weight.is_floating_point():
            raise ModelError(
                f"{first} holds {weight.dtype} (quantised numbers), to which no task vector can be "
                "added: open the model in float32 or bfloat16 first"
            )
        found[first], aliases[first] = weight, every
    if not found:
        raise ModelError(
            f"no block of this {type(model).__name__} is left for donors to move; give fewer "
            "patterns in exclude"
        )
    prefix = str(getattr(model, "base_model_prefix", "") or "")
    return Blocks(found, aliases, tuple(left_out), frozenset(head | set(_tokens(model))), prefix)


def head_of(model: nn.Module) -> list[str]:
    """The names of the parameters of the layer that answers.

    Of a model of transformers all beside its body; of another module the last one after the blocks
    that holds a matrix, or the last of all where no list of blocks is found.
    """
    body = getattr(model, "base_model", None)
    if isinstance(body, nn.Module):
        inside = {id(weight) for weight in body.parameters()}
        answers = getattr(model, "get_output_embeddings", lambda: None)()
        if body is model:
            inside -= {id(w) for w in answers.parameters()} if answers is not None else set()
        return [name for name, weight in model.named_parameters() if id(weight) not in inside]
    try:
        after = list(Stack.of(model).head)
    except ModelError:
        after = []
    holding = [
        module for outer in (after or [model]) for module in outer.modules() if has_matrix(module)
    ]
    if not holding or len({id(m) for m in model.modules() if has_matrix(m)}) < 2:
        return []
    last = {id(weight) for weight in holding[-1].parameters(recurse=False)}
    return [name for name, weight in model.named_parameters() if id(weight) in last]


def has_matrix(module: nn.Module) -> bool:
    """Whether a module itself, not one within it, holds a weight of two dimensions or more."""
    return any(weight.dim() > 1 for weight in module.parameters(recurse=False))


def _tokens(model: nn.Module) -> list[str]:
    """The names of the table of tokens, which a donor with more of them has in another size."""
    if not hasattr(model, "get_input_embeddings"):
        return []
    known: Any = model
    try:
        table = known.get_input_embeddings()
    except NotImplementedError:
        return []
    if not isinstance(table, nn.Embedding):
        return []
    return [name for name, weight in model.named_parameters() if weight is table.weight]
