"""The learner and the transform: a plain, shallow transformer comes out of both."""

import copy
import json
import sys

import numpy as np
import pytest
import torch
import transformers as hf
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

import stackwise
from stackwise import BranchedViTClassifier, cli, vit_reparam
from stackwise.errors import Interrupted, KnobError, ModelError
from stackwise.shrink.vit_reparam import BranchedViT, JoinRule, JoinSchedule, merge, set_join
from stackwise.shrink.vit_reparam.branches import branched_blocks
from stackwise.stack import Stack
from stackwise.tasks.images.small import small_pictures
from stackwise.tasks.images.task import ImagesTask
from stackwise.training import ArrayBatches, session, train
from stackwise.training.distillation import TaughtBy

SMALL = {"width": 12, "depth": 2, "heads": 3, "mlp_ratio": 2.0, "patch": 4, "batch_size": 30}
QUICK = SMALL | {"max_epochs": 4, "threads": 1, "lr": 0.01}
WEIGHTS = {
    "check_sample_weight_equivalence_on_dense_data": "weights change which rows are held out",
}


@parametrize_with_checks(
    [
        BranchedViTClassifier(
            width=12, depth=1, mlp_ratio=2.0, patch=2, augment="none", lr=0.02, max_epochs=30,
            batch_size=32, threads=1,
        )
    ],
    expected_failed_checks=lambda _: WEIGHTS,
)  # fmt: skip
def test_the_estimator_passes_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def deep() -> BranchedViTClassifier:
    return BranchedViTClassifier(**QUICK | {"depth": 4}, branches=1).fit(*small_pictures())


@pytest.mark.parametrize(
    "knobs",
    [{}, {"branches": 4, "pairwise": True}, {"mixing": "learned"}, {"values": "wide"}],
    ids=str,
)
def test_what_is_kept_is_plain_and_answers_as_the_joined_network_did(knobs, monkeypatch):
    seen = []
    kept = BranchedViTClassifier.merged

    def merged(self, network):
        seen.append(copy.deepcopy(network).eval())
        return kept(self, network)

    monkeypatch.setattr(BranchedViTClassifier, "merged", merged)
    X, y = small_pictures()
    made = BranchedViTClassifier(**QUICK, **knobs).fit(X, y)
    pixels = made.pixels(X[:, None])[:8]
    assert {float(block.ffn.lam) for block in branched_blocks(seen[0])} == {1.0}
    assert seen[0].arguments["branches"] > 1
    found, wanted = made.network_(pixels), seen[0](pixels)
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-4)
    assert [block.branches for block in branched_blocks(made.network_)] == [1, 1]
    assert len(Stack.of(made)) == 2
    joined = [line["metrics"]["validation_joined"] for line in made.history_]
    assert joined == sorted(joined) and joined[-1] == 1
    assert all("validation_branch_gap" in line["metrics"] for line in made.history_)


def test_a_joined_merge_has_as_many_weights_as_a_plain_network():
    X, y = small_pictures()
    few = QUICK | {"max_epochs": 1}
    joined, plain = (
        sum(p.numel() for p in made.network_.parameters())
        for made in (BranchedViTClassifier(**few, branches=n).fit(X, y) for n in (3, 1))
    )
    assert joined == plain


def test_a_fit_that_time_ended_too_early_says_so():
    X, y = small_pictures()
    made = BranchedViTClassifier(**QUICK | {"max_epochs": 400}, time_limit=1e-3).fit(X, y)
    assert any("before the branches were joined" in note for note in made.notes_) or (
        made.history_[-1]["metrics"]["validation_joined"] == 1
    )


def test_a_fit_that_was_stopped_ends_as_one_that_was_not(tmp_path):
    X, y = small_pictures()
    whole = BranchedViTClassifier(**QUICK, dropout=0.1).fit(X, y).predict_proba(X)

    def stop(event):
        if event.get("epoch") == 2:
            raise Interrupted("stop")

    with pytest.raises(Interrupted), session(folder=tmp_path, on_event=stop):
        BranchedViTClassifier(**QUICK, dropout=0.1).fit(X, y)
    with session(folder=tmp_path, resume=True):
        again = BranchedViTClassifier(**QUICK, dropout=0.1).fit(X, y)
    assert np.array_equal(again.predict_proba(X), whole)


def test_impossible_knobs_are_refused():
    X, y = small_pictures(30)
    for knobs, words in [
        ({"heads": 5}, "heads=5 does not divide width=12"),
        ({"branches": 3, "pairwise": True}, "pairwise takes 1, 2, 4, 8 or 16 branches, got 3"),
        ({"start": 0.8, "end": 0.7}, "start must come before end"),
    ]:
        with pytest.raises(KnobError, match=words):
            BranchedViTClassifier(**QUICK | knobs).fit(X, y)


def test_only_a_joined_model_may_be_the_best():
    model = BranchedViT(channels=1, image_size=4, n_outputs=2, patch=4, width=6, depth=1,
                        heads=2, branches=2)  # fmt: skip
    scores = iter(range(10))
    rule = JoinRule(
        lambda m, b: m(b["x"]).square().mean(), schedule_of_joining=JoinSchedule(0.1, 0.7),
        validate=lambda m: {"loss": float(next(scores))}, monitor="loss",
    )  # fmt: skip
    batches = ArrayBatches({"x": torch.randn(8, 1, 4, 4)}, 8)
    assert train(model, rule, batches, max_epochs=10).best_epoch == 8  # 0.7 of steps 0 to 9


