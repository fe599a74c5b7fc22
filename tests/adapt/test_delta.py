"""The contract of deltas, of every kind on several families of models."""

import copy
import itertools
import json
import re

import pytest
import torch
from delta_families import (
    FAMILIES,
    KINDS,
    METHODS,
    WEIGHTS,
    Gain,
    delta_of,
    layers,
    lora_of,
    model_of,
    output,
    same_bits,
    state,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from stackwise.adapt import (
    Delta,
    Dense,
    LoraDelta,
    LowRank,
    Sparse,
    WeightDelta,
    all_off,
    base_hash,
    deltas_on,
    settle_all,
)
from stackwise.adapt.composable_sft.delta import SparseFineTuning
from stackwise.adapt.composable_sft.places import prefix_of
from stackwise.errors import KnobError, ModelError, RunError

every = pytest.mark.parametrize("family", FAMILIES)
each_kind = pytest.mark.parametrize("kind", KINDS)
of_weights = pytest.mark.parametrize("kind", WEIGHTS)


@every
@each_kind
def test_what_is_taken_off_leaves_the_base_bit_for_bit(family, kind):
    model = model_of(family)
    before, said, known = state(model), output(model, family), base_hash(model)
    delta = delta_of(kind, model)
    assert delta.put(model) is model
    assert not torch.equal(output(model, family), said)
    assert deltas_on(model) == (delta,) and base_hash(model) == known
    delta.take_off(model)
    assert same_bits(state(model), before) and deltas_on(model) == ()
    assert torch.equal(output(model, family), said)
    assert vars(model).keys() == vars(model_of(family)).keys()


@every
@each_kind
def test_a_file_gives_back_the_same_delta(family, kind, tmp_path):
    model = model_of(family)
    delta = delta_of(kind, model)
    delta.save(tmp_path / "kept")
    again = Delta.load(tmp_path / "kept")
    assert type(again) is type(delta) and again == delta
    assert (again.method, again.knobs, again.base) == (delta.method, delta.knobs, delta.base)
    with delta.on(model):
        said = output(model, family)
    with again.on(model):
        assert torch.equal(output(model, family), said)
    names = {path.name for path in (tmp_path / "kept").iterdir()}
    assert all(name.endswith((".json", ".safetensors")) for name in names)


@every
@each_kind
def test_an_error_within_leaves_the_base(family, kind):
    model = model_of(family)
    before = state(model)
    with pytest.raises(ZeroDivisionError), delta_of(kind, model).on(model):
        1 / 0  # noqa: B018
    assert same_bits(state(model), before) and deltas_on(model) == ()


@every
@pytest.mark.parametrize("kinds", itertools.combinations(KINDS, 2), ids="-".join)
def test_two_come_and_go_in_any_order_or_are_refused_with_the_reason(family, kinds):
    model = model_of(family)
    before = state(model)
    one, two = (delta_of(kind, model, seed) for seed, kind in enumerate(kinds, start=1))
    with one.on(model):
        alone = state(model), output(model, family)
    if refused(model, two, one) or refused(model, one, two):
        assert same_bits(state(model), before) and deltas_on(model) == ()
        return
    with two.on(model), one.on(model):
        other = state(model), output(model, family)
    one.put(model)
    two.put(model)
    assert same_bits(state(model), other[0])
    torch.testing.assert_close(output(model, family), other[1])
    two.take_off(model)
    assert same_bits(state(model), alone[0])
    assert torch.equal(output(model, family), alone[1])
    two.put(model)
    one.take_off(model)  # the first first
    two.take_off(model)
    assert same_bits(state(model), before)


def refused(model, first, second):
    """Whether the second may not be put on beside the first; then in one sentence, and for good."""
    with first.on(model):
        alone = state(model)
        try:
            with second.on(model):
                return False
        except ModelError as error:
            assert "\n" not in str(error) and len(str(error)) > 20
            assert same_bits(state(model), alone) and deltas_on(model) == (first,)
            return True


@every
@of_weights
def test_what_is_merged_has_the_bits_of_what_is_put(family, kind):
    model, other = model_of(family), model_of(family)
    delta = delta_of(kind, model)
    delta.put(model)
    delta.merge(other)
    assert same_bits(state(other), state(model)) and deltas_on(other) == ()
    assert base_hash(other) != base_hash(model)
    with pytest.raises(ModelError, match="is not on this"):
        delta.take_off(other)
    delta.merge(model)  # where it is on, it stays
    assert same_bits(state(other), state(model)) and deltas_on(model) == ()


@every
@each_kind
def test_what_is_merged_says_what_it_says_while_it_is_on_or_cannot_be(family, kind):
    model = model_of(family)
    before, known = state(model), base_hash(model)
    delta = delta_of(kind, model)
    if delta.not_mergeable() is not None:
        with pytest.raises(ModelError, match="cannot be merged: ") as caught:
            delta.merge(model)
        assert "\n" not in str(caught.value)
        assert same_bits(state(model), before) and deltas_on(model) == ()
        return
    with delta.on(model):
        said = output(model, family)
    with delta.merged(model):
        torch.testing.assert_close(output(model, family), said, atol=1e-5, rtol=1e-4)
    assert same_bits(state(model), before)
    delta.merge(model)
    torch.testing.assert_close(output(model, family), said, atol=1e-5, rtol=1e-4)
    assert deltas_on(model) == () and base_hash(model) != known


@every
@each_kind
def test_another_base_is_refused_in_one_sentence(family, kind):
    model, other = model_of(family), model_of(family, seed=5)
    before, said = state(other), output(other, family)
    delta = delta_of(kind, model)
    with pytest.raises(ModelError, match=f"a base with the hash {delta.base}, and this .* has "):
        delta.put(other)
    assert same_bits(state(other), before) and deltas_on(other) == ()
    delta.put(other, check=False)  # whoever knows better
    assert not torch.equal(output(other, family), said)


def is_known_by(delta, model, name):
    """Whether a delta knows its base by this number: a fine-tuning does not look at heads."""
    inside = name.startswith(prefix_of(model)) and "pooler" not in name
    return inside or not isinstance(delta, SparseFineTuning)


@every
@each_kind
def test_a_base_of_which_one_bit_changed_is_another(family, kind):
    model = model_of(family)
    delta = delta_of(kind, model)
    names = [name for name in model.state_dict() if is_known_by(delta, model, name)]
    for name in (names[0], names[-1]):
        other = model_of(family)
        number = other.state_dict()[name].view(-1)[-1:]
        with torch.no_grad():
            whole = torch.int64 if number.dtype == torch.int64 else torch.int32
            number.view(whole).bitwise_xor_(1)
        with pytest.raises(ModelError, match="was made for a base with the hash"):
            delta.put(other)
        assert deltas_on(other) == ()


@every
@pytest.mark.parametrize("method", METHODS)
def test_sums_and_multiples_of_what_a_method_makes_mean_something_or_are_refused(family, method):
    model = model_of(family)
    one, two = (delta_of(method, model, seed) for seed in (1, 2))
    for make in (lambda: one + two, lambda: 0.5 * one):
        try:
            made = make()
        except ModelError as error:
            assert re.search("means nothing|choose one", str(error)) and "\n" not in str(error)
            continue
        assert type(made) is type(one) and made.base == one.base
        with made.on(model):
            assert output(model, family).isfinite().all()


@every
@of_weights
def test_multiples_and_sums_are_those_of_the_weights(family, kind):
    model = model_of(family)
    one, two = (delta_of(kind, model, seed) for seed in (1, 2))
    with one.on(model), two.on(model):
        both = state(model)
    with (one + two).on(model):
        for name, value in state(model).items():
            torch.testing.assert_close(value, both[name], atol=1e-6, rtol=1e-5)
    base = state(model)
    with one.on(model):
        whole = state(model)
    with (0.5 * one).on(model):
        for name, value in state(model).items():
            wanted = base[name] + 0.5 * (whole[name] - base[name])
            torch.testing.assert_close(value, wanted.to(value), atol=1e-6, rtol=1e-5)
    assert type(one + two) is type(one) and (one + two).base == one.base
    back = one + -1 * one
    with back.on(model):
        for name, value in state(model).items():
            torch.testing.assert_close(value, base[name], atol=1e-6, rtol=1e-5)


def agree(one, other):
    """Equal to 1e-6. In double precision, since some families blow up float32's own rounding."""
    torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)


