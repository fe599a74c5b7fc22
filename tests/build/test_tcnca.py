"""TCNCA's blocks: causal or not, chunks, the gate, streams, padding and cost."""

import resource

import pytest
import torch
from torch import nn

from stackwise.build.tcnca import (
    GatedMixing,
    Sizes,
    TCNCALanguageModel,
    TCNCASeries,
    TCNCATexts,
    Trunk,
)
from stackwise.build.tcnca.trunk import cautions, reach
from stackwise.errors import DataError, ModelError
from stackwise.stack import Stack

torch.manual_seed(0)
SMALL = {
    "dim": 6, "v_dim": 10, "z_dim": 4, "ffn_dim": 8, "chunk": 5, "kernel_size": 3,
    "dilation_factor": 3, "depth": 2,
}  # fmt: skip
FORMS = [
    {},
    {"form": "simple"},
    {"operator": "ema", "averages": 3},
    {"norm_first": False, "norm": "scale"},
    {"activation": "laplace", "bias": "simple"},
    {"form": "simple", "norm_first": False, "convs_per_block": 2},
    {"attention": False},
]


def trunk(blocks=2, **given):
    torch.manual_seed(1)
    made = Trunk(Sizes(**SMALL | given), blocks).eval()
    with torch.no_grad():  # so that every part moves the stream
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made


