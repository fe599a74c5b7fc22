"""The composition: what holds exactly, and which donors are read."""

import copy

import pytest
import torch
from delta_families import FAMILIES, lora_of, model_of, same_bits, state
from scaled_models import base_model, composition, donors_of, rows, set_to, tuned
from torch import nn
from torch.nn import functional
from torch.testing import assert_close

from stackwise import atlas
from stackwise.adapt import LoraDelta, LowRank, WeightDelta
from stackwise.adapt.atlas import (
    Linearised,
    blocks_of,
    coefficients_of,
    disentanglement_error,
    task_arithmetic,
    task_vectors,
)
from stackwise.adapt.atlas.vectors import add_to, product
from stackwise.errors import DataError, KnobError, ModelError

BASE = base_model()
DONORS = donors_of(BASE)
X = rows()
Y = DONORS[0](X).argmax(1)
LEARN = {"donors": DONORS, "loss": functional.cross_entropy, "device": "cpu", "epochs": 3}

# ------------------------------------------------------------------------------- equation 1


def test_with_all_coefficients_zero_the_base_comes_out_bit_for_bit():
    assert same_bits(state(composition(BASE, DONORS).release()), state(BASE))


@pytest.mark.parametrize("scaling", ["block", "donor"])
def test_a_coefficient_of_one_gives_the_donor(scaling: str):
    made = composition(BASE, DONORS, scaling=scaling)
    with torch.no_grad():
        made.values[1] = 1.0
    for name, weight in made.release().named_parameters():
        assert_close(weight, DONORS[1].get_parameter(name), rtol=0, atol=1e-6)


@pytest.mark.parametrize("parts", [1, 3])
def test_equal_coefficients_are_task_arithmetic(parts: int):
    plain = task_arithmetic(BASE, DONORS, 0.4, exclude=[])
    scaled = set_to(composition(BASE, DONORS, parts=parts), 0.4).release()
    for name, weight in scaled.named_parameters():
        by_hand = BASE.get_parameter(name) + 0.4 * sum(
            donor.get_parameter(name) - BASE.get_parameter(name) for donor in DONORS
        )
        assert_close(weight, by_hand, rtol=0, atol=1e-6)
        assert_close(weight, plain.get_parameter(name), rtol=0, atol=1e-6)


def test_the_delta_of_a_composition_put_on_the_base_gives_the_composition():
    for parts in (1, 3):
        made = composition(BASE, DONORS, parts=parts)
        set_to(made, torch.randn(made.values.shape))
        delta = made.delta(BASE)
        assert isinstance(delta, WeightDelta) and delta.method == "atlas"
        with delta.on(BASE):
            found = state(BASE)
        for name, weight in made.release().named_parameters():
            assert_close(found[name], weight.detach(), rtol=0, atol=1e-6)


def test_task_vectors_added_and_taken_away_again_are_what_they_were():
    blocks = blocks_of(BASE, exclude=[])
    one, other = (vector.delta(BASE) for vector in task_vectors(BASE, DONORS[:2], blocks))
    again = one + other + -1.0 * other
    for name, part in one.parts.items():
        like = torch.empty(0)
        assert_close(again.parts[name].dense(like), part.dense(like), rtol=0, atol=1e-6)


def test_a_saved_task_vector_is_the_same_again(tmp_path):
    (vector,) = task_vectors(BASE, DONORS[:1], blocks_of(BASE, exclude=[]))
    vector.delta(BASE).save(tmp_path)
    (again,) = task_vectors(BASE, [tmp_path], blocks_of(BASE, exclude=[]))
    for name, part in vector.parts.items():
        assert torch.equal(part.values(), again.parts[name].dense(torch.empty(0)))


# ------------------------------------------------------------------------------- equation 2