@every
def test_the_opened_adapter_of_peft_says_what_peft_says(family, tmp_path):
    model = model_of(family)
    own = layers(model)
    for number, more in enumerate([
        {}, {"use_rslora": True},
        {"rank_pattern": {own[0]: 3}, "alpha_pattern": {own[1]: 7, own[0]: 1}},
    ]):  # fmt: skip
        _, adapted = lora_of(model, 3, **more)
        adapted.save_pretrained(tmp_path / str(number))
        delta = Delta.load(tmp_path / str(number))
        assert isinstance(delta, LoraDelta) and delta.base is None
        with delta.on(copy.deepcopy(model).double()) as ours:
            agree(output(ours, family), output(adapted.double(), family))


@every
def test_peft_opens_what_is_kept_here(family, tmp_path):
    import peft

    model = model_of(family)
    delta, adapted = lora_of(model, 3, rank_pattern={layers(model)[0]: 4})
    other, _ = lora_of(model, 4, lora_alpha=5)
    for number, kept in enumerate([delta, 0.5 * delta, delta + other]):
        kept.save(tmp_path / str(number))
        opened = peft.PeftModel.from_pretrained(copy.deepcopy(model), tmp_path / str(number))
        with kept.on(copy.deepcopy(model).double(), check=False) as ours:
            agree(output(ours, family), output(opened.eval().double(), family))
    again = peft.PeftModel.from_pretrained(copy.deepcopy(model), tmp_path / "0").eval()
    assert torch.equal(output(again, family), output(adapted, family))


