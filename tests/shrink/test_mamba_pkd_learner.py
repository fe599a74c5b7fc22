"""The learner and the transform: chains that grow, are frozen, and answer by any prefix."""

import json
import sys

import numpy as np
import pytest
import torch
import transformers as hf
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import parametrize_with_checks

import stackwise
from stackwise import MambaClassifier, cli, mamba_pkd
from stackwise.errors import DataError, Interrupted, KnobError, ModelError
from stackwise.learning.outputs import Distilling
from stackwise.shrink.mamba_pkd import MambaChain, multiply_adds
from stackwise.shrink.mamba_pkd.stage import StageLoss, fitted_logits
from stackwise.stack import Stack
from stackwise.tasks.images.small import small_pictures
from stackwise.tasks.images.task import ImagesTask
from stackwise.training import session

QUICK = {"d_state": 2, "lr": 0.02, "batch_size": 30, "threads": 1}
FEW = QUICK | {"max_epochs": 3, "augment": "none"}
CHAIN = {"students": 3, "first": 0.1, "total": 0.8, "width": 8, "depth": 1}
WEIGHTS = {
    "check_sample_weight_equivalence_on_dense_data": "weights change which rows are held out",
}


@parametrize_with_checks(
    [
        MambaClassifier(
            width=16, depth=1, **QUICK | {"augment": "none", "max_epochs": 16, "batch_size": 48}
        )
    ],
    expected_failed_checks=lambda _: WEIGHTS,
)
def test_the_estimator_passes_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def teacher() -> MambaClassifier:
    return MambaClassifier(width=12, depth=1, **FEW | {"max_epochs": 12}).fit(*small_pictures())


@pytest.fixture(scope="module")
def chain(teacher) -> MambaClassifier:
    return mamba_pkd(teacher, small_pictures(), students=3, first=0.1, total=0.8, epochs=4, **QUICK)


def test_a_single_mamba_is_a_stack(teacher):
    assert len(Stack.of(teacher)) == 1
    with pytest.raises(ModelError, match="not a chain"):
        teacher.predict(small_pictures()[0], students=1)


def test_each_stage_gives_what_its_students_add_up_to(chain):
    X, _ = small_pictures()
    pixels = chain.pixels(X[:, None])[:9]
    outputs = torch.stack(list(chain.network_.outputs(pixels)))
    for count, probability in enumerate(chain.staged_predict_proba(X), 1):
        assert np.allclose(probability[:9], outputs[:count].sum(0).softmax(-1).detach(), atol=1e-6)
        assert np.array_equal(probability, chain.predict_proba(X, students=count))
    assert np.array_equal(probability, chain.predict_proba(X))
    assert np.array_equal(list(chain.staged_predict(X))[-1], chain.predict(X))


def test_a_prefix_computes_its_students_alone(chain):
    X, _ = small_pictures()
    called = []
    hooks = [
        student.head.register_forward_hook(lambda *_, place=place: called.append(place))
        for place, student in enumerate(chain.network_.students)
    ]
    chain.predict(X, students=2)
    for hook in hooks:
        hook.remove()
    assert set(called) == {0, 1}
    with pytest.raises(ModelError, match="students must be from 1 to 3, got 4"):
        chain.predict(X, students=4)


def test_a_budget_is_a_share_of_the_teacher(chain, teacher):
    X, _ = small_pictures()
    shares = chain.network_.costs()
    whole = multiply_adds(teacher.network_, teacher.pixels(X[:, None])[:1])
    assert chain.network_.reference == whole
    assert chain.cost(2) == round(sum(shares[:2]) * whole) < chain.cost()
    assert 0.5 < sum(shares) < 1.1
    two = chain.predict_proba(X, budget=sum(shares[:2]))
    assert np.array_equal(two, chain.predict_proba(X, students=2))
    with pytest.raises(ModelError, match="budget 0.001 is below the smallest student"):
        chain.predict(X, budget=0.001)


def test_a_picture_stops_when_its_answer_is_sure(chain):
    X, _ = small_pictures()
    stages = list(chain.staged_predict(X))
    _, all_of_them = chain.predict_adaptive(X, tau=1.0)
    assert (all_of_them == 3).all()
    found, used = chain.predict_adaptive(X, tau=0.4)
    assert np.array_equal(found, np.array(stages)[used - 1, np.arange(len(X))])
    assert len(set(used.tolist())) > 1


