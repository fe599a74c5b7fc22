"""Progressive distillation: losses, sums and stopping, by hand."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.errors import DataError, ModelError
from stackwise.shrink.mamba_pkd import Mamba, staged, start_at_zero, until_sure
from stackwise.shrink.mamba_pkd.boosting import barrier_loss, edge, first_weights, reweigh
from stackwise.shrink.mamba_pkd.chain import regression_loss, residual_loss
from stackwise.training.distillation import checked_teacher, distillation_loss, soft_loss


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


# --------------------------------------------------------------------------- losses


def test_the_soft_loss_by_hand():
    teacher, logits = torch.tensor([[2.0, 0.0]]), torch.zeros(1, 2)
    p = math.exp(1) / (1 + math.exp(1))
    by_hand = 4 * (p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p)))
    assert float(soft_loss(logits, teacher, 2.0)) == pytest.approx(by_hand, rel=1e-6)
    assert by_hand == pytest.approx(0.4438, abs=5e-5)


def test_a_loss_is_the_mean_of_its_rows():
    logits, teacher, y = draw(6, 3), draw(6, 3), torch.randint(3, (6,))
    rows = [
        distillation_loss(logits[i : i + 1], y[i : i + 1], teacher[i : i + 1]) for i in range(6)
    ]
    assert torch.allclose(distillation_loss(logits, y, teacher), torch.stack(rows).mean())


def test_alpha_of_one_ignores_the_teacher_and_of_zero_the_labels():
    logits, y, other = draw(4, 3), torch.tensor([0, 1, 2, 0]), torch.tensor([1, 2, 0, 1])
    teacher = draw(4, 3)
    hard = distillation_loss(logits, y, teacher * torch.nan, alpha=1.0)
    assert torch.equal(hard, functional.cross_entropy(logits, y))
    assert torch.equal(
        distillation_loss(logits, y, teacher, alpha=0.0),
        distillation_loss(logits, other, teacher, alpha=0.0),
    )
    half = distillation_loss(logits, y, teacher, alpha=0.25, temperature=3.0)
    assert torch.allclose(half, 0.25 * hard + 0.75 * soft_loss(logits, teacher, 3.0))


def test_no_gradient_reaches_the_teacher_or_the_students_before():
    output, before, teacher = (draw(4, 3).requires_grad_() for _ in range(3))
    y = torch.tensor([0, 1, 2, 0])
    for loss in (
        residual_loss(output, before, y, teacher), regression_loss(output, before, teacher),
        distillation_loss(output, y, teacher), barrier_loss(output, teacher, *first_weights(4, 3)),
    ):  # fmt: skip
        found = torch.autograd.grad(loss, [output, before, teacher], allow_unused=True)
        assert found[0].any() and found[1] is None and found[2] is None


def test_at_a_high_temperature_the_soft_gradient_matches_centred_logits():
    # T^2 KL -> |centred difference|^2 / (2 C)
    logits, teacher = draw(1, 5).requires_grad_(), draw(1, 5)
    (found,) = torch.autograd.grad(soft_loss(logits, teacher, 1e4), logits)
    gap = logits.detach() - teacher
    assert torch.allclose(found, (gap - gap.mean()) / 5, atol=1e-3)


def test_the_residual_loss_is_the_distillation_loss_of_the_sum():
    output, before, teacher, y = draw(4, 3), draw(4, 3), draw(4, 3), torch.tensor([0, 1, 2, 0])
    assert torch.equal(
        residual_loss(output, before, y, teacher, shrinkage=0.5, alpha=0.3, temperature=4.0),
        distillation_loss(before + 0.5 * output, y, teacher, alpha=0.3, temperature=4.0),
    )


def test_a_student_that_is_the_teacher_has_no_soft_loss_on_any_shuffled_batch():
    x, y = draw(32, 6), torch.randint(4, (32,))
    teacher = nn.Linear(6, 4).double().requires_grad_(False)
    kept = teacher(x)
    for rows in torch.randperm(32).split(8):
        loss = residual_loss(teacher(x[rows]), torch.zeros(8, 4), y[rows], kept[rows], alpha=0.0)
        assert abs(float(loss)) < 1e-12
        # logits looked up by place in the batch, not by row, would show
        wrong = residual_loss(teacher(x[rows]), torch.zeros(8, 4), y[rows], kept[:8], alpha=0.0)
        assert float(wrong) > 1e-3


def test_the_regression_loss_is_zero_where_the_rest_is_made_up():
    before, teacher = draw(4, 3), draw(4, 3)
    assert float(regression_loss(teacher - before, before, teacher)) == 0
    assert float(regression_loss(teacher - before + 2, before, teacher)) == pytest.approx(4)


@pytest.mark.parametrize("wrong", [{"alpha": 1.5}, {"alpha": -0.1}, {"temperature": 0.0}])
def test_a_wrong_knob_is_refused(wrong: dict[str, float]):
    with pytest.raises(ModelError, match=f"{next(iter(wrong))} must be .*, got"):
        distillation_loss(draw(2, 3), torch.tensor([0, 1]), draw(2, 3), **wrong)


def test_the_teachers_output_is_checked_and_probabilities_become_logits():
    with pytest.raises(DataError, match="teacher returns 10 classes, the labels have 12"):
        checked_teacher(torch.zeros(2, 10), 12)
    with pytest.raises(DataError, match="row 1 is not finite"):
        checked_teacher(torch.tensor([[0.0, 0.0], [0.0, torch.nan]]), 2)
    p = torch.tensor([[1.0, 0.0], [0.25, 0.75]])
    logits = checked_teacher(p, 2, kind="probabilities")
    assert logits.isfinite().all() and torch.allclose(logits.softmax(-1), p)


# --------------------------------------------------------------------------- boosting


def test_with_equal_weights_no_student_has_an_edge_and_the_barrier_is_least_at_the_teacher():
    teacher = draw(5, 3)
    weights = first_weights(5, 3)
    assert float(edge(draw(5, 3), teacher, *weights)) == 0
    assert float(barrier_loss(teacher, teacher, *weights)) == 0
    assert float(barrier_loss(teacher + 0.1 * draw(5, 3), teacher, *weights)) > 0


def test_places_that_a_student_overshot_want_a_lower_one_next():
    teacher, output = torch.zeros(1, 2), torch.tensor([[1.0, -1.0]])
    above, below = reweigh(output, teacher, *first_weights(1, 2), eta=0.5)
    assert torch.allclose(above.sum() + below.sum(), torch.ones(()))
    assert torch.allclose(below[0] / above[0], torch.tensor([math.e, 1 / math.e]))
    assert float(edge(-output, teacher, above, below)) > 0
    assert float(edge(output, teacher, above, below)) < 0


def test_the_barrier_is_the_edge_to_first_order():
    output, teacher = draw(4, 3), draw(4, 3)
    above, below = torch.rand(4, 3).double(), torch.rand(4, 3).double()
    found = 1e6 * barrier_loss(output, teacher, above, below, bound=1e6)
    assert torch.allclose(found, -edge(output, teacher, above, below), atol=1e-4)


# --------------------------------------------------------------------------- the chain


def test_staged_outputs_are_sums_or_means_of_logits():
    outputs = list(draw(3, 4, 5))
    for mode in ("residual", "regress"):
        found = list(staged(outputs, mode, 0.5))
        assert all(torch.allclose(found[k], 0.5 * sum(outputs[: k + 1])) for k in range(3))
    for mode in ("boosted", "independent", "classic"):
        found = list(staged(outputs, mode))
        assert all(
            torch.allclose(found[k], torch.stack(outputs[: k + 1]).mean(0)) for k in range(3)
        )


def test_a_student_that_begins_at_zero_changes_nothing():
    student = Mamba(image_shape=(1, 8, 8), n_outputs=3, width=4, depth=1, d_state=2)
    start_at_zero(student)
    pixels, first = torch.randn(2, 1, 8, 8), torch.randn(2, 3)
    before, after = staged([first, student(pixels)])
    assert torch.equal(before, after)
    functional.cross_entropy(after, torch.tensor([0, 1])).backward()
    assert student.head.weight.grad.any()
    with pytest.raises(ModelError, match="ReLU has no linear layer"):
        start_at_zero(nn.ReLU())


def test_the_first_students_alone_are_asked_for_a_prefix():
    asked = []

    def student(place: int) -> Tensor:
        asked.append(place)
        return torch.ones(1, 2)

    found = staged(student(place) for place in range(7))
    next(found)
    assert torch.equal(next(found), torch.full((1, 2), 2.0)) and asked == [0, 1]


@pytest.mark.parametrize("mode", ["residual", "independent"])
def test_each_row_stops_at_the_first_student_that_makes_it_sure(mode: str):
    x = draw(20, 3)
    heads = [3 * draw(3, 4) for _ in range(4)]
    seen = []

    def student(head: Tensor):
        def call(rows: Tensor) -> Tensor:
            seen.append(len(rows))
            return rows @ head

        return call

    logits, used = until_sure([student(head) for head in heads], x, 0.9, mode, 0.7)
    steps = torch.stack(list(staged((x @ head for head in heads), mode, 0.7)))
    sure = steps.softmax(-1).amax(-1) > 0.9
    for row in range(20):
        first = int(sure[:, row].nonzero()[0]) if sure[:, row].any() else 3
        assert used[row] == first + 1
        assert torch.allclose(logits[row], steps[first, row])
    assert seen == [int((used > k).sum()) for k in range(len(seen))]
    assert seen[-1] < 20 and used.unique().numel() > 1


def test_a_threshold_of_one_asks_all_and_of_zero_the_first():
    students = [lambda rows: rows @ torch.ones(3, 2).double()] * 3
    for threshold, count in ((1.0, 3), (0.0, 1)):
        assert (until_sure(students, draw(5, 3), threshold)[1] == count).all()
    with pytest.raises(ModelError, match="at least one student"):
        until_sure([], draw(5, 3), 0.5)
