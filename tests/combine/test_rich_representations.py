"""What holds exactly of concatenated features, joined heads, probes and distillation."""

import copy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn import functional

from stackwise.combine.rich_representations import (
    Head,
    choose_penalty,
    concat,
    distill,
    fit_head,
    heads_loss,
    joined_head,
    rich_representations,
    two_stage,
    with_outputs,
)
from stackwise.combine.rich_representations.distilling import mean_of_heads
from stackwise.combine.rich_representations.features import head_of, pooled
from stackwise.combine.rich_representations.looking import cka
from stackwise.combine.rich_representations.probing import log_loss
from stackwise.errors import DataError, KnobError, ModelError
from stackwise.training.distillation import soft_loss

sys.path.insert(0, str(Path(__file__).parent))
from rich_networks import Small, rows, same

MEMBERS = [Small(0), Small(1), Small(2, width=8)]


@pytest.mark.parametrize("count", [1, 3, 40])
def test_the_features_are_the_members_own_slice_by_slice(count):
    x = rows()[0][:count]
    found = concat(MEMBERS)(x)
    own = [member.trunk(x) for member in MEMBERS]
    assert torch.equal(found, torch.cat(own, 1))
    assert torch.equal(concat(MEMBERS[:1])(x), own[0])


def test_members_stay_in_evaluation_mode_whatever_the_mode():
    cat, (x, _) = concat(MEMBERS), rows()
    before, found = copy.deepcopy(cat), cat(x)
    assert torch.equal(cat.train()(x), found)  # no dropout, and no running mean has moved
    assert same(before, cat) and not found.requires_grad


def test_another_order_of_members_permutes_the_columns():
    x = rows()[0]
    one, other = concat(MEMBERS)(x), concat([MEMBERS[2], MEMBERS[0], MEMBERS[1]])(x)
    assert torch.equal(one[:, 12:], other[:, :8]) and torch.equal(one[:, :12], other[:, 8:])


def test_a_refitted_probe_does_not_see_the_order_of_members():
    x, y = (t.numpy() for t in rows(90))
    found = []
    for order in ([0, 1, 2], [2, 0, 1]):
        Z = concat([MEMBERS[i] for i in order])(torch.as_tensor(x)).numpy()
        head = fit_head((Z, y, None), 3, C=0.5)
        found.append(head(torch.as_tensor(Z)).softmax(-1).detach())
    assert torch.allclose(*found, atol=1e-3)


def test_features_stop_before_the_layer_that_is_named():
    x = rows()[0]
    assert head_of(MEMBERS[0])[0] == "head"
    found = concat(MEMBERS[:2], layer="trunk.1")(x)
    assert torch.equal(found, torch.cat([member.trunk[0](x) for member in MEMBERS[:2]], 1))


def test_features_of_maps_tokens_and_members_become_rows():
    z = torch.arange(24.0).view(2, 3, 2, 2)
    assert torch.equal(pooled(z), z.mean((2, 3)))
    z = torch.arange(24.0).view(2, 3, 4)
    assert pooled(z).shape == (2, 12)
    assert torch.equal(pooled(z, "mean"), z.mean(1)) and torch.equal(pooled(z, "first"), z[:, 0])


@pytest.mark.parametrize(
    ("members", "layer", "words"),
    [
        ([], None, "at least 1 member"),
        ([Small(0), Small(0)], None, "1 and 2 are bit-identical"),
        ([Small(0), Small(1).train()], None, "member 2 is in training mode"),
        ([Small(0)], "haed", "has no layer 'haed'; its last ones are trunk.0, trunk.1, head"),
        ([nn.Linear(2, 2).eval()], None, "no representation before"),
        ([Small(0), object()], None, "member 2 is a object, not a module"),
    ],
)
def test_members_that_make_no_representation_are_refused(members, layer, words):
    with pytest.raises(ModelError, match=words):
        concat(members, layer)


def test_the_joined_head_gives_the_mean_of_the_members_logits():
    x, y = rows()
    head = joined_head([member.head for member in MEMBERS])
    mean = torch.stack([member(x) for member in MEMBERS]).mean(0)
    assert torch.allclose(head(concat(MEMBERS)(x)), mean, atol=1e-6)
    # without the division the answer is the same and its loss is not
    summed = functional.cross_entropy(3 * mean, y)
    assert abs(float(functional.cross_entropy(mean, y) - summed)) > 1e-2
    with pytest.raises(ModelError, match="heads of 3 and 4 classes"):
        joined_head([nn.Linear(2, 3), nn.Linear(2, 4)])


