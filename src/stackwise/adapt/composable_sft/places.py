"""What of a model may change sparsely, what belongs to one job alone, and what stays.

encoder     of a model of transformers its base model, by names without the base's prefix, so
            that what was learned under one head fits under another; of another module all
heads       parameters outside of it: the job's own, trained whole
frozen      norms; the output embedding of a language model
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from stackwise.adapt.delta.hashes import state_hash
from stackwise.errors import KnobError, ModelError

POOLER = "pooler."
"""A part of some encoders that those under another head lack: it goes with the head."""


def prefix_of(module: nn.Module) -> str:
    """What stands before the names of the encoder's parameters, "" where the module is it."""
    prefix = getattr(module, "base_model_prefix", "")
    inside = isinstance(getattr(module, prefix, None), nn.Module) if prefix else False
    return f"{prefix}." if inside else ""


def encoder_hash(module: nn.Module, heads: Iterable[str] = ()) -> str:
    """The hash of the encoder's numbers, whatever head stands on it.

    Args:
        heads: full names of weights that are a head's.
    """
    base: nn.Module = module.get_submodule(prefix_of(module).rstrip("."))
    return state_hash(base, leave_out=(POOLER, *heads))


@dataclass(frozen=True)
class Places:
    """The parameters of a module by their part, each tied one once.

    Attributes:
        maskable: full names of those that change sparsely. heads: of those that change whole.
    """

    maskable: dict[str, nn.Parameter]
    heads: dict[str, nn.Parameter]

    @property
    def entries(self) -> int:
        """How many entries may be selected."""
        return sum(parameter.numel() for parameter in self.maskable.values())


def places_in(
    module: nn.Module, freeze: list[str] | None = None, heads: list[str] | None = None
) -> Places:
    """Part the parameters of a module.

    Args:
        freeze: pieces of the names of what stays; None for all norms, empty for nothing.
        heads: pieces of the names of heads; None for what is outside of the encoder.

    Raises:
        KnobError: a piece is in no name. ModelError: nothing is left, or numbers are quantised.
    """
    named = dict(module.named_parameters())
    for role, pieces in (("freeze", freeze), ("heads", heads)):
        for piece in pieces or ():
            if not any(piece in name for name in named):
                raise KnobError(
                    f"{role} names {piece!r}, which is in no name of this model's weights, such as "
                    f"{next(iter(named), 'none')}"
                )
    norms = {
        f"{name}.{inner}" if name else inner
        for name, part in module.named_modules() if "norm" in type(part).__name__.lower()
        for inner, _ in part.named_parameters(recurse=False)
    }  # fmt: skip
    prefix, output = prefix_of(module), _output_embedding(module)
    maskable, whole = {}, {}
    for name, parameter in named.items():
        stays = name in norms if freeze is None else any(piece in name for piece in freeze)
        inside = name.startswith(prefix) and not name.startswith(prefix + POOLER)
        outside = any(piece in name for piece in heads) if heads else not inside
        if outside and parameter is not output and not (freeze and stays):
            whole[name] = parameter
        elif not outside and not stays:
            maskable[name] = parameter
    quantised = [name for name, p in {**maskable, **whole}.items() if not p.is_floating_point()]
    if quantised:
        raise ModelError(
            f"{quantised[0]} holds {named[quantised[0]].dtype} (quantised numbers), which cannot "
            "be fine-tuned: open the model in float32 or bfloat16"
        )
    if not maskable:
        raise ModelError(f"no weight of this {type(module).__name__} is left that could change")
    return Places(maskable, whole)


def with_statistics_held(module: nn.Module) -> nn.Module:
    """A module whose batch normalisation keeps its statistics, and answers by them, in training
    too: they are no weights, so that no difference could hold what became of them. In place.
    """
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.track_running_stats:
            part.register_forward_pre_hook(_answers_by_statistics)
    return module


def _answers_by_statistics(norm: nn.Module, _: Any) -> None:
    norm.eval()


def untied(module: Any) -> Any:
    """A masked language model whose output matrix is tied to its embedding, with a frozen copy in
    its place, so that the embedding may change; any other module as it is. In place.
    """
    output = _output_embedding(module)
    embed: Any = getattr(module, "get_input_embeddings", lambda: None)()
    masked = type(module).__name__.endswith("ForMaskedLM")
    if output is not None and masked and getattr(embed, "weight", None) is output:
        copied = nn.Parameter(embed.weight.detach().clone(), requires_grad=False)
        module.get_output_embeddings().weight = copied
        module.config.tie_word_embeddings = False
    return module


def _output_embedding(module: Any) -> Tensor | None:
    """The matrix from states to the vocabulary, where a model of transformers has one."""
    found = getattr(module, "get_output_embeddings", lambda: None)()
    return getattr(found, "weight", None)
