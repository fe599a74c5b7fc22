"""The lens, integrated gradients, erasure, difficulty and the map between two models."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from stackwise.errors import DataError, ModelError
from stackwise.probe.depth_efficiency import (
    cosine_depth,
    depth_score,
    difficulty,
    erase,
    integrated_gradients,
    kl_depth,
    map_layers,
    overlap_depth,
)
from stackwise.probe.depth_efficiency.clean_run import CleanRun
from stackwise.probe.depth_efficiency.measurements.difficulty import answer_splits
from stackwise.probe.depth_efficiency.measurements.erasure import erasure
from stackwise.probe.depth_efficiency.measurements.gradients import answer_probability, attribution
from stackwise.probe.depth_efficiency.measurements.lens import lens
from stackwise.probe.depth_efficiency.measurements.mapping import check_same_tokens
from stackwise.stack import Stack

from .conftest import DEPTH, ids, language_model

PROMPT, ANSWER = [5, 9, 17, 4, 30, 8], [7, 12]


def clean(model: nn.Module, example: Tensor) -> CleanRun:
    with torch.no_grad():
        return CleanRun(Stack.of(model), {"input_ids": example})


def test_the_lens_after_the_last_block_is_the_answer(llama):
    run = clean(llama, ids()[0])
    with torch.no_grad():
        divergence, overlap = lens(run)
    assert divergence.shape == overlap.shape == (DEPTH + 1, 23)
    assert divergence[-1].abs().max() < 1e-5
    assert (overlap[-1] == 1).all()
    assert (divergence >= 0).all() and divergence[0].mean() > 0.01
    assert set((overlap * 5).round(decimals=4).unique().tolist()) <= {0, 1, 2, 3, 4, 5}


def test_the_lens_is_the_models_own_head_on_an_earlier_stream(llama):
    run = clean(llama, ids()[0])
    with torch.no_grad():
        read = llama.lm_head(llama.model.norm(run.hidden[2])).log_softmax(-1)
        expected = (read.exp() * (read - run.output.log())).sum(-1)[0, 1:]
        torch.testing.assert_close(lens(run)[0][2], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("site", ["layer", "attention", "mlp"])
def test_attributions_add_up_to_what_the_site_does_for_the_answer(llama, site):
    run = clean(llama, torch.tensor([PROMPT + ANSWER]))
    with torch.no_grad():
        value = run.hidden[2] if site == "layer" else run.sublayers.of(site)[1]
        ends = torch.cat([value, value.mean(1, keepdim=True).expand_as(value)])
        full, baseline = answer_probability(run, 1, ends, len(PROMPT), site)
        found = float(attribution(run, 1, len(PROMPT), 256, site).sum())
    assert abs(float(full - baseline)) > 1e-3
    assert found == pytest.approx(float(full - baseline), rel=0.02)


def test_the_gradient_table_has_a_row_for_each_block(llama):
    table = integrated_gradients(llama, PROMPT, ANSWER, steps=4)
    assert table.shape == (DEPTH, len(PROMPT) + len(ANSWER))
    assert table[len(PROMPT) + 1].abs().max() == 0  # the last token gives out nothing asked for
    assert all(parameter.grad is None for parameter in llama.parameters())


class Linear(nn.Module):
    """Linear from the stream on, with values for output."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Embedding(50, 8)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 8)) for _ in range(2))
        self.head = nn.Linear(8, 50)

    def forward(self, input_ids: Tensor) -> dict[str, Tensor]:
        stream = self.stem(input_ids)
        for block in self.blocks:
            stream = block(stream)
        return {"last_hidden_state": self.head(stream)}


def test_one_step_is_exact_where_the_answer_is_linear_in_the_site():
    run = clean(Linear(), torch.tensor([PROMPT + ANSWER]))
    with torch.no_grad():
        value = run.hidden[1]
        ends = torch.cat([value, value.mean(1, keepdim=True).expand_as(value)])
        full, baseline = answer_probability(run, 0, ends, len(PROMPT), "layer")
        found = attribution(run, 0, len(PROMPT), 1, "layer").sum()
    torch.testing.assert_close(found, full - baseline)


def test_erasing_with_the_clean_stream_changes_nothing(llama):
    run = clean(llama, torch.tensor([PROMPT + ANSWER]))
    with torch.no_grad():
        for index in range(DEPTH + 1):
            changed = erasure(run, index, len(PROMPT), run.hidden[index][0])
            assert changed.abs().max() < 1e-5


def test_after_the_last_block_only_positions_that_give_out_an_answer_count(llama):
    table = erase(llama, PROMPT, ANSWER, ids(2)).to_numpy()
    assert table.shape == (DEPTH + 1, len(PROMPT) + len(ANSWER))
    emits = np.array([False] * 5 + [True] * 2 + [False])
    assert (table[-1][emits] > 0.01).all() and (table[-1][~emits] < 1e-5).all()
    assert (table[0][:6] > 1e-4).all()


