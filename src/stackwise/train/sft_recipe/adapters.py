"""LoRA beside its base: what a fit trains, what it keeps, how it is opened again.

A run holds the adapter alone (`adapter/`, which peft opens too) and says which base it is for. Only
where the base was an object in memory, which nobody could open again, it lies in `base/`.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stackwise.adapt import LoraDelta, all_off, base_hash, settle_all
from stackwise.errors import ModelError, NotInstalled, RunError
from stackwise.models import model_folder, open_model, save_model

ADAPTER, BASE = "adapter", "base"


@dataclass(frozen=True)
class KnownBase:
    """The model beside which an adapter is kept.

    Attributes:
        reference: what names it, a path made whole; None where it was an object.
        hash: of its weights (`base_hash`).
    """

    reference: str | None
    hash: str

    @classmethod
    def of(cls, reference: Any, model: Any) -> "KnownBase":
        """That of an opened model."""
        if not isinstance(reference, (str, Path)):
            return cls(None, base_hash(model))
        path = Path(reference)
        return cls(str(path.resolve() if path.exists() else reference), base_hash(model))

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def with_adapters(model: Any, rank: int) -> Any:
    """The model with LoRA adapters on every linear layer, which alone are trained."""
    try:
        import peft
    except ImportError as error:
        raise NotInstalled("lora needs peft: pip install 'stackwise[peft]'") from error
    config = peft.LoraConfig(
        r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear",
        task_type="CAUSAL_LM",
    )  # fmt: skip
    return peft.get_peft_model(model, config)


def adapter_put_on(adapted: Any, base: KnownBase, **about: Any) -> tuple[Any, LoraDelta]:
    """The plain model of a trained one of peft, the adapter put on it, and the adapter."""
    delta = LoraDelta.of(adapted, base=base.hash, **about)
    plain = adapted.unload().cpu()  # the base as it was: nothing of it was trained
    return delta.put(plain, check=False), delta


def keep_adapter(folder: Path, model: Any, delta: LoraDelta, base: KnownBase) -> None:
    """Write the adapter, and the base where nothing else holds it."""
    place: Any = base.reference and (model_folder(base.reference) or base.reference)
    if base.reference is None:
        place = (folder / BASE).resolve()
        with all_off(model):
            save_model(model, folder / BASE)
    delta.beside(str(place)).save(folder / ADAPTER)


def open_adapted(folder: Path, base: KnownBase) -> tuple[Any, LoraDelta]:
    """The base with the adapter of a run put on, and the adapter.

    Raises:
        RunError: the base is not where it was, or has other weights; the sentence names it.
    """
    place = folder / BASE if base.reference is None else base.reference
    if isinstance(place, str) and not Path(place).is_absolute() and Path(place).exists():
        raise RunError(
            f"{folder} names its base {place!r}, which would be whatever lies there from here; "
            f"give the base yourself: {place}+{folder}"
        )
    delta = LoraDelta.load(folder / ADAPTER)
    try:
        model = open_model(place, fetch=False)  # nobody asked the network for what a file names
    except (ModelError, RunError, OSError) as error:
        raise RunError(
            f"{folder} is an adapter for the model {place} with the hash {base.hash}, which cannot "
            f"be opened ({error}); put it back, or use the adapter on a copy: COPY+{folder}"
        ) from error
    model = settle_all(getattr(model, "model_", model))  # as the fit had it
    found = base_hash(model)
    if found != base.hash:
        raise RunError(
            f"{folder} is an adapter for the model {place} with the hash {base.hash}, and what "
            f"lies there now has the hash {found}; put the old one back"
        )
    return delta.put(model, check=False), delta