def test_the_second_stage_leaves_the_members_as_the_first_left_them():
    data = rows(60)
    given = {"loss": functional.cross_entropy, "epochs": 2, "random_state": 3}
    begun = two_stage(MEMBERS, data, head_epochs=0, **given)
    tuned = two_stage(MEMBERS, data, head_epochs=3, head_lr=0.05, **given)
    assert same(begun.representation, tuned.representation) and not same(begun.head, tuned.head)
    each = [member(data[0]) for member in begun.representation.members]
    assert torch.allclose(begun(data[0]), torch.stack(each).mean(0), atol=1e-6)


def test_new_classes_get_new_heads_and_the_members_are_left_alone():
    x, y = rows(60, classes=5)
    before = copy.deepcopy(MEMBERS)
    for how in ("two-stage", "probe", "sub", "initial"):
        made = rich_representations(
            MEMBERS[0], (x, y), members=MEMBERS[1:], how=how, epochs=1,
            loss=functional.cross_entropy,
        )  # fmt: skip
        assert made(x).shape == ((60, 3, 5) if how == "sub" else (60, 5))
    assert all(same(one, other) for one, other in zip(before, MEMBERS, strict=True))


def test_a_member_without_a_linear_head_cannot_be_joined_and_can_be_probed():
    class Odd(Small):
        def forward(self, x):
            return self.scale(super().forward(x))

    odd = Odd(0)
    odd.scale = nn.LayerNorm(3)
    data, given = rows(60), {"loss": functional.cross_entropy, "epochs": 1}
    with pytest.raises(ModelError, match="a LayerNorm and no linear layer"):
        two_stage([odd.eval()], data, **given)
    with pytest.raises(ModelError, match="answers otherwise than its layer 'head'"):
        two_stage([odd.eval()], data, layer="head", **given)
    probed = rich_representations(odd, data, how="probe", layer="head", **given)
    assert probed(data[0]).shape == (60, 3)


def test_a_vision_model_of_transformers_is_a_member():
    config = transformers.ViTConfig(
        image_size=8, patch_size=4, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=1, num_labels=2,
    )  # fmt: skip
    members = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        members.append(transformers.ViTForImageClassification(config).eval())
    batches = [
        {"pixel_values": torch.randn(4, 3, 8, 8), "labels": torch.arange(4)} for _ in range(3)
    ]
    made = rich_representations(members[0], batches, members=members[1:], epochs=1)
    answer = made(**batches[0])
    assert answer.logits.shape == (4, 4) and float(answer.loss) > 0
    assert members[0].config.num_labels == 2


def test_a_doubled_member_is_one_with_half_the_penalty():
    x, y = rows(90)
    Z = MEMBERS[0].trunk(x).detach().numpy()
    twice = np.concatenate([Z, Z], 1)
    one = fit_head((Z, y.numpy(), None), 3, C=0.2)
    two = fit_head((twice, y.numpy(), None), 3, C=0.1)
    found = one(torch.as_tensor(Z)), two(torch.as_tensor(twice))
    assert torch.allclose(found[0].softmax(-1), found[1].softmax(-1), atol=1e-3)


@pytest.mark.parametrize("classes", [2, 4])
def test_a_probe_answers_as_logistic_regression_on_standard_features(classes):
    x, y = rows(80, classes=classes)
    Z = concat(MEMBERS)(x).numpy()
    weight = np.linspace(0.5, 2, 80)
    head = fit_head((Z, y.numpy(), weight), classes, C=0.3)
    spread = Z.std(0)
    standard = (Z - Z.mean(0)) / np.where(spread > 1e-8, spread, 1)
    peer = LogisticRegression(C=0.3, max_iter=5000).fit(standard, y.numpy(), weight)
    with torch.no_grad():
        found = head(torch.as_tensor(Z)).double().softmax(-1).numpy()
    assert np.allclose(found, peer.predict_proba(standard), atol=1e-4)


def test_vrex_without_variance_is_the_plain_probe_and_with_it_brings_risks_together():
    x, y = rows(90)
    Z, codes = concat(MEMBERS)(x).numpy(), y.numpy().copy()
    groups = np.repeat([0, 1], 45)
    codes[45:60] = (codes[45:60] + 1) % 3  # the second environment is harder
    given = {"C": 0.1, "environments": groups}
    plain = fit_head((Z, codes, None), 3, C=0.1)
    none = fit_head((Z, codes, None), 3, beta=0.0, **given)
    assert torch.allclose(plain.linear.weight, none.linear.weight, atol=1e-3)

    def spread(head: Head) -> float:
        parts = [(Z[groups == g], codes[groups == g], None) for g in (0, 1)]
        return abs(log_loss(head, parts[0]) - log_loss(head, parts[1]))

    even = fit_head((Z, codes, None), 3, beta=50.0, **given)
    assert spread(even) < 0.5 * spread(plain)