@pytest.mark.parametrize("given", FORMS, ids=str)
def test_what_comes_later_changes_nothing_before(given):
    made = trunk(**given)
    for length in (3, 5, 12, 21):
        x = torch.randn(1, length, 6)
        for place in {0, length // 2, length - 1}:
            moved = x.clone()
            moved[:, place, 0] += 1
            before, after = made(x)[0], made(moved)[0]
            if given.get("operator") == "ema":  # an FFT spreads its rounding over all moments
                assert torch.allclose(before[:place], after[:place], atol=1e-5)
            else:
                assert torch.equal(before[:place], after[:place])
            assert not torch.equal(before[place:], after[place:])


@pytest.mark.parametrize("direction", ["symmetric", "two-way"])
def test_where_both_sides_are_seen_it_does(direction):
    made, x = trunk(direction=direction), torch.randn(1, 12, 6)
    moved = x.clone()
    moved[:, 9, 0] += 1
    assert not torch.equal(made(x)[0, :9], made(moved)[0, :9])


@pytest.mark.parametrize("form", ["gated", "simple"])
def test_without_an_operator_chunks_are_alone(form):
    made, x = trunk(operator=None, form=form), torch.randn(1, 15, 6)
    moved = x.clone()
    moved[:, 2, 0] += 1
    assert torch.equal(made(x)[0, 5:], made(moved)[0, 5:])
    with_it = trunk(form=form)
    assert not torch.equal(with_it(x)[0, 5:], with_it(moved)[0, 5:])


@pytest.mark.parametrize("given", FORMS, ids=str)
def test_token_by_token_is_the_whole_at_once(given):
    made, x = trunk(**given), torch.randn(2, 23, 6)  # more than four chunks
    wanted, state, found = made(x), made.start(2), []
    for part in x.split([1, 1, 1, 4, 9, 1, 6], 1):
        answer, state = made.step(part, state)
        found.append(answer)
    assert torch.allclose(torch.cat(found, 1), wanted, atol=1e-5)


def test_the_state_does_not_grow():
    made = trunk(blocks=1)
    _, early = made.step(torch.randn(1, 7, 6), made.start())
    _, late = made.step(torch.randn(1, 500, 6), early)

    def size(state):
        own = state["blocks"][0]
        return sum(one.numel() for one in own["temporal"]), own["keys"].shape, own["values"].shape

    assert size(early) == size(late)
    assert size(late)[0] == 6 * (made.blocks[0].mixing.temporal.operator.receptive_field - 1)


def mixing(**given):
    made = GatedMixing(Sizes(**SMALL | given)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made


@pytest.mark.parametrize("norm_first", [True, False])
def test_a_closed_gate_leaves_the_raw_stream_and_an_open_one_takes_h(norm_first):
    made, x = mixing(norm_first=norm_first), torch.randn(2, 11, 6)
    made.main.weight.data[:6] = 0
    made.main.bias.data[:6] = -1e9
    assert torch.equal(made(x), x if norm_first else made.norm(x))
    made.main.bias.data[:6] = 1e9
    read = made.norm(x) if norm_first else x
    _, q, k, r, hx = made._parts(made.temporal(read))
    h = nn.functional.silu(hx + made.output(made.attend(q, k, made._values(read)) * r))
    assert torch.allclose(made(x), h if norm_first else made.norm(h), atol=1e-5)


class Zero(nn.Module):
    def forward(self, x, mask=None):
        return torch.zeros_like(x)


def test_values_come_from_the_normed_input_and_not_from_the_operator():
    made = mixing()
    made.temporal = Zero()
    x, y = torch.randn(1, 5, 6), torch.randn(1, 5, 6)
    (_, q, k, *_), (_, q2, k2, *_) = made._parts(torch.zeros_like(x)), made._parts(0 * y)
    assert torch.equal(q, q2) and torch.equal(k, k2)  # attention is the same for every input
    moved = x.clone()
    moved[:, 0, 0] += 1
    assert not torch.equal(made(x)[:, 4], made(moved)[:, 4])


@pytest.mark.parametrize("direction", ["causal", "symmetric", "two-way"])
@pytest.mark.parametrize("given", [{}, {"form": "simple"}, {"activation": "laplace"}], ids=str)
def test_a_padded_batch_answers_as_each_alone(direction, given):
    made = trunk(direction=direction, **given)
    x = torch.randn(2, 22, 6)
    mask = torch.arange(22)[None] < torch.tensor([22, 13])[:, None]
    found = made(x, mask)
    assert torch.allclose(found[1, :13], made(x[1:, :13])[0], atol=1e-5)
    assert torch.allclose(found[0], made(x[:1])[0], atol=1e-5)


def test_the_cost_doubles_with_the_length():
    for given in FORMS:
        made = trunk(**given)
        assert made.multiply_adds(40) == 2 * made.multiply_adds(20)
    model = TCNCALanguageModel(vocabulary=9, sizes=SMALL)
    assert model.multiply_adds(40) == 2 * model.multiply_adds(20)


def test_the_reach_is_said_and_chunks_that_do_not_meet_are_warned_of():
    sizes = Sizes(**SMALL)
    assert reach(sizes, 2) == 1 + 2 * (3 - 1) * (1 + 3) and cautions(sizes) == []
    long = Sizes(**SMALL | {"chunk": 128})
    assert "receptive field 9 does not reach past the chunk of 128" in cautions(long)[0]
    assert "larger than kernel_size 3" in cautions(Sizes(**SMALL | {"dilation_factor": 4}))[0]
    made = trunk(operator=None, attention=False)
    assert made(torch.randn(1, 4, 6)).shape == (1, 4, 6)
    assert reach(Sizes(**SMALL | {"operator": "ema"}), 2) is None


def test_what_makes_no_network_is_refused_in_a_sentence():
    with pytest.raises(ModelError, match="norm='batch' takes its statistics over all moments"):
        Sizes(**SMALL | {"norm": "batch"})
    with pytest.raises(ModelError, match="v_dim must be at least 1, got 0"):
        Sizes(**SMALL | {"v_dim": 0})
    with pytest.raises(ModelError, match="cannot go on from moment to moment"):
        trunk(direction="symmetric").start()
    model = TCNCALanguageModel(vocabulary=9, sizes=SMALL)
    with pytest.raises(DataError, match="token 9 is none of the vocabulary's 9"):
        model(torch.tensor([[1, 9]]))
    with pytest.raises(DataError, match="length 0"):
        model(torch.zeros(1, 0, dtype=torch.int64))
    with pytest.raises(ModelError, match="a language model is causal, not two-way"):
        TCNCALanguageModel(vocabulary=9, sizes=SMALL | {"direction": "two-way"})


def test_a_language_model_generates_what_the_whole_text_would_say():
    model = TCNCALanguageModel(vocabulary=11, sizes=SMALL).eval()
    ids = torch.randint(0, 11, (1, 8))
    made = model.generate(ids, max_new_tokens=12)
    assert made.shape == (1, 20) and torch.equal(made[:, :8], ids)
    for place in range(8, 20):
        assert model(made[:, :place]).logits[0, -1].argmax() == made[0, place]
    first, state = model.step(ids, model.start())
    assert torch.allclose(first, model(ids).logits, atol=1e-5)
    torch.manual_seed(0)
    drawn = model.generate(ids, max_new_tokens=30, do_sample=True, temperature=2.0)
    assert len(set(drawn[0].tolist())) > 3
    assert model.generate(ids, max_new_tokens=9, eos_token_id=int(made[0, 8])).shape == (1, 9)


def test_series_are_followed_as_they_come():
    sizes = SMALL | {"direction": "causal"}
    network = TCNCASeries(channels=2, n_outputs=3, sizes=sizes, pooling="last").eval()
    values = torch.randn(1, 2, 17)
    answers, _ = network.step(values, network.start())
    for length in (1, 5, 6, 17):
        alone = network(values[..., :length])
        assert torch.allclose(answers[:, length - 1], alone, atol=1e-5)
        padded = network(values, torch.tensor([length]))
        assert torch.allclose(padded, alone, atol=1e-5)
    with pytest.raises(ModelError, match="pooling='last'"):
        TCNCASeries(channels=2, n_outputs=3, sizes=sizes).start()


def test_texts_and_batch_norm_run_and_the_blocks_are_found():
    sizes = SMALL | {"direction": "two-way", "norm": "batch"}
    network = TCNCATexts(vocabulary=9, n_outputs=2, sizes=sizes).eval()
    ids = torch.randint(0, 9, (3, 12))
    assert network(ids, torch.ones_like(ids)).shape == (3, 2)
    assert len(Stack.of(network)) == 2


@pytest.mark.slow
def test_131k_moments_go_through_in_bounded_memory():
    sizes = Sizes(
        dim=8, v_dim=8, z_dim=8, ffn_dim=8, chunk=128, kernel_size=9, dilation_factor=8, depth=4
    )
    made, x = Trunk(sizes, 1).eval(), torch.randn(1, 131_072, 8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with torch.no_grad():
        whole = made(x)
        found, _ = made.step(x[:, :2048], made.start())
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 1024 * 1024  # 1 GiB, where full attention takes 64 for its weights alone
    assert whole.shape == x.shape
    assert torch.allclose(found, whole[:, :2048], atol=1e-4)
