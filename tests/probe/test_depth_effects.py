"""Contributions, skip effects, direct effects: the exact properties that they have."""

import pytest
import torch
from torch import Tensor, nn

from stackwise.errors import DataError, ModelError
from stackwise.layers.evaluating import evaluating
from stackwise.probe.depth_efficiency import clean_run
from stackwise.probe.depth_efficiency.clean_run import CleanRun
from stackwise.probe.depth_efficiency.measurements.contribution import Contributions
from stackwise.probe.depth_efficiency.measurements.local import local
from stackwise.probe.depth_efficiency.measurements.skip import skip, splits_of
from stackwise.stack import Stack

from .conftest import (
    DEPTH,
    TOKENS,
    ResidualBlock,
    encoder,
    ids,
    language_model,
    residual_network,
    spread,
    vision_transformer,
)

FAMILIES = ["llama", "gpt2", "gpt-neox", "gemma2"]


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


def clean(model: nn.Module, example: Tensor | None = None) -> CleanRun:
    return CleanRun(Stack.of(model), {"input_ids": ids()[0] if example is None else example})


def probabilities(model: nn.Module, example: Tensor) -> Tensor:
    return model(input_ids=example, use_cache=False).logits.softmax(-1)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_stem_plus_all_contributions_is_the_last_stream(family):
    run = clean(language_model(family))
    total = run.hidden[0] + sum(run.contribution(index) for index in range(DEPTH))
    torch.testing.assert_close(total, run.hidden[-1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_plus_mlp_is_the_contribution(family):
    run = clean(language_model(family))
    for index in range(DEPTH):
        total = run.sublayers.attention[index] + run.sublayers.mlp[index]
        torch.testing.assert_close(total, run.contribution(index), rtol=1e-5, atol=2e-5)
    assert run.sublayers.parallel == [family == "gpt-neox"] * DEPTH


@pytest.mark.parametrize("family", FAMILIES)
def test_calling_a_block_again_on_the_clean_stream_changes_nothing(family):
    run = clean(language_model(family))
    for index in range(DEPTH):
        torch.testing.assert_close(run.block(index, run.hidden[index]), run.hidden[index + 1])
    torch.testing.assert_close(run.head(run.hidden[-1]), run.output)
    torch.testing.assert_close(run.head(run.hidden[-1], last=5), run.output[:, -5:])


@pytest.mark.parametrize("family", FAMILIES)
def test_skipping_equals_a_path_without_the_block_and_a_model_rebuilt_without_it(family):
    model, example = language_model(family), ids()[0]
    stack, run = Stack.of(model), clean(model, example)
    effects = skip(run, protect=0)
    for skipped in range(DEPTH):
        order = [index for index in range(DEPTH) if index != skipped]
        with stack.path(order), stack.capture() as stream:
            output = probabilities(model, example)
        change = (output - run.output).norm(dim=-1).flatten()
        torch.testing.assert_close(effects.output[0, skipped], change, rtol=1e-4, atol=1e-5)
        for place, index in enumerate(order):
            if index > skipped:
                gone = stream.contributions[place] - run.contribution(index)
                expected = gone.norm(dim=-1) / run.contribution(index).norm(dim=-1)
                found = effects.relative[0, skipped, index]
                torch.testing.assert_close(found, expected.flatten(), rtol=1e-4, atol=1e-5)
        if family == "llama":
            rebuilt = stack.rebuild(order)
            change = (probabilities(rebuilt, example) - run.output).norm(dim=-1).flatten()
            torch.testing.assert_close(effects.output[0, skipped], change, rtol=1e-4, atol=1e-5)


def test_a_skipped_block_loses_its_whole_contribution_and_no_earlier_block_changes(llama):
    effects = skip(clean(llama)).relative[0]
    for index in range(DEPTH):
        torch.testing.assert_close(effects[index, index, 1:], torch.ones(TOKENS - 1))
        assert (effects[index, :index, 1:] == 0).all()
        assert effects[index, :, 0].isnan().all()  # the protected first token


def test_the_protected_token_is_not_skipped():
    model, example = language_model(), ids()[0]
    run = clean(model, example)
    with Stack.of(model).intervene(1, lambda h: torch.cat([h[:, :1], run.hidden[1][:, 1:]], 1)):
        change = (probabilities(model, example) - run.output).norm(dim=-1)[0]
    found = skip(run).output[0, 1]
    torch.testing.assert_close(found[1:], change[1:], rtol=1e-4, atol=1e-5)
    assert change[0] < 1e-6


def test_skipping_a_block_that_writes_nothing_has_no_effect(llama):
    block = llama.model.layers[1]
    block.self_attn.o_proj.weight.zero_()
    block.mlp.down_proj.weight.zero_()
    run = clean(llama)
    effects = skip(run)
    assert effects.relative[0, 1, 2:, 1:].max() < 1e-5
    assert effects.output[0, 1, 1:].max() < 1e-6
    contributions = Contributions()
    contributions.add(run)
    assert contributions.tables()["contribution"]["layer"][1] == 0


@pytest.mark.parametrize("part", ["attention", "mlp"])
@pytest.mark.parametrize("family", FAMILIES)
def test_silencing_a_sublayer_equals_zeroing_its_output_weights(part, family):
    model, example = language_model(family), ids()[0]
    effects = skip(clean(model, example), protect=0, part=part)
    before = probabilities(model, example)
    block = Stack.of(model).blocks[2]
    last = {
        "llama": {"attention": "self_attn.o_proj", "mlp": "mlp.down_proj"},
        "gpt2": {"attention": "attn.c_proj", "mlp": "mlp.c_proj"},
        "gpt-neox": {"attention": "attention.dense", "mlp": "mlp.dense_4h_to_h"},
        "gemma2": {"attention": "self_attn.o_proj", "mlp": "mlp.down_proj"},
    }[family][part]
    for parameter in block.get_submodule(last).parameters():
        parameter.zero_()
    change = (probabilities(model, example) - before).norm(dim=-1).flatten()
    torch.testing.assert_close(effects.output[0, 2], change, rtol=1e-4, atol=1e-5)


def test_the_future_form_measures_only_from_the_split_on_and_the_skipped_block_is_untouched(llama):
    effects = skip(clean(llama), [8, 16])
    for place, split in enumerate([8, 16]):
        assert effects.relative[place, ..., :split].isnan().all()
        assert effects.output[place, :, :split].isnan().all()
        later = effects.relative[place, ..., split:]
        assert not later.isnan().any()
        assert later.diagonal(dim1=0, dim2=1).abs().max() == 0
        assert later[0, 1:].max() > 0.01


def test_the_future_form_equals_a_full_pass_that_skips_before_the_split(llama):
    example = ids()[0]
    run = clean(llama, example)

    def skipped_before_8(h: Tensor) -> Tensor:
        return torch.cat([h[:, :1], run.hidden[2][:, 1:8], h[:, 8:]], 1)

    with Stack.of(llama).intervene(2, skipped_before_8):
        change = (probabilities(llama, example) - run.output).norm(dim=-1)[0]
    found = skip(run, [8]).output[0, 2]
    torch.testing.assert_close(found[8:], change[8:], rtol=1e-4, atol=1e-6)


class TokenByToken(nn.Module):
    """A language model without attention: no token sees another."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Embedding(50, 8), nn.Linear(8, 50)
        self.blocks = nn.ModuleList(ResidualBlock(8) for _ in range(3))

    def forward(self, input_ids: Tensor) -> Tensor:
        stream = self.stem(input_ids)
        for block in self.blocks:
            stream = block(stream)
        return self.head(stream)


def test_without_attention_nothing_reaches_later_tokens():
    torch.manual_seed(0)
    run = clean(spread(TokenByToken(), 2))
    effects = skip(run, [8])
    assert effects.relative[0, ..., 8:].max() == 0
    assert effects.output[0, :, 8:].max() < 1e-6
    assert local(run, [8])[0, ..., 8:].max() == 0
    assert skip(run).relative[0, 0, 1, 1:].max() > 0.01


@pytest.mark.parametrize("part", ["layer", "mlp"])
def test_the_direct_effect_on_the_next_block_is_the_skip_effect(llama, part):
    run = clean(llama)
    for splits in ([None], [8, 16]):
        direct, flowing = local(run, splits, part=part), skip(run, splits, part=part).relative
        for index in range(DEPTH - 1):
            torch.testing.assert_close(
                direct[:, index, index + 1], flowing[:, index, index + 1],
                equal_nan=True, rtol=1e-4, atol=1e-5,
            )  # fmt: skip
    assert direct.nan_to_num(0).movedim(-1, 0).tril().abs().max() == 0


def test_a_block_that_ignores_its_input_is_not_affected():
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.value = nn.Parameter(torch.ones(8))

        def forward(self, stream: Tensor) -> Tensor:
            return stream + self.value

    torch.manual_seed(0)
    model = TokenByToken()
    model.blocks = nn.ModuleList([ResidualBlock(8), Constant(), ResidualBlock(8)])
    run = CleanRun(Stack.of(model, blocks="blocks"), {"input_ids": ids()[0]})
    direct = local(run)[0, ..., 1:]
    assert direct[0, 1].max() < 1e-5
    assert direct[0, 2].max() > 0.01


def test_many_edits_at_once_give_what_one_at_a_time_gives(llama, monkeypatch):
    run = clean(llama)
    together = skip(run, [8, 16])
    monkeypatch.setattr(clean_run, "TOKENS_AT_ONCE", 1)
    monkeypatch.setattr(clean_run, "VALUES_AT_ONCE", 1)
    alone = skip(run, [8, 16])
    for one, other in [(together.relative, alone.relative), (together.output, alone.output)]:
        torch.testing.assert_close(one, other, equal_nan=True, rtol=1e-4, atol=1e-5)


def test_a_batch_of_pictures_gives_what_each_picture_gives():
    model = vision_transformer()
    pixels = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    stack = Stack.of(model)
    batch = skip(CleanRun(stack, {"pixel_values": pixels}))
    single = [skip(CleanRun(stack, {"pixel_values": one[None]})) for one in pixels]
    output = torch.cat([one.output for one in single], -1)
    torch.testing.assert_close(batch.output, output, rtol=1e-4, atol=1e-5)
    relative = torch.cat([one.relative for one in single], -1)
    torch.testing.assert_close(batch.relative, relative, rtol=1e-4, atol=1e-5)
    assert batch.relative.shape == (1, DEPTH, DEPTH, 3 * 17)  # no token is protected


def test_a_network_on_rows_is_measured_row_by_row():
    model, rows = residual_network(), torch.randn(6, 5)
    run = CleanRun(Stack.of(model), (rows,))
    effects = skip(run)
    without = nn.Sequential(*[layer for place, layer in enumerate(model) if place != 2])
    change = (without(rows).softmax(-1) - model(rows).softmax(-1)).norm(dim=-1)
    torch.testing.assert_close(effects.output[0, 1], change)


def test_a_bidirectional_model_has_no_future():
    with pytest.raises(ModelError, match=r"need a causal model: changing token 23 changed token"):
        skip(clean(encoder()), [8])


def test_a_post_norm_block_has_no_sublayers_but_a_contribution():
    run = clean(encoder())
    with pytest.raises(ModelError, match="apart"):
        skip(run, part="attention")
    contributions = Contributions()
    contributions.add(run)
    assert list(contributions.tables()["cosine"]) == ["layer", "stream"]


def test_blocks_that_change_the_width_are_refused():
    model = nn.Sequential(*[nn.Sequential(nn.Linear(5, 5)) for _ in range(2)])
    model.append(nn.Sequential(nn.Linear(5, 7)))
    stack = Stack.of(nn.ModuleDict({"blocks": model}), blocks="blocks")
    stack.model.forward = lambda x: model(x)
    with pytest.raises(ModelError, match=r"layers 2 and 3 have different widths \(5, 7\)"):
        CleanRun(stack, (torch.randn(2, 5),))


def test_splits_leave_a_past_and_a_future():
    splits = splits_of(40, 3, torch.Generator().manual_seed(0))
    assert len(splits) == 3 and set(splits) <= {8, 16, 24, 32}
    assert splits_of(13, 4, torch.Generator()) == [8]
    with pytest.raises(DataError, match="the prompt has 6 tokens; splits need at least 13"):
        splits_of(6, 4, torch.Generator())


def test_contributions_are_means_of_ratios_without_the_first_token(llama):
    run = clean(llama)
    contributions = Contributions()
    contributions.add(run)
    tables = contributions.tables()
    ratio = (run.contribution(2).norm(dim=-1) / run.hidden[2].norm(dim=-1))[0, 1:]
    assert tables["contribution"]["layer"][2] == pytest.approx(float(ratio.mean()), rel=1e-5)
    assert tables["contribution"]["layer_max"][2] == pytest.approx(float(ratio.max()), rel=1e-5)
    middle = run.hidden[2] + run.sublayers.attention[2]
    cosine = torch.cosine_similarity(run.sublayers.mlp[2], middle, dim=-1)[0, 1:].mean()
    assert tables["cosine"]["mlp"][2] == pytest.approx(float(cosine), abs=1e-5)
    assert len(tables["norms"]) == DEPTH + 1


def test_evaluation_mode_is_put_back(llama):
    llama.train()
    llama.model.layers[0].eval()
    with evaluating(llama):
        assert not llama.training
    assert llama.training and not llama.model.layers[0].training