def test_an_adapter_of_an_embedding_goes_both_ways(tmp_path):
    import peft

    model = model_of("llama")
    delta, adapted = lora_of(model, 3, target_modules=["embed_tokens", "q_proj"])
    delta.save(tmp_path)
    opened = peft.PeftModel.from_pretrained(copy.deepcopy(model), tmp_path).eval()
    with Delta.load(tmp_path).on(model):
        torch.testing.assert_close(output(model, "llama"), output(adapted, "llama"))
    assert torch.equal(output(opened, "llama"), output(adapted, "llama"))


# ---- what weights share, and their type


def test_a_tied_weight_is_one_weight_under_each_of_its_names():
    model = model_of("gpt2")
    before, head, table = state(model), "lm_head.weight", "transformer.wte.weight"
    values = torch.randn(model.lm_head.weight.shape)
    by_head, by_table = (WeightDelta({name: Dense(values)}) for name in (head, table))
    for delta in (by_head, by_table):
        with delta.on(model):
            assert model.lm_head.weight is model.transformer.wte.weight
            assert torch.equal(model.lm_head.weight, before[head] + values)
    with by_head.on(model), by_table.on(model):
        assert torch.equal(model.lm_head.weight, before[head] + 2 * values)
    assert same_bits(state(model), before)


def test_lora_on_a_tied_weight_is_refused_for_peft_changes_one_user_alone():
    model = model_of("gpt2")
    delta, _ = lora_of(model, 1, target_modules=["wte"])
    with pytest.raises(ModelError, match=r"wte.weight and not lm_head.weight"):
        delta.put(model)


@of_weights
def test_a_base_in_bfloat16_keeps_its_type_and_is_rounded_once(kind):
    whole = model_of("llama").bfloat16()
    exact = copy.deepcopy(whole).float()
    assert base_hash(whole) == base_hash(exact)  # halves are known by the numbers that they hold
    one, two = (delta_of(kind, exact, seed) for seed in (1, 2))
    before = state(whole)
    for model in (whole, exact):
        one.put(model)
        two.put(model)
    for name, value in state(whole).items():
        assert value.dtype == torch.bfloat16
        assert torch.equal(value, state(exact)[name].bfloat16()), name
    one.take_off(whole)
    two.take_off(whole)
    assert same_bits(state(whole), before)