@pytest.mark.parametrize("mode", ["residual", "regress", "boosted", "independent"])
def test_a_student_is_trained_with_those_before_frozen(mode, teacher):
    """The first k students of a longer chain are those of a chain of k."""
    X, y = small_pictures()
    knobs = CHAIN | FEW | {"mode": mode, "distill_from": teacher}
    longer = MambaClassifier(**knobs).fit(X, y)
    phases = [line["phase"] for line in longer.history_]
    assert phases == [f"student {k}" for k in (1, 2, 3) for _ in range(3)]
    shorter = MambaClassifier(**knobs | {"students": 1, "mode": "classic"})
    assert shorter.fit(X, y).network_.arguments["depth"] == 1
    again = MambaClassifier(**knobs).fit(X, y)
    assert np.array_equal(again.predict_proba(X), longer.predict_proba(X))
    pixels = longer.pixels(X[:, None])[:5]
    (first,) = longer.network_.first(1).outputs(pixels)
    assert torch.equal(first, next(longer.network_.outputs(pixels)))
    losses = [line["metrics"]["train_loss"] for line in longer.history_[:3]]
    assert losses[-1] < losses[0]


def test_growing_leaves_the_students_before_alone_and_the_answer_as_it_was():
    torch.manual_seed(0)
    given = {"image_shape": [1, 4, 4], "n_outputs": 3, "width": 3, "depth": 1, "d_state": 2}
    chain = MambaChain(planned=[given, given | {"width": 4}], mode="residual")
    torch.nn.init.normal_(chain.students[0].head.weight)
    x = torch.randn(5, 1, 4, 4)
    before = chain(x)
    grown = chain.grown()
    # a copy's weights lie elsewhere in memory, and kernels round by alignment
    assert torch.allclose(grown(x), before, rtol=1e-6, atol=1e-6)
    assert torch.equal(list(grown.outputs(x))[1], torch.zeros(5, 3))
    kept = {name: t.clone() for name, t in grown.students[0].state_dict().items()}
    learned = [p for p in grown.parameters() if p.requires_grad]
    assert len(learned) == len(list(grown.students[1].parameters()))
    grown(x).square().sum().backward()
    torch.optim.SGD(learned, 0.1).step()
    assert all(torch.equal(kept[n], t) for n, t in grown.students[0].state_dict().items())
    assert all(p.grad is None for p in grown.students[0].parameters())


def stage(mode: str, outputs: list[torch.Tensor], teacher: torch.Tensor, alpha: float = 0.0):
    """The loss of a chain that answers what it is told."""
    chain = MambaChain.__new__(MambaChain)
    torch.nn.Module.__init__(chain)
    chain.mode, chain.shrinkage = mode, 1.0
    object.__setattr__(chain, "outputs", lambda pixels: iter(outputs))
    batch = {"pixels": torch.zeros(len(teacher), 1, 1, 1), "teacher": teacher,
             "target": torch.zeros(len(teacher), dtype=torch.int64),
             "weight": torch.ones(len(teacher))}  # fmt: skip
    return StageLoss(Distilling(alpha, 2.0), mode)(chain, batch)


def test_the_loss_of_each_mode_by_hand():
    torch.manual_seed(0)
    first, second = torch.randn(4, 3), torch.randn(4, 3)
    teacher = torch.randn(4, 3)
    rest = fitted_logits(teacher) - first
    assert float(stage("residual", [first, teacher - first], teacher)) == pytest.approx(0, abs=1e-5)
    assert float(stage("regress", [first, rest], teacher)) == pytest.approx(0, abs=1e-10)
    assert float(stage("independent", [first, teacher], teacher)) == pytest.approx(0, abs=1e-6)
    assert float(stage("independent", [teacher, second], teacher)) > 1e-3
    hard = torch.nn.functional.cross_entropy(first + second, torch.zeros(4, dtype=torch.int64))
    assert torch.allclose(stage("residual", [first, second], teacher, alpha=1.0), hard)


def test_a_chain_that_was_stopped_ends_as_one_that_was_not(tmp_path, teacher):
    X, y = small_pictures()
    knobs = CHAIN | FEW | {"mode": "boosted", "distill_from": teacher}
    whole = MambaClassifier(**knobs).fit(X, y).predict_proba(X)

    def stop(event):
        if event.get("phase") == "student 2" and event.get("epoch") == 2:
            raise Interrupted("stop")

    with pytest.raises(Interrupted), session(folder=tmp_path, on_event=stop):
        MambaClassifier(**knobs).fit(X, y)
    with session(folder=tmp_path, resume=True):
        assert np.array_equal(MambaClassifier(**knobs).fit(X, y).predict_proba(X), whole)


