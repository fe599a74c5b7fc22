"""A head of classes on any encoder or decoder of transformers.

    encoder     its own classifier over the first token, as `AutoModelForSequenceClassification`
    decoder     a linear layer over the last token

The model's weights are taken over as they are, and what it has besides (a head over the vocabulary)
is left out. The head's first weights follow from a seed alone.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from stackwise.errors import ModelError
from stackwise.models import stored_dtype
from stackwise.optional import needs


def has_head(model: Any, classes: int) -> bool:
    """Whether a model of transformers gives a logit for each of so many classes."""
    named = type(model).__name__.endswith("ForSequenceClassification")
    return named and int(getattr(model.config, "num_labels", 0)) == classes


def with_head(model: Any, classes: Sequence[Any], *, pad: int | None, seed: int = 0) -> Any:
    """The model with a head of these classes: itself where it has one, else a new one.

    Args:
        model: an encoder or a decoder of transformers, with any head or none.
        pad: the token that fills rows up: decoders look for the last one that is another.
        seed: of the head's weights.

    Raises:
        ModelError: it is no model of transformers, or of a family that has no such head.
    """
    if not hasattr(model, "config") or not hasattr(model, "base_model"):
        raise ModelError(
            f"a {type(model).__name__} is no encoder or decoder of transformers, on which a head "
            f"of {len(classes)} classes could be put"
        )
    if has_head(model, len(classes)):
        if model.config.pad_token_id is None:
            model.config.pad_token_id = pad
        return model
    needs("transformers", "a head of classes")
    import transformers

    auto = transformers.AutoModelForSequenceClassification
    if type(model.config) not in auto._model_mapping:
        raise ModelError(
            f"a {type(model).__name__} cannot be given a head of classes: transformers has none "
            "for its family; give an encoder such as BERT, or a decoder such as Llama"
        )
    config = copy.deepcopy(model.config)
    config.num_labels = len(classes)
    config.id2label = {place: str(name) for place, name in enumerate(classes)}
    config.label2id = {name: place for place, name in config.id2label.items()}
    config.problem_type = "single_label_classification"
    if config.pad_token_id is None:
        config.pad_token_id = pad
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made: Any = auto.from_config(config, dtype=model.dtype)
    odd = made.base_model.load_state_dict(model.base_model.state_dict(), strict=False)
    lacking = [name for name in odd.missing_keys if not name.startswith("pooler.")]
    if lacking:
        raise ModelError(
            f"a {type(model).__name__} lacks {lacking[0]}, which its classifier would stand on"
        )
    place = getattr(model, "name_or_path", "")
    made.config._name_or_path = made.name_or_path = place
    if stored_dtype(model) is not None:
        made.stored_dtype = stored_dtype(model)
    made.to(model.device)
    made.train(model.training)
    return made


def check_head(output: Any, classes: int, model: nn.Module) -> None:
    """Refuse what is no logit for each class.

    Raises:
        ModelError: the sentence says how a head is put on.
    """
    if output.ndim != 2 or output.shape[1] != classes:
        raise ModelError(
            f"a {type(model).__name__} has no head of {classes} classes: put one on by "
            "task.headed(model), or give a model with one"
        )