def test_the_hash_is_that_of_names_shapes_and_numbers():
    model = model_of("plain")
    known = base_hash(model)
    assert base_hash(copy.deepcopy(model)) == known
    others = [copy.deepcopy(model) for _ in range(3)]
    with torch.no_grad():
        others[0][0].weight[0, 0] += 1e-6
        others[1][1].running_mean[0] += 1
        others[2][0].weight.data = others[2][0].weight.reshape(5, 8)
    named = nn.ModuleDict({"a": copy.deepcopy(model)})
    assert len({known, *map(base_hash, others), base_hash(named)}) == 5
    with torch.device("meta"), pytest.raises(ModelError, match="made without its weights"):
        base_hash(nn.Linear(2, 2))


# ---- several, copies, rebuilding


def test_merging_one_of_several_leaves_the_others_to_go():
    model, other = model_of("plain"), model_of("plain")
    one, two = delta_of("dense", model, 1), delta_of("low-rank", model, 2)
    one.put(model)
    two.put(model)
    both = state(model)
    one.merge(model)
    assert same_bits(state(model), both) and deltas_on(model) == (two,)
    two.take_off(model)
    assert same_bits(state(model), state(one.merge(other)))
    assert base_hash(model) == base_hash(other)


def test_all_may_stay_for_good_and_all_may_be_off_for_a_while():
    model = model_of("plain")
    before = state(model)
    for kind in WEIGHTS:
        delta_of(kind, model, seed=len(kind)).put(model)
    both = state(model)
    with all_off(model):
        assert same_bits(state(model), before)
    assert same_bits(state(model), both) and len(deltas_on(model)) == len(WEIGHTS)
    settle_all(model)
    assert same_bits(state(model), both) and deltas_on(model) == ()


def test_what_was_learned_over_another_goes_on_where_that_is_on():
    model = model_of("plain")
    first = delta_of("dense", model, 1)
    over = delta_of("dense", first.merge(copy.deepcopy(model)), 2)
    with pytest.raises(ModelError, match="was made for a base"):
        over.put(model)
    with first.on(model), over.on(model):
        assert deltas_on(model) == (first, over)


@each_kind
def test_a_copy_of_a_model_has_its_own(kind):
    model = model_of("plain")
    before, delta = state(model), delta_of(kind, model)
    delta.put(model)
    twin = copy.deepcopy(model)
    delta.take_off(twin)
    assert same_bits(state(twin), before) and deltas_on(model) == (delta,)
    assert torch.equal(output(twin, "plain"), output(model_of("plain"), "plain"))
    with delta.on(model_of("plain")) as fresh:
        assert torch.equal(output(model, "plain"), output(fresh, "plain"))


def test_a_model_that_was_rebuilt_meanwhile_is_refused():
    model = model_of("plain")
    delta = delta_of("dense", model)
    delta.put(model)
    model[3] = nn.Linear(8, 6)
    with pytest.raises(ModelError, match="was rebuilt while deltas were on"):
        delta.take_off(model)


def test_an_equal_one_from_a_file_takes_off_what_is_on(tmp_path):
    model = model_of("plain")
    before, delta = state(model), delta_of("sparse", model)
    delta.save(tmp_path)
    delta.put(model)
    with pytest.raises(ModelError, match="is on this Sequential already"):
        Delta.load(tmp_path).put(model)
    Delta.load(tmp_path).take_off(model)
    assert same_bits(state(model), before)


def test_a_sparse_one_keeps_aside_only_what_it_changes():
    model = nn.Linear(1000, 1000)
    values = torch.zeros(1000, 1000)
    values[7, 7] = 1.0
    WeightDelta({"weight": Sparse.where_not_zero(values)}).put(model)
    kept = vars(model)["_added_weights"].kept[model.weight]
    assert kept.values.numel() == kept.entries.numel() == 1


def test_a_fine_tuning_is_the_difference_of_two_models():
    base, tuned = model_of("gpt2"), model_of("gpt2")
    with torch.no_grad():
        tuned.transformer.h[0].mlp.c_fc.weight.mul_(1.5)
        tuned.lm_head.weight[3, 2] += 1
    delta = WeightDelta.between(base, tuned)
    assert {name: type(part) for name, part in delta.parts.items()} == {
        "transformer.h.0.mlp.c_fc.weight": Dense, "transformer.wte.weight": Sparse,
    }  # fmt: skip
    with delta.on(base):
        for name, value in state(base).items():
            torch.testing.assert_close(value, tuned.state_dict()[name])
    with pytest.raises(ModelError, match="only one of the two models has"):
        WeightDelta.between(base, model_of("llama"))