def test_erasure_equals_a_full_pass_with_the_stream_replaced(llama):
    example = torch.tensor([PROMPT + ANSWER])
    run, value = clean(llama, example), torch.ones(32)

    def erased(h: Tensor) -> Tensor:
        h = h.clone()
        h[:, 3] = value
        return h

    with torch.no_grad(), Stack.of(llama).intervene(1, erased):
        output = llama(input_ids=example, use_cache=False).logits.softmax(-1)
        expected = (output - run.output).norm(dim=-1)[0, 5:7].max()
    with torch.no_grad():
        found = erasure(run, 2, len(PROMPT), value)
    torch.testing.assert_close(found[3], expected, rtol=1e-4, atol=1e-6)


def test_the_depth_score_is_a_centre_of_mass():
    effects = np.zeros(7)
    effects[4] = 0.3
    assert depth_score(effects) == pytest.approx(4)
    assert depth_score(np.ones(7)) == pytest.approx(3)
    values = np.random.default_rng(0).random(7)
    assert depth_score(values) == pytest.approx(depth_score(5 * values))
    matrix = np.zeros((4, 4))
    matrix[1, 2:] = 0.5
    assert depth_score(matrix) == pytest.approx(1)
    assert np.isnan(depth_score(np.zeros(5)))


def test_answers_are_split_where_tokens_are_left():
    assert answer_splits(10, 30) == [10, 14, 18, 22]
    assert answer_splits(10, 12) == [10]


def test_difficulty_gives_a_score_a_bucket_and_a_slope(llama):
    generator = np.random.default_rng(0)
    buckets = {
        hops: [
            (generator.integers(3, 50, 4 * hops).tolist(), generator.integers(3, 50, 3).tolist())
            for _ in range(3)
        ]
        for hops in (2, 3, 4)
    }
    found = difficulty(llama, buckets, resamples=50)
    table = found.tables["difficulty"]
    assert list(table.index) == [2, 3, 4] and table["score"].between(0, DEPTH - 1).all()
    assert found.summary["slope_low"] <= found.summary["slope_high"]
    expected = np.polyfit([2, 3, 4], table["score"], 1)[0]
    assert found.summary["slope"] == pytest.approx(expected)
    with pytest.raises(DataError, match="a prompt in each"):
        difficulty(llama, {2: []})


def test_the_three_depths_read_their_curves():
    cosine = pd.DataFrame({"layer": [0.1, -0.2, 0.1, -0.1, 0.3], "stream": [1.0] * 5})
    assert cosine_depth(cosine) == pytest.approx(4 / 5)
    assert cosine_depth(cosine.abs()) is None
    curve = pd.DataFrame({"kl": [8, 7, 3, 1, 0.0], "overlap": [0, 0.1, 0.2, 0.4, 1.0]})
    assert kl_depth(curve) == pytest.approx(3 / 4)
    assert overlap_depth(curve) == pytest.approx(4 / 4)


def test_a_model_maps_to_itself_and_to_a_rotated_copy_without_error():
    model, data = language_model(depth=3), ids(30, seed=3)
    found = map_layers(model, model, data, ridge=1e-9)
    table = found.tables["map"].to_numpy()
    assert table.shape == (4, 4) and np.diag(table).max() < 1e-4
    assert found.summary["diagonal"] == pytest.approx(1)

    class Rotated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            rotation = torch.linalg.qr(torch.randn(32, 32)).Q
            self.stem = nn.Embedding.from_pretrained(model.model.embed_tokens.weight @ rotation)
            self.blocks = nn.ModuleList([nn.Sequential(nn.Identity(), nn.Linear(32, 32))])

        def forward(self, input_ids: Tensor) -> Tensor:
            return self.blocks[0](self.stem(input_ids))

    rotated = map_layers(model, Rotated(), data, ridge=1e-9).tables["map"].to_numpy()
    assert rotated[0, 0] < 1e-4
    assert rotated[3, 0] > 0.1


def test_a_map_from_unrelated_streams_is_worse(llama):
    found = map_layers(llama, language_model("gpt2", seed=5), ids(40, seed=3), what="contribution")
    table = found.tables["map"]
    assert table.shape == (DEPTH, DEPTH)
    assert table.to_numpy().min() > 0.1


def test_models_that_read_other_tokens_are_refused():
    class Words:
        def __init__(self, *words: str) -> None:
            self.words = words

        def get_vocab(self) -> dict[str, int]:
            return {word: place for place, word in enumerate(self.words)}

    check_same_tokens(Words("a", "b"), Words("a", "b"))
    with pytest.raises(DataError, match="tokenizers differ at id 1"):
        check_same_tokens(Words("a", "b"), Words("a", "c"))


def test_the_lens_needs_classes():
    run = clean(Linear(), ids()[0])
    with pytest.raises(ModelError, match="class probabilities"):
        lens(run)