@pytest.mark.parametrize("scaling", ["block", "donor"])
def test_the_gradient_is_what_autograd_makes_of_the_composition(scaling: str):
    made = composition(BASE, DONORS, scaling=scaling)
    set_to(made, 0.2 * torch.randn(made.values.shape))
    functional.cross_entropy(made.written()(X), Y).backward()
    values = made.values.detach().clone().requires_grad_()
    theta = {
        name: BASE.get_parameter(name).detach() + sum(
            values[i, 0 if scaling == "donor" else j, 0]
            * (donor.get_parameter(name) - BASE.get_parameter(name)).detach()
            for i, donor in enumerate(DONORS)
        )
        for j, name in enumerate(made.names)
    }  # fmt: skip
    output = torch.func.functional_call(copy.deepcopy(BASE), theta, (X,))
    functional.cross_entropy(output, Y).backward()
    assert_close(made.values.grad, values.grad, rtol=1e-5, atol=1e-7)


def test_gradients_of_several_losses_add_up_and_leave_none_on_the_network():
    made = set_to(composition(BASE, DONORS, parts=2), 0.1)
    network = made.written()
    functional.cross_entropy(network(X), Y).backward()
    once = made.values.grad.clone()
    functional.cross_entropy(network(X), Y).backward()
    assert_close(made.values.grad, 2 * once)
    assert all(weight.grad is None for weight in network.parameters())


def test_every_coefficient_has_a_gradient():
    made = set_to(composition(BASE, DONORS, parts=3), 0.1)
    functional.cross_entropy(made.written()(X), Y).backward()
    table = made.coefficients()
    assert len(table) == 3 * len(made.names)
    assert bool((made.values.grad != 0).all())


def test_the_parts_of_a_gradient_add_up_to_that_of_the_block():
    whole, split = composition(BASE, DONORS), composition(BASE, DONORS, parts=4)
    for made in (whole, split):
        functional.cross_entropy(made.written()(X), Y).backward()
    assert_close(split.values.grad.sum(-1), whole.values.grad[..., 0], rtol=1e-4, atol=1e-6)


# ------------------------------------------------------------------------------- parts of blocks


def test_groups_part_each_block_and_equal_shapes_differently():
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3))
    made = composition(base, donors_of(base), parts=5)
    again = composition(base, donors_of(base), parts=5)
    for name in made.names:
        groups = made._groups[name]
        assert len(groups) == base.get_parameter(name).numel()
        assert groups.bincount(minlength=5).max() - groups.bincount(minlength=5).min() <= 1
        assert torch.equal(groups, again._groups[name])
    assert not torch.equal(made._groups["0.weight"], made._groups["1.weight"])


def test_a_block_of_fewer_numbers_than_parts_has_a_group_a_number():
    made = composition(BASE, DONORS, parts=20)
    assert made._groups["second.bias"].unique().numel() == 8


# ------------------------------------------------------------------------------- linearised


def test_the_expansion_is_linear_and_exact_to_first_order():
    made = composition(BASE, DONORS[:1], linearised=True)
    zero = set_to(made, 0.0).written()(X).detach()
    assert_close(zero, BASE(X))
    one, two = (set_to(made, value).written()(X).detach() - zero for value in (1.0, 2.0))
    assert_close(two, 2 * one, rtol=1e-4, atol=1e-6)
    small = set_to(made, 1e-3)
    assert_close(small.written()(X), small.composed()(X), rtol=0, atol=1e-4)


def test_a_model_that_returns_no_tensor_has_no_expansion():
    model = model_of("bert")
    made = composition(model, [tuned(model, 1)], linearised=True)
    with pytest.raises(ModelError, match="returns a tensor"):
        made.written()(input_ids=torch.arange(6)[None])


def test_attention_has_an_expansion():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True).eval()
    vector = {"linear1.weight": torch.randn(12, 8).mul_(1e-4)}
    along = Linearised(layer, vector)(X.view(4, -1, 8)[:, :5])
    moved = copy.deepcopy(layer)
    with torch.no_grad():
        moved.linear1.weight.add_(vector["linear1.weight"])
    assert_close(along, moved(X.view(4, -1, 8)[:, :5]), rtol=0, atol=1e-5)


# ------------------------------------------------------------------------------- donors by name


def test_donors_are_matched_by_name_and_not_by_order():
    shuffled = dict(reversed(list(DONORS[0].state_dict().items())))
    one, other = composition(BASE, [DONORS[0]]), composition(BASE, [shuffled])
    assert one.names == other.names
    for made in (one, other):
        set_to(made, torch.linspace(0, 1, len(made.names))[None, :, None])
    assert same_bits(state(one.release()), state(other.release()))


