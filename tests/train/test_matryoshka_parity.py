"""Heads, losses and the cascade against the authors'.

The numbers were recorded from RAIVNLab/MRL at 7ccb42df6be05f3d21d0648aa03099bba46386bf in float32:
the heads and the loss of its training code on seeded weights, and the cascade of its notebook on
400 rows of made logits, of which 200 were searched. The last test holds the loss to
sentence-transformers, where that is installed.
"""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from stackwise.train.matryoshka import (
    MatryoshkaHead,
    MatryoshkaLoss,
    adaptive_answers,
    expected_dim,
    tune_thresholds,
)
from stackwise.train.matryoshka.rule import summed

RECORD = load_file(Path(__file__).parents[1] / "data" / "parity" / "matryoshka.safetensors")
DIMS = (2, 4, 8, 16)
LEVELS = tuple(2**power for power in range(3, 12))
HEADS = {"mrl": {}, "mrl_e": {"tied": True}, "mrl_e_nobias": {"tied": True, "bias": False}}


def near(found, recorded: str) -> bool:
    return torch.allclose(torch.as_tensor(found), RECORD[f"output/{recorded}"], atol=1e-5)


def head(kind: str) -> MatryoshkaHead:
    made = MatryoshkaHead(16, 7, dims=DIMS, **HEADS[kind])
    start = f"weights/{kind}/nesting_classifier_"
    made.load_state_dict(
        {f"layers.{k.removeprefix(start)}": v for k, v in RECORD.items() if k.startswith(start)}
    )
    return made


@pytest.mark.parametrize("kind", HEADS)
def test_the_logits_of_every_width(kind):
    made, x = head(kind), RECORD["input/x"]
    for dim, logits in made.nested(x).items():
        assert near(logits, f"{kind}/logits_{dim}")
        assert near(made(x, dim), f"{kind}/logits_{dim}")


@pytest.mark.parametrize("kind", HEADS)
def test_the_summed_losses(kind):
    logits, y = head(kind).nested(RECORD["input/x"]), RECORD["input/y"]
    plain = partial(functional.cross_entropy, target=y)
    smoothed = partial(functional.cross_entropy, target=y, label_smoothing=0.1)
    assert near(summed(logits, (1, 1, 1, 1), plain), f"{kind}/loss_plain")
    assert near(summed(logits, (1, 1, 1, 1), smoothed), f"{kind}/loss_smoothed")
    weights = RECORD["input/relative_importance"].tolist()
    assert near(summed(logits, weights, plain), f"{kind}/loss_weighted")


def test_a_head_of_the_first_features_alone_is_the_baseline():
    fixed = functional.linear(
        RECORD["input/x"][:, :4], RECORD["weights/fixed/weight"], RECORD["weights/fixed/bias"]
    )
    assert near(fixed, "fixed/logits")


def test_the_thresholds_and_what_the_cascade_answers():
    chances = RECORD["input/cascade_logits"].softmax(-1).numpy()
    truth = RECORD["input/cascade_gt"].numpy()
    searched = RECORD["input/cascade_search_rows"].numpy()
    held = RECORD["output/cascade/held_out_rows"].numpy()
    by_size = dict(zip(LEVELS, chances, strict=True))
    tuned = tune_thresholds({m: p[searched] for m, p in by_size.items()}, truth[searched])
    assert near(np.float32(tuned), "cascade/thresholds")
    for cap in range(1, len(LEVELS)):
        allowed = {m: by_size[m][held] for m in LEVELS[: cap + 1]}
        answers, used = adaptive_answers(allowed, tuned[:cap])
        levels = np.searchsorted(LEVELS, used)
        assert np.array_equal(answers, RECORD["output/cascade/answer"][cap - 1].numpy())
        assert np.array_equal(levels, RECORD["output/cascade/used_level"][cap - 1].numpy())
        right = float((answers == truth[held]).mean())
        assert right == pytest.approx(float(RECORD["output/cascade/accuracy"][cap - 1]), abs=1e-6)
        recorded = float(RECORD["output/cascade/expected_dimension"][cap - 1])
        assert expected_dim(used) == pytest.approx(recorded, rel=1e-6)


def test_the_loss_of_sentence_transformers_on_the_same_embeddings():
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    a, b = torch.randn(6, 16), torch.randn(6, 16)

    class Ranking(torch.nn.Module):
        """A loss in the form that their wrapper takes: it asks the model for each column."""

        def __init__(self, model) -> None:
            super().__init__()
            self.model = model

        def forward(self, features, labels):
            one, other = (self.model(of)["sentence_embedding"] for of in features)
            return functional.cross_entropy(one @ other.T * 20, torch.arange(len(one)))

    class Given(torch.nn.Module):
        """A model whose embeddings are what it is given."""

        def get_embedding_dimension(self) -> int:
            return 16

        def forward(self, features):
            return {"sentence_embedding": features["z"], "token_embeddings": features["z"][:, None]}

    model = Given()
    weights = (1.0, 2.0, 0.5, 0.25)
    theirs = losses.MatryoshkaLoss(
        model, Ranking(model), list(DIMS)[::-1], matryoshka_weights=list(weights)[::-1]
    )
    ours = MatryoshkaLoss(
        lambda one, other: functional.cross_entropy(one @ other.T * 20, torch.arange(len(one))),
        DIMS, weights=weights, normalise=True,
    )  # fmt: skip
    found = theirs([{"z": a.clone()}, {"z": b.clone()}], torch.empty(0))
    assert torch.allclose(ours(a, b), found, atol=1e-5)
