"""LoRA as a delta, in peft's own files.

A layer's weight W (out, in) becomes W + (alpha / r) B A with A (r, in) and B (out, r). The folder
is peft's (`adapter_config.json`, `adapter_model.safetensors`) with our record beside it: peft opens
it by `PeftModel.from_pretrained(base, folder)`, and what peft wrote elsewhere is opened here, where
peft need not be installed. Put on, it is in the weights, and costs no time.

Source: arXiv 2106.09685. peft runs the two matrices beside the layer instead of in it, which gives
the same numbers up to rounding.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from stackwise.adapt.delta.parts import LowRank, Part
from stackwise.adapt.delta.weights import WeightDelta
from stackwise.errors import ModelError
from stackwise.files import read_json, write_json
from stackwise.seals import check_seal, sealed

CONFIG = "adapter_config.json"
PREFIX = "base_model.model."
MATRICES = {
    ".lora_A.weight": "a", ".lora_B.weight": "b",
    ".lora_embedding_A": "a", ".lora_embedding_B": "b",
}  # fmt: skip
EMBEDDING = ".lora_embedding_"
KEPT = ("auto_mapping", "base_model_name_or_path", "fan_in_fan_out", "revision", "task_type")
"""Of peft's config, what is kept as it came: it says where the base is, and what it is."""
MOVABLE = ("base_model_name_or_path",)
"""Of peft's config, what a user may write anew where a base has moved."""
UNDERSTOOD = {
    *KEPT, "alpha_pattern", "exclude_modules", "inference_mode", "init_lora_weights",
    "layers_pattern", "layers_to_transform", "lora_alpha", "lora_dropout", "peft_type",
    "peft_version", "r", "rank_pattern", "target_modules", "use_rslora",
    # what these hold matters to other settings alone, each of which is refused
    "megatron_core", "qalora_group_size",
    "eva_config",  # how A and B began
}  # fmt: skip
PLAIN_BEGINNINGS = (None, True, False, "gaussian", "eva", "orthogonal")
"""Beginnings of A and B that leave the weights of the base alone."""