def test_buffers_stay_those_of_the_base():
    donor = tuned(BASE, 5)
    donor.norm.running_mean.add_(3.0)
    made = set_to(composition(BASE, [donor.state_dict()]), 1.0).release()
    assert torch.equal(made.norm.running_mean, BASE.norm.running_mean)
    assert not torch.equal(made.norm.weight, BASE.norm.weight)


def test_donors_in_another_order_are_rows_in_another_order():
    coefficients = torch.randn(3, 8, 1)
    one = set_to(composition(BASE, DONORS), coefficients)
    other = set_to(composition(BASE, DONORS[::-1]), coefficients.flip(0))
    for name in one.names:
        assert_close(one.change(name), other.change(name), rtol=1e-5, atol=1e-6)


def test_low_rank_donors_are_their_dense_form():
    part = LowRank(torch.randn(2, 8), torch.randn(8, 2), 0.5)
    turned = LowRank(torch.randn(2, 8), torch.randn(8, 2), 0.5, transposed=True)
    for one in (part, turned):
        dense, gradient = one.dense(torch.empty(0)), torch.randn(8, 8)
        assert_close(product(one, gradient), (gradient * dense).sum())
        total = torch.ones(8, 8)
        add_to(total, one, 0.3)
        assert_close(total, 1 + 0.3 * dense)


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert", "vit", "t5"])
def test_an_adapter_of_peft_is_a_donor(family: str):
    model = model_of(family)
    delta, adapted = lora_of(model, 1)
    merged = adapted.merge_and_unload()
    made = set_to(composition(model, [delta]), 1.0)
    found = made.release()
    for name, weight in merged.named_parameters():
        assert_close(found.get_parameter(name).detach(), weight.detach(), rtol=1e-4, atol=1e-5)
    assert isinstance(delta, LoraDelta)


def test_adapters_of_other_ranks_and_layers_are_mixed(tmp_path):
    model = model_of("llama")
    lora_of(model, 1)[0].save(tmp_path / "one")
    narrow = {"target_modules": ["q_proj"], "r": 4}
    lora_of(model, 2, **narrow)[0].save(tmp_path / "other")
    made = composition(model, [tmp_path / "one", tmp_path / "other"])
    assert made.donors == ["one", "other"]
    table = made.coefficients().set_index("block")
    assert bool(table["other"].isna().any()) and not bool(table["one"].isna().any())
    assert table["other"].notna().sum() == model.config.num_hidden_layers


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_a_module_and_a_dictionary_are_one_donor(family: str, tmp_path):
    model = model_of(family)
    donor = tuned(model, 3)
    sources = [donor, donor.state_dict()]
    if hasattr(donor, "save_pretrained"):
        donor.save_pretrained(tmp_path / "donor")
        sources.append(tmp_path / "donor")
    made = [state(set_to(composition(model, [one]), 0.7).release()) for one in sources]
    assert all(same_bits(made[0], other) for other in made[1:])
    assert not same_bits(made[0], state(model))


def test_tied_weights_are_scaled_once_and_stay_tied(tmp_path):
    model = model_of("gpt2")
    tuned(model, 3).save_pretrained(tmp_path / "donor")
    made = set_to(composition(model, [tmp_path / "donor"], exclude=None), 0.5)
    assert "transformer.wte.weight" in made.names and "lm_head.weight" not in made.names
    network = made.release()
    assert network.lm_head.weight is network.transformer.wte.weight


def test_the_head_is_left_out_and_named():
    for family, head in (("bert", "classifier"), ("vit", "classifier"), ("plain", "4")):
        blocks = blocks_of(model_of(family))
        assert set(blocks.left_out) == {f"{head}.weight", f"{head}.bias"}, family
    assert blocks_of(BASE).left_out == ("head.weight", "head.bias")
    assert not blocks_of(BASE, exclude=[]).left_out


def test_a_donor_with_a_head_of_its_own_is_taken_without_it():
    model, donor = model_of("bert"), tuned(model_of("bert"), 1)
    donor.classifier = nn.Linear(8, 7)
    made = atlas(model, donors=[donor], alpha=1.0)
    assert torch.equal(made.classifier.weight, model.classifier.weight)
    told = coefficients_of(made).summary
    assert "classifier.weight" in told["left as in the base"]


