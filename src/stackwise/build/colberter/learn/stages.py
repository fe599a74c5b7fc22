"""Training in stages, each of which begins with the weights of the last (section 3.5):

    reduce     both reductions, and whole words
    gate       the gate of stopwords beside them
    narrow     the second reduction, and exact matching

A stage that adds nothing is left out. The first has half of the epochs, the others share the rest;
where there are fewer epochs than stages, the last network learns alone.
"""

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from stackwise.build.colberter.learn.losses import PairLoss
from stackwise.build.colberter.model.network import ColBERTer, Vectors, grown
from stackwise.tasks.retrieval.estimators.batches import PairBatches
from stackwise.training.phases import Phase
from stackwise.training.rules import Backprop


def stages_of(arguments: Mapping[str, Any], epochs: int) -> list[tuple[str, dict[str, Any], int]]:
    """The name, the network's arguments and the epochs of each stage."""
    plain = {"stopwords": False, "final_dim": None, "exact_match": False}
    forms = {
        "reduce": dict(arguments) | plain,
        "gate": dict(arguments) | plain | {"stopwords": arguments["stopwords"]},
        "narrow": dict(arguments),
    }
    kept: list[tuple[str, dict[str, Any]]] = []
    for name, form in forms.items():
        if not kept or kept[-1][1] != form:
            kept.append((name, form))
    if epochs < 2 * len(kept):
        kept = kept[-1:]
    later = (epochs - epochs // 2) // max(len(kept) - 1, 1)
    shares = [epochs - later * (len(kept) - 1), *[later] * (len(kept) - 1)]
    return [(name, form, share) for (name, form), share in zip(kept, shares, strict=True)]


def phases_of(
    stages: list[tuple[str, dict[str, Any], int]],
    batches: PairBatches,
    validate: Callable[[nn.Module], Mapping[str, float]] | None,
    weights: tuple[float, float, float],
    patience: int | None,
    encoder: nn.Module | None,
    **options: Any,
) -> list[Phase]:
    """The phases of a fit.

    Args:
        weights: a_b, a_CLS, a_CS. encoder: that learns along; a resumed phase begins with a copy.
        options: of `Backprop`.
    """

    def rebuilt(arguments: Mapping[str, Any]) -> ColBERTer:
        made = ColBERTer(**arguments)
        made.encoder = copy.deepcopy(encoder)
        return made

    found = []
    for place, (name, form, epochs) in enumerate(stages):
        rule = Backprop(PairLoss(*weights), validate=validate, monitor="mrr", mode="max", **options)
        start = partial(grown_to, form) if place else same
        found.append(Phase(name, rule, batches, epochs, patience, start=start, rebuild=rebuilt))
    return found


def same(network: nn.Module) -> nn.Module:
    """The first stage goes on with the network that is made for it."""
    return network


def grown_to(form: Mapping[str, Any], before: nn.Module) -> nn.Module:
    """A network of this form, with what the one before has learned."""
    assert isinstance(before, ColBERTer)
    return grown(before, **form)


def score_tables(network: Any, query: Vectors, document: Vectors) -> dict[str, Tensor]:
    """(Q, D) scores: `mrr` watches the merged one, `mrr_cls` that of the texts' own vectors."""
    scores = network.score_all(query, document)
    return {"mrr": scores.total, "mrr_cls": scores.cls}