class LoraDelta(WeightDelta, kind="lora"):
    """Low-rank additions to the weights of layers and embeddings.

    Args:
        parts: a `LowRank` for each weight; `transposed` says that it is an embedding's.
        config: peft's settings that say where the base is (`KEPT`).
    """

    tensors_file: ClassVar[str] = "adapter_model.safetensors"
    foreign: ClassVar[str | None] = CONFIG
    parts: dict[str, Part]

    def __init__(
        self,
        parts: Mapping[str, LowRank],
        *,
        config: Mapping[str, Any] | None = None,
        **about: Any,
    ) -> None:
        super().__init__(parts, **about)
        self.config = {name: (config or {}).get(name) for name in KEPT}

    @classmethod
    def of(cls, model: Any, **about: Any) -> "LoraDelta":
        """The adapter that is on in a model of peft.

        Raises:
            ModelError: it is more than LoRA.
        """
        from peft import get_peft_model_state_dict

        name = model.active_adapter
        state = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
        tensors = {key: value.detach().cpu().clone() for key, value in state.items()}
        return cls.made_of(tensors, model.peft_config[name].to_dict(), **about)

    def additions(self, module: nn.Module) -> dict[str, Part]:
        """The parts as the weights lie: GPT-2's layers have (in, out)."""
        return {name: _as_it_lies(part, name, module) for name, part in self.parts.items()}

    def fits(self, module: nn.Module) -> None:
        """As for all weights; and no weight is shared, for LoRA changes one of its users alone."""
        super().fits(module)
        names: dict[int, list[str]] = {}
        for name, weight in module.named_parameters(remove_duplicate=False):
            names.setdefault(id(weight), []).append(name)
        for shared in names.values():
            changed = [name for name in shared if name in self.parts]
            if len(shared) > 1 and changed:
                other = next(name for name in shared if name != changed[0])
                raise ModelError(
                    f"{self._name} changes {changed[0]} and not {other}, and this "
                    f"{type(module).__name__} has one weight for both: untie them first"
                )

    def tensors(self) -> dict[str, Tensor]:
        """A and B by the names that peft gives them."""
        found = {}
        for name, part in self.parts.items():
            assert isinstance(part, LowRank)
            layer = PREFIX + name.removesuffix(".weight")
            for key, role in MATRICES.items():
                if (EMBEDDING in key) == part.transposed:
                    found[layer + key] = getattr(part, role)
        return found

    def settings(self) -> dict[str, Any]:
        """peft's config: the commonest rank and alpha, and for other layers their own."""
        ranks, alphas = {}, {}
        for name, part in sorted(self.parts.items()):
            assert isinstance(part, LowRank)
            layer = name.removesuffix(".weight")
            ranks[layer], alphas[layer] = part.rank, _whole(part.scale * part.rank)
        rank, alpha = (_commonest(found.values()) for found in (ranks, alphas))
        return {
            **self.config, "peft_type": "LORA", "r": rank, "lora_alpha": alpha,
            "target_modules": list(ranks), "lora_dropout": 0.0, "bias": "none",
            "use_rslora": False, "inference_mode": True, "init_lora_weights": True,
            "rank_pattern": {layer: own for layer, own in ranks.items() if own != rank},
            "alpha_pattern": {layer: own for layer, own in alphas.items() if own != alpha},
        }  # fmt: skip

    @classmethod
    def made_of(
        cls, tensors: Mapping[str, Tensor], settings: Mapping[str, Any], **about: Any
    ) -> Self:
        """From peft's tensors and config.

        Raises:
            ModelError: the adapter is more than LoRA, or names a tensor that is none of LoRA's.
        """
        _check_config(settings)
        found: dict[str, dict[str, Any]] = {}
        for key, tensor in tensors.items():
            ending = next((one for one in MATRICES if key.endswith(one)), None)
            if ending is None or not key.startswith(PREFIX):
                raise ModelError(
                    f"the adapter holds {key}, which is no matrix of LoRA; where it is the base's "
                    "own, save the adapter with peft's save_embedding_layers=False"
                )
            layer = key.removeprefix(PREFIX).removesuffix(ending)
            pair = found.setdefault(layer, {"transposed": EMBEDDING in ending})
            pair[MATRICES[ending]] = tensor
        if not found:
            raise ModelError("the adapter holds no matrices")
        parts = {}
        for layer, pair in found.items():
            if not {"a", "b"} <= pair.keys():
                raise ModelError(f"the adapter holds one of the two matrices of {layer} alone")
            if any(pair[one].dim() != 2 for one in "ab"):
                raise ModelError(
                    f"the adapter changes {layer}, whose matrices have "
                    f"{pair['a'].dim()} dimensions: convolutions are not read"
                )
            part = LowRank(**pair)
            parts[f"{layer}.weight"] = part.scaled(_scale(settings, layer, part.rank))
        return cls(parts, config=settings, **about)

    def keep_settings(self, folder: Path) -> dict[str, Any]:
        """peft's config, in the file in which peft has it."""
        write_json(folder / CONFIG, self.settings())
        return {"seal": sealed(self.settings(), MOVABLE)["seal"]}

    @classmethod
    def read_settings(cls, folder: Path, record: Mapping[str, Any]) -> Mapping[str, Any]:
        """peft's config."""
        settings: Mapping[str, Any] = read_json(folder / CONFIG, dict)
        seal = (record.get("settings") or {}).get("seal")
        if seal is not None:
            check_seal(folder / CONFIG, {**settings, "seal": seal}, MOVABLE)
        return settings

    def beside(self, place: str) -> Self:
        """The same, saying to peft where its base is."""
        kept: Any = self.parts
        return type(self)(kept, config=self.config | {"base_model_name_or_path": place},
                          base=self.base, method=self.method, knobs=self.knobs)  # fmt: skip

    def _with(self, parts: Mapping[str, Part]) -> Self:
        kept: Any = parts  # low-rank parts stay such when scaled and joined
        return type(self)(kept, config=self.config, base=self.base, method=self.method)


def _as_it_lies(part: Part, name: str, module: nn.Module) -> Part:
    assert isinstance(part, LowRank)
    try:
        layer = module.get_submodule(name.removesuffix(".weight"))
    except AttributeError:
        return part  # `fits` says what is missing
    lies = isinstance(layer, nn.Embedding) or type(layer).__name__ == "Conv1D"
    if lies == part.transposed:
        return part
    return LowRank(part.a, part.b, part.scale, transposed=lies)


def _scale(config: Mapping[str, Any], layer: str, rank: int) -> float:
    """alpha / r of a layer, or alpha / sqrt(r)."""
    alpha = config["lora_alpha"]
    for pattern, own in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", layer):  # as peft reads them: the first that matches
            alpha = own
            break
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _check_config(config: Mapping[str, Any]) -> None:
    """Nothing where the config says LoRA and no more; else an error, for it would be lost."""
    kind = str(getattr(config["peft_type"], "value", config["peft_type"]))
    if kind != "LORA":
        raise ModelError(f"the adapter is peft's {kind}, and only LORA is read as a delta")
    begun = config.get("init_lora_weights")
    if begun not in PLAIN_BEGINNINGS:
        raise ModelError(
            f"the adapter began with init_lora_weights={begun!r}, which changes the weights of the "
            "base: turn it into plain LoRA with peft first"
        )
    for name, value in config.items():
        if name not in UNDERSTOOD and value not in (None, False, {}, [], "none"):
            raise ModelError(
                f"the adapter has {name}={value!r}, which is more than LoRA and would be lost: "
                "merge it with peft"
            )


def _whole(number: float) -> float:
    return int(number) if float(number).is_integer() else number


def _commonest(values: Any) -> Any:
    return Counter(values).most_common(1)[0][0]