def test_a_delta_for_another_base_is_refused():
    model, other = model_of("llama"), model_of("llama", seed=4)
    delta = lora_of(model, 1)[0]
    with pytest.raises(ModelError, match="was made for a base"):
        composition(other, [delta])


# ------------------------------------------------------------------------------- what is refused


def refused(match: str, kind: type[Exception] = ModelError, **knobs: object) -> None:
    with pytest.raises(kind, match=match):
        atlas(BASE, (X, Y), **LEARN | knobs)


def test_donors_that_do_not_fit_are_refused_in_a_sentence():
    other = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3))
    refused("lacks first.weight, first.bias, norm.weight", donors=[other])
    wide = copy.deepcopy(BASE)
    wide.second = nn.Linear(9, 8)
    refused(r"second.weight \(8, 9\) instead of \(8, 8\)", donors=[wide])
    more = copy.deepcopy(BASE)
    more.first.register_parameter("gain", nn.Parameter(torch.ones(8)))
    refused("has first.gain, which the base has not", donors=[more])
    broken = copy.deepcopy(BASE)
    with torch.no_grad():
        broken.first.bias[0] = torch.nan
    refused("numbers in first.bias that are not finite", donors=[broken])
    refused("there are no donors", donors=[])
    refused("no folder here", donors=["no/such/run"])


@pytest.mark.parametrize(
    "knobs, match, kind",
    [
        ({"budget": 4}, "budget is 4, and there are 3 donors", KnobError),
        ({"parts": 2, "scaling": "donor"}, "no coefficient a block", KnobError),
        ({"objective": "negate"}, "negation without a control", DataError),
        ({"alpha": 0.5, "parts": 3}, "parts does nothing", KnobError),
        ({"select": "random"}, "give budget too", KnobError),
        ({"budget": 1, "select": "features"}, "give donor_data", KnobError),
        ({"sharpen": 2.0}, "sharpen is of objective ufm", KnobError),
        ({"control_kept": 0.5}, "control_kept is of objective negate", KnobError),
        ({"objective": "ufm", "control": [(X, Y)]}, "no use for control", KnobError),
        ({"head_lr": 0.1}, "nothing without head_epochs", KnobError),
        ({"head_epochs": 2, "objective": "ufm"}, "labels of one data set", KnobError),
        ({"objective": "negate", "control": []}, "negation without a control", DataError),
        ({"control": ["other.csv"]}, "give a loaded task", DataError),
        ({"exclude": ["("]}, "regular expressions", KnobError),
        ({"exclude": ["."]}, "no block of this Small is left", ModelError),
        ({"lr": -1.0}, "lr must be above 0", KnobError),
        ({"donors": "runs/a"}, "donors must be", KnobError),
    ],
)
def test_knobs_that_do_not_go_together_are_refused(knobs, match, kind):
    refused(match, kind, **knobs)


def test_quantised_weights_are_refused():
    base = copy.deepcopy(BASE)
    base.second.weight = nn.Parameter(torch.ones(8, 8, dtype=torch.int8), requires_grad=False)
    with pytest.raises(ModelError, match=r"second.weight holds torch.int8 \(quantised"):
        blocks_of(base)


def test_without_data_there_is_arithmetic_alone():
    with pytest.raises(DataError, match="give data, or alpha"):
        atlas(BASE, donors=DONORS)
    made = atlas(BASE, donors={"one": DONORS[0], "two": DONORS[1]}, alpha=-0.4)
    table = coefficients_of(made).tables["coefficients"]
    assert list(table.columns) == ["block", "one", "two"]
    assert_close(table["one"].to_numpy(), table["two"].to_numpy())
    with pytest.raises(ModelError, match="knows of no coefficients"):
        coefficients_of(BASE)


def test_one_vector_that_changes_no_answer_disturbs_nothing():
    assert disentanglement_error(BASE, BASE, X) == 0.0
    other = tuned(BASE, 9, 3.0)
    share = float((BASE(X).argmax(1) != other(X).argmax(1)).double().mean())
    assert disentanglement_error(BASE, other, X) == pytest.approx(share)