def test_a_saved_chain_answers_the_same(tmp_path, chain):
    X, _ = small_pictures()
    chain.save(tmp_path)
    again = MambaClassifier.load(tmp_path)
    assert np.array_equal(again.predict_proba(X), chain.predict_proba(X))
    assert np.array_equal(again.predict_proba(X, students=1), chain.predict_proba(X, students=1))
    assert again.cost(1) == chain.cost(1)


def test_features_of_the_student_before_are_read(teacher):
    X, y = small_pictures()
    made = MambaClassifier(**CHAIN | FEW, reuse=True, distill_from=teacher).fit(X, y)
    assert [student.previous > 0 for student in made.network_.students] == [False, True, True]
    with pytest.raises(ModelError, match="reuse=true"):
        made.predict_adaptive(X, 0.5)


def test_any_model_teaches(tmp_path):
    X, y = small_pictures()
    by_rows = LogisticRegression(max_iter=20).fit(X.reshape(len(X), -1), y)
    few = {"students": 2, "epochs": 1} | QUICK
    made = mamba_pkd(by_rows, (X, y), **few)
    assert any("nobody counts what a LogisticRegression costs" in note for note in made.notes_)
    config = hf.ViTConfig(
        image_size=12, patch_size=4, num_channels=1, hidden_size=12, intermediate_size=24,
        num_hidden_layers=1, num_attention_heads=3, num_labels=3,
    )  # fmt: skip
    made = mamba_pkd(hf.ViTForImageClassification(config), ImagesTask.load((X, y)), **few)
    assert len(made.network_) == 2


def test_bad_knobs_and_teachers_are_one_sentence(teacher):
    X, y = small_pictures()
    for knobs, error, words in [
        ({"mode": "regress"}, KnobError, "give distill_from"),
        ({"mode": "boosted", "distill_from": teacher, "augment": "shift"}, KnobError, "augment"),
        ({"patch": 5}, ModelError, "patch 5 does not divide 12"),
        ({"distill_alpha": 2.0}, KnobError, "distill_alpha must be"),
        ({"first": 0.9, "total": 0.5}, ModelError, "shares must be positive"),
    ]:
        with pytest.raises(error, match=words):
            MambaClassifier(**CHAIN | FEW | knobs).fit(X, y)
    two = y != "square"
    with pytest.raises(DataError, match="returns 3 classes, the labels have 2"):
        mamba_pkd(teacher, (X[two], y[two]), students=2, epochs=1, **QUICK)
    with pytest.raises(DataError, match="loaded task of pictures"):
        mamba_pkd(teacher)
    with pytest.raises(ModelError, match="cannot teach"):
        mamba_pkd(object(), (X, y))


def command(monkeypatch, capsys, *words: str) -> str:
    monkeypatch.setattr(sys, "argv", ["stackwise", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    assert not ended.value.code, said.err
    return said.out


def test_a_run_is_split_into_a_chain_by_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    X, y = small_pictures()
    np.savez("photos.npz", X=X, y=y.astype(str))
    command(monkeypatch, capsys, "fit", "residual-cnn", "photos.npz", "--set", "width=4", "--set",
            "max_epochs=2", "--out", "any")  # fmt: skip
    command(monkeypatch, capsys, "apply", "mamba-pkd", "any", "--data", "photos.npz", "--set",
            "students=2", "--set", "epochs=2", "--set", "d_state=2", "--set", "patch=6", "--out",
            "chain")  # fmt: skip
    made = stackwise.load("chain")
    assert isinstance(made, MambaClassifier) and len(made.network_) == 2
    record = json.loads((tmp_path / "chain" / "run.json").read_text())
    assert record["scores"]["test"] and record["before"] and record["model"]["hash"]
    command(monkeypatch, capsys, "predict", "chain", "photos.npz", "-o", "labels.csv")
    command(monkeypatch, capsys, "export", "chain", "chain.onnx")
    import onnxruntime

    opened = onnxruntime.InferenceSession("chain.onnx")
    (found,) = opened.run(None, {"pixels": X[:4, None].astype(np.float32)})
    assert np.allclose(found, made.predict_proba(X[:4]), atol=1e-5)