# ---- files


def test_a_small_change_is_a_small_file(tmp_path):
    model = nn.Linear(1000, 1000)
    chosen = torch.zeros(1000, 1000)
    chosen[::100, ::100] = 1.0
    parts = {
        "sparse": Sparse.where_not_zero(chosen),
        "low": LowRank(torch.ones(1, 1000), torch.ones(1000, 1)),
    }
    for name, part in parts.items():
        WeightDelta({"weight": part}, base=base_hash(model)).save(tmp_path / name)
        assert sum(path.stat().st_size for path in (tmp_path / name).iterdir()) < 12_000


def damaged(folder, change):
    path = folder / "delta.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    change(record)
    path.write_text(json.dumps(record), encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda record: record.update(format=9), "written by a newer stackwise"),
        (lambda record: record.pop("format"), "is no record of a delta"),
        (lambda record: record.update(kind="os.system"), "names the kind 'os.system'"),
        (lambda record: record.update(kind=["weights"]), "names the kind None"),
        (lambda record: record.update(kind="x", method="sft-recipe"), "of the method 'sft-recipe'"),
        (lambda record: record.pop("settings"), "is damaged"),
        (lambda record: record["tensors"].popitem(), "does not hold the tensors"),
        (lambda record: record["settings"]["parts"].popitem(), "has tensors and no form"),
        (lambda record: record["settings"]["parts"]["weight"].update(form="pickle"), "is damaged"),
        (lambda record: record["settings"]["parts"]["weight"].update(shape=[1]), "must ascend"),
    ],
)
def test_a_damaged_record_is_one_sentence(change, words, tmp_path):
    parts = {"weight": Sparse.where_not_zero(torch.eye(3)), "bias": Dense(torch.ones(3))}
    WeightDelta(parts).save(tmp_path)
    damaged(tmp_path, change)
    with pytest.raises(ModelError, match=words) as caught:
        Delta.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_foreign_folder_is_one_sentence(tmp_path):
    with pytest.raises(ModelError, match="there is no folder .*nowhere"):
        Delta.load(tmp_path / "nowhere")
    with pytest.raises(ModelError, match=r"no delta.json and no adapter_config.json"):
        Delta.load(tmp_path)
    WeightDelta({"weight": Dense(torch.ones(3))}).save(tmp_path)
    with pytest.raises(ModelError, match="of the kind 'weights', not a lora"):
        LoraDelta.load(tmp_path)
    file = tmp_path / "delta.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(RunError, match="is damaged"):
        Delta.load(tmp_path)
    file.unlink()
    with pytest.raises(ModelError, match=r"has no delta.safetensors"):
        Delta.load(tmp_path)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"use_dora": True}, "use_dora=True, which is more than LoRA"),
        ({"bias": "all"}, "bias='all', which is more"),
        ({"modules_to_save": ["3"]}, "modules_to_save=.*, which is more"),
        ({"init_lora_weights": "olora"}, "changes the weights of the base"),
    ],
)
def test_an_adapter_that_is_more_than_lora_is_refused(more, words, tmp_path):
    import peft

    config = peft.LoraConfig(**{"r": 2, "target_modules": ["0"]} | more)
    peft.get_peft_model(model_of("plain"), config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=words):
        Delta.load(tmp_path)


def test_an_adapter_that_carries_weights_of_the_base_is_refused(tmp_path):
    _, adapted = lora_of(model_of("llama"), 1, target_modules=["lm_head"])
    adapted.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="save_embedding_layers=False"):
        Delta.load(tmp_path)


def test_an_adapter_of_another_method_of_peft_is_refused(tmp_path):
    import peft

    peft.get_peft_model(model_of("plain"), peft.LoHaConfig(target_modules=["0"])).save_pretrained(
        tmp_path
    )
    with pytest.raises(ModelError, match="is peft's LOHA"):
        Delta.load(tmp_path)


# ---- what makes no sense