def test_the_penalty_is_the_one_of_the_least_loss_on_held_out_rows():
    (x, y), (x2, y2) = rows(30), rows(60, seed=1)
    train, held = ((concat(MEMBERS)(a).numpy(), b.numpy(), None) for a, b in ((x, y), (x2, y2)))
    grid = (1e-4, 1e-2, 1.0)
    losses = [log_loss(fit_head(train, 3, C=C), held) for C in grid]
    assert choose_penalty(train, held, 3, grid=grid) == grid[int(np.argmin(losses))]


def test_a_class_without_a_row_is_never_predicted_and_bad_features_are_refused():
    x, y = rows(30, classes=2)
    Z = concat(MEMBERS)(x).numpy()
    head = fit_head((Z, y.numpy(), None), 3, C=1.0)
    assert (head(torch.as_tensor(Z)).argmax(1) < 2).all()
    with pytest.raises(DataError, match="not finite"):
        fit_head((np.full((2, 2), np.nan), np.array([0, 1]), None), 2, C=1.0)
    with pytest.raises(DataError, match="30 rows and 3 environments"):
        fit_head((Z, y.numpy(), None), 2, C=1.0, environments=np.zeros(3))


def test_one_teacher_at_temperature_one_is_ordinary_distillation():
    z, teacher = torch.randn(2, 6, 4)
    found = heads_loss(z[:, None], teacher[:, None], temperature=1.0)
    assert torch.allclose(found, soft_loss(z, teacher, 1.0))
    assert float(heads_loss(z[:, None], z[:, None])) == pytest.approx(0, abs=1e-6)
    with pytest.raises(ModelError, match="2 heads of 4 classes, and there are 1 members"):
        heads_loss(torch.zeros(6, 2, 4), teacher[:, None])


def test_members_that_disagree_teach_two_heads_and_not_their_mean():
    teachers = torch.tensor([[[4.0, -4.0], [-4.0, 4.0]]])  # (1, 2, 2): opposite
    output = torch.zeros(1, 2, 2, requires_grad=True)
    heads_loss(output, teachers, temperature=1.0).backward()
    assert output.grad.abs().min() > 0.1
    averaged = torch.zeros(1, 2, requires_grad=True)
    soft_loss(averaged, teachers.softmax(-1).mean(1).log(), 1.0).backward()
    assert averaged.grad.abs().max() < 1e-6


@pytest.mark.parametrize("targets", ["soft", "labels", "features"])
def test_a_student_learns_from_members_that_stay_as_they_are(targets):
    x, _ = rows(60)
    before, student = copy.deepcopy(MEMBERS), Small(9)
    begun = copy.deepcopy(student)
    made = distill(MEMBERS, x.split(20), student, targets=targets, epochs=3, lr=0.02)
    assert all(same(one, other) for one, other in zip(before, MEMBERS, strict=True))
    assert same(begun, student) and made(x).shape == (60, 3)
    assert not torch.equal(made.trunk[0].weight, student.trunk[0].weight)


def test_a_student_comes_nearer_to_its_members():
    x, _ = rows(60)
    wanted = torch.stack([member(x) for member in MEMBERS], 1).mean(1).detach()
    made = distill(MEMBERS, x.split(20), Small(9), temperature=1.0, epochs=60, lr=0.02)
    assert soft_loss(made(x), wanted, 1.0) < 0.5 * soft_loss(Small(9)(x), wanted, 1.0)
    with pytest.raises(KnobError, match="temperature must be above 0"):
        distill(MEMBERS, [x], Small(9), temperature=0)


def test_the_mean_of_heads_gives_the_mean_of_their_logits():
    x, _ = rows()
    many = with_outputs(Small(0), 12)
    mean = mean_of_heads(many, 4)
    assert torch.allclose(mean(x), many(x).unflatten(1, (4, 3)).mean(1), atol=1e-6)


def test_cka_is_one_for_turned_features_and_less_for_others():
    generator = np.random.default_rng(0)
    Z, other = generator.normal(size=(2, 50, 4))
    turn = np.linalg.qr(generator.normal(size=(4, 4)))[0]
    assert cka(Z, 3 * Z @ turn) == pytest.approx(1.0)
    assert cka(Z, other) < 0.5