# --------------------------------------------------------------------------- the transform


def test_one_branch_a_layer_and_no_training_change_nothing(deep):
    X, _ = small_pictures()
    same = vit_reparam(deep, depth=4, epochs=0)
    assert np.allclose(same.predict_proba(X), deep.predict_proba(X), atol=1e-6)


@pytest.mark.parametrize(("depth", "left"), [(None, 2), (1, 1)])
def test_a_fitted_learner_becomes_shallower(deep, depth, left):
    X, y = small_pictures()
    before = deep.predict_proba(X)
    made = vit_reparam(deep, (X, y), depth=depth, epochs=3)
    assert len(Stack.of(made)) == left
    assert made.network_.arguments["branches"] == 1
    assert np.array_equal(deep.predict_proba(X), before)
    assert made.predict_proba(X).shape == (90, 3)


def test_a_vit_of_transformers_comes_back_in_its_own_class(tmp_path):
    config = hf.ViTConfig(
        image_size=12, patch_size=4, num_channels=1, hidden_size=12, intermediate_size=24,
        num_hidden_layers=4, num_attention_heads=3, num_labels=3,
    )  # fmt: skip
    torch.manual_seed(0)
    model = hf.ViTForImageClassification(config)
    task = ImagesTask.load(small_pictures())
    made = vit_reparam(model, task, epochs=2)
    assert type(made) is hf.ViTForImageClassification
    made.save_pretrained(tmp_path)
    again = hf.ViTForImageClassification.from_pretrained(tmp_path).eval()
    assert again.config.num_hidden_layers == 2
    assert set(task.judge(again, "test").scores) >= {"accuracy", "log_loss"}
    pixels = torch.randn(2, 1, 12, 12)
    assert torch.equal(again(pixels).logits, made.eval()(pixels).logits)
    with pytest.raises(KnobError, match="values=wide"):
        vit_reparam(model, task, values="wide", epochs=1)


def test_the_model_itself_is_the_teacher():
    """With alpha = 0 labels do not count: the loss is 0 where nothing was changed."""
    torch.manual_seed(0)
    model = nn.Linear(3, 4)
    x, y = torch.randn(6, 3), torch.zeros(6, dtype=torch.int64)

    def loss(m, batch):
        return nn.functional.cross_entropy(m(batch["x"]), batch["y"])

    taught = TaughtBy(loss, copy.deepcopy(model), alpha=0.0)
    assert float(taught(model, {"x": x, "y": y})) == pytest.approx(0.0, abs=1e-6)
    half = TaughtBy(loss, nn.Linear(3, 4), alpha=0.25)
    hard, soft = loss(model, {"x": x, "y": y}), TaughtBy(loss, half.teacher, alpha=0.0)
    wanted = 0.25 * hard + 0.75 * soft(model, {"x": x, "y": y})
    assert torch.allclose(half(model, {"x": x, "y": y}), wanted)


def test_models_that_cannot_be_grouped_are_refused(deep):
    X, y = small_pictures()
    with pytest.raises(ModelError, match="4 layers cannot be grouped into 3 layers; depth may be"):
        vit_reparam(deep, (X, y), depth=3)
    with pytest.raises(ModelError, match="has one layer"):
        vit_reparam(vit_reparam(deep, depth=1, epochs=0), (X, y))
    with pytest.raises(ModelError, match="no vision transformer"):
        vit_reparam(object(), (X, y))


def test_force_merging_before_the_end_answers_otherwise(deep):
    """Else the branches were alike, and the other tests showed nothing."""
    from stackwise.shrink.vit_reparam import grouped

    X, _ = small_pictures()
    pixels = deep.pixels(X[:, None])[:8]
    branched = grouped(deep.network_, 2).eval()
    assert (merge(branched, force=True)(pixels) - branched(pixels)).abs().max() > 1e-3
    set_join(branched, 1.0)
    assert torch.allclose(merge(branched)(pixels), branched(pixels), atol=1e-4)


def command(monkeypatch, capsys, *words: str) -> str:
    monkeypatch.setattr(sys, "argv", ["stackwise", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    assert not ended.value.code, said.err
    return said.out


def test_a_run_is_made_shallower_and_exported_by_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    X, y = small_pictures()
    np.savez("photos.npz", X=X, y=y.astype(str))
    few = [word for name in ("width=12", "heads=3", "patch=4") for word in ("--set", name)]
    command(monkeypatch, capsys, "fit", "vit-reparam", "photos.npz", *few, "--set", "branches=1",
            "--set", "depth=4", "--set", "max_epochs=1", "--out", "vit")  # fmt: skip
    command(monkeypatch, capsys, "apply", "vit-reparam", "vit", "--data", "photos.npz", "--set",
            "depth=2", "--set", "epochs=2", "--out", "shallow")  # fmt: skip
    made = stackwise.load("shallow")
    assert len(Stack.of(made)) == 2
    record = json.loads((tmp_path / "shallow" / "run.json").read_text())
    assert {"test", "validation"} <= set(record["scores"]) and record["before"]
    command(monkeypatch, capsys, "export", "shallow", "shallow.onnx")
    import onnxruntime

    session_of = onnxruntime.InferenceSession("shallow.onnx")
    (found,) = session_of.run(None, {"pixels": X[:4, None].astype(np.float32)})
    assert np.allclose(found, made.predict_proba(X[:4]), atol=1e-5)