def test_what_means_nothing_says_so():
    model = model_of("plain")
    gain, dense, lora = (delta_of(kind, model) for kind in ("gain", "dense", "lora"))
    for nothing, words in [
        (lambda: gain + gain, "a sum of two deltas of the kind 'test-gain' means nothing"),
        (lambda: 2 * gain, "a multiple of a delta of the kind 'test-gain' means nothing"),
        (lambda: gain.merge(model), "cannot be merged: it is no change of weights"),
        (lambda: settle_all(gain.put(model)), "cannot be merged"),
        (lambda: dense + lora, "of the kinds 'weights' and 'lora' have no sum"),
        (lambda: dense + delta_of("dense", model_of("plain", 4)), "deltas for two bases"),
        (lambda: dense.put(model_of("llama")), "has no weight '0.weight'"),
        (lambda: dense.put("model"), "not on a str"),
        (lambda: WeightDelta({"0.bias": Dense(torch.ones(3))}).put(model), r"is for \(3,\)"),
        (lambda: Dense(torch.tensor([float("nan")])), "must be finite"),
        (lambda: Dense(torch.ones(2, dtype=torch.int64)), "not floats"),
        (lambda: Sparse(torch.tensor([3, 1]), torch.ones(2), (5,)), "must ascend"),
        (lambda: Sparse(torch.tensor([1, 5]), torch.ones(2), (5,)), "within 0 and 4"),
        (lambda: Sparse(torch.tensor([1]), torch.ones(2), (5,)), "do not go together"),
        (lambda: LowRank(torch.ones(2, 3), torch.ones(3, 3)), "make no low-rank part"),
    ]:
        with pytest.raises(ModelError, match=words):
            nothing()
    with pytest.raises(KnobError, match="a delta times inf"):
        dense * float("inf")
    with pytest.raises(TypeError):
        dense * "2"


def test_quantised_numbers_are_refused():
    model = nn.Linear(2, 2)
    model.weight = nn.Parameter(torch.ones(2, 2, dtype=torch.int8), requires_grad=False)
    with pytest.raises(ModelError, match="quantised"):
        WeightDelta({"weight": Dense(torch.ones(2, 2))}).put(model)


def test_two_classes_of_one_kind_are_refused():
    with pytest.raises(TypeError, match="is Gain already"):
        type("Other", (Gain,), {}, kind="test-gain")


# ---- properties


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(WEIGHTS), st.integers(0, 3)), min_size=1, max_size=12))
def test_whatever_comes_and_goes_the_base_is_there_in_the_end(steps):
    model = model_of("plain")
    before = state(model)
    for kind, seed in steps:  # each comes, and goes when it is named again
        delta = delta_of(kind, model, seed)
        (delta.take_off if delta in deltas_on(model) else delta.put)(model)
    for delta in deltas_on(model):  # in the order in which they came
        delta.take_off(model)
    assert same_bits(state(model), before)


@st.composite
def sparse(draw):
    entries = draw(st.sets(st.integers(0, 11), max_size=12))
    numbers = st.floats(-8, 8, width=16)
    values = torch.zeros(12)
    for entry in entries:
        values[entry] = draw(numbers)
    return Sparse.where_not_zero(values.view(3, 4))


@settings(max_examples=60, deadline=None)
@given(sparse(), sparse(), st.floats(-4, 4, width=16))
def test_sparse_parts_add_and_scale_as_dense_ones(one, two, factor):
    like = torch.zeros(0)
    assert torch.equal(one.plus(two).dense(like), one.dense(like) + two.dense(like))
    assert torch.equal(one.scaled(factor).dense(like), factor * one.dense(like))
    mixed = one.plus(Dense(two.dense(like)))
    assert isinstance(mixed, Dense)
    assert torch.equal(mixed.values, one.plus(two).dense(like))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 99), st.floats(-2, 2), st.floats(-2, 2), st.booleans(), st.booleans())
def test_low_rank_parts_add_without_loss(seed, one, two, turned, also):
    torch.manual_seed(seed)

    def part(scale, transposed):
        out, inner = (5, 3) if transposed else (3, 5)
        return LowRank(torch.randn(2, inner), torch.randn(out, 2), scale, transposed)

    a, b, like = part(one, turned), part(two, also), torch.zeros(0)
    total = a.plus(b)
    assert isinstance(total, LowRank) and total.rank == 4
    torch.testing.assert_close(
        total.dense(like), a.dense(like) + b.dense(like), atol=1e-5, rtol=1e-5
    )
