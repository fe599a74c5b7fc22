"""Sparse fine-tunings: exactly K entries, the rest the base to the bit, sums that compose."""

import copy
import math

import pytest
import torch
import transformers as hf
from torch import nn
from torch.nn import functional

from stackwise import load
from stackwise.adapt import Delta, merge_delta
from stackwise.adapt.composable_sft import SparseFineTuning, composable_sft, overlap_report
from stackwise.adapt.composable_sft.places import encoder_hash, places_in, untied
from stackwise.adapt.composable_sft.selection import (
    at_random,
    biases,
    denoise,
    denoised,
    largest,
    moved,
)
from stackwise.conformance import small_language_model
from stackwise.errors import Interrupted, KnobError, ModelError
from stackwise.models import open_model
from stackwise.tasks.labels.task import LabelsTask
from stackwise.training import Backprop, train
from stackwise.training.session import session

QUICK = {"epochs": 2, "lr": 1e-2}


def batches(count=6, seed=0, classes=3):
    draws = torch.Generator().manual_seed(seed)
    return [
        {"input_ids": torch.randint(0, 40, (4, 9), generator=draws),
         "labels": torch.randint(0, classes, (4,), generator=draws)}
        for _ in range(count)
    ]  # fmt: skip


def bert(head="ForSequenceClassification", seed=0, **more):
    torch.manual_seed(seed)
    config = hf.BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=24, max_position_embeddings=16, **more,
    )  # fmt: skip
    config.num_labels = 3
    return getattr(hf, f"Bert{head}")(config).eval()


class Mlp(nn.Module):
    """A body and a head, on (x, y)."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU())
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.body(x))


DATA = (
    torch.randn(48, 6, generator=torch.Generator().manual_seed(1)),
    torch.randint(0, 3, (48,), generator=torch.Generator().manual_seed(2)),
)


def learn(model=None, **knobs):
    given = {"loss": functional.cross_entropy, "heads": ["head"], "batch_size": 16}
    return composable_sft(model or Mlp(), DATA, **given | QUICK | knobs)


def numbers(model):
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


# ---- selection


def test_the_rank_is_over_all_tensors_together():
    scores = {"a": torch.rand(20), "b": torch.rand(5, 4)}
    scaled = {"a": 10 * scores["a"] + 10, "b": scores["b"]}
    assert largest(scaled, 20)["a"].all() and not largest(scaled, 20)["b"].any()
    found = largest(scores, 7)
    threshold = torch.cat([v.flatten() for v in scores.values()]).sort().values[-7]
    assert all(torch.equal(found[n], scores[n] >= threshold) for n in scores)


def test_exactly_k_are_selected_ties_by_place_and_none_that_did_not_move():
    ties = {"a": torch.ones(4), "b": torch.ones(4)}
    assert largest(ties, 5)["a"].all() and largest(ties, 5)["b"].tolist() == [True] + [False] * 3
    still = {"a": torch.tensor([0.0, 2.0, 0.0, 1.0])}
    assert largest(still, 4)["a"].tolist() == [False, True, False, True]
    assert not largest(still, 0)["a"].any()


def test_a_later_round_selects_others():
    scores = {"a": torch.arange(1.0, 9.0)}
    first = largest(scores, 3)
    second = largest(scores, 3, but=first)
    assert not bool((first["a"] & second["a"]).any()) and int(second["a"].sum()) == 3


def test_random_entries_are_exactly_k_and_follow_the_seed():
    like = {"a": torch.zeros(30), "b": torch.zeros(7, 10)}
    one, again, other = (at_random(like, 11, seed=seed) for seed in (0, 0, 1))
    assert sum(int(m.sum()) for m in one.values()) == 11
    assert equal(one, again) and not equal(one, other)
    more = at_random(like, 11, seed=0, but=one)
    assert not any(bool((one[n] & more[n]).any()) for n in like)


def test_biases_are_all_biases_and_nothing_else():
    masks = biases({"a.bias": torch.zeros(3), "a.weight": torch.zeros(2, 2)})
    assert masks["a.bias"].all() and not masks["a.weight"].any()


def test_denoising_keeps_what_is_low_rank_and_drops_small_noise():
    torch.manual_seed(0)
    clean = torch.outer(torch.randn(40), torch.randn(30))
    noisy = clean + 0.2 * torch.randn(40, 30)
    # by rank alone: rest holds as little as it may
    assert (denoise(noisy, rank=1 / 30, rest=1e-9) - clean).norm() < 0.5 * (noisy - clean).norm()
    assert torch.allclose(denoise(noisy, rank=1.0), noisy, atol=1e-4)
    assert torch.allclose(denoise(noisy, rest=1.0), noisy, atol=1e-4)
    still = noisy.clone()
    still[3] = 0
    assert not denoise(still)[3].any()
    assert torch.equal(denoised({"bias": still[0]})["bias"], moved({"bias": still[0]})["bias"])


# ---- what is trained


def test_with_every_entry_it_is_full_fine_tuning_bit_for_bit():
    model = Mlp()
    found = learn(model, k=1.0, exact=True)
    plain = copy.deepcopy(model)
    from stackwise.learning.trainable import trainable

    joined = trainable(plain, DATA, loss=functional.cross_entropy, batch_size=16, seed=0)
    rule = Backprop(joined.loss, lr=1e-2, schedule="linear")
    tuned = train(plain, rule, joined.batches, max_epochs=2, seed=0).model
    with found.on(model):
        assert equal(numbers(model), numbers(tuned))


def test_with_every_entry_of_an_encoder_it_is_full_fine_tuning_with_dropout_too():
    model = bert(hidden_dropout_prob=0.2)
    found = composable_sft(model, batches(), k=1.0, exact=True, freeze=[], **QUICK)
    from stackwise.learning.trainable import trainable

    joined = trainable(copy.deepcopy(model), batches(), seed=0)
    rule = Backprop(joined.loss, lr=1e-2, schedule="linear")
    tuned = train(joined.model, rule, joined.batches, max_epochs=2, seed=0).model
    with found.on(model):
        assert equal(numbers(model), numbers(tuned))


@pytest.mark.parametrize("knobs", [{}, {"select": "random"}, {"weight_decay": 0.1}, {"k": 17}])
def test_exactly_k_entries_move_and_the_others_are_the_base_to_the_bit(knobs):
    model = Mlp()
    before = numbers(model)
    found = learn(model, k=knobs.pop("k", 0.1), **knobs)
    assert equal(numbers(model), before)
    entries = places_in(model, heads=["head"]).entries
    assert found.entries == entries == 6 * 12 + 12 + 12 * 8 + 8
    wanted = 17 if found.count == 17 else int(0.1 * entries)
    assert 0 < found.count <= wanted and found.count >= wanted - 1  # one may come back to 0
    with found.on(model):
        after = numbers(model)
    changed = sum(int((after[n] != before[n]).sum()) for n in before if n.startswith("body"))
    assert changed == found.count
    assert all(not torch.equal(after[n], before[n]) for n in ("head.weight", "head.bias"))


def test_without_entries_the_head_alone_learns():
    found = learn(k=0)
    assert found.count == 0 and set(found.head) == {"head.weight", "head.bias"}


def test_the_second_phase_begins_as_the_first_did():
    model, seen = bert(hidden_dropout_prob=0.3), {}

    def loss(network, batch):
        found = network(**batch).loss
        seen.setdefault("losses", []).append(float(found.detach()))
        return found

    composable_sft(model, batches(), loss=loss, k=0.1, epochs=1, lr=1e-2)
    losses = seen["losses"]
    assert len(losses) == 12 and losses[0] == losses[6] and losses[1:6] != losses[7:]


def test_rounds_select_their_share_and_keep_what_was_selected():
    one = learn(k=40, iterations=1)
    two = learn(k=40, iterations=2)
    assert one.count <= 40 and two.count <= 40 and two.count > 20
    first = learn(k=20, iterations=1)
    assert first.overlap(two) >= first.count - 1  # what came back to 0 by itself is not kept


def test_a_penalty_keeps_weights_near_the_base():
    def size(found):
        like = torch.empty(0)
        return sum(float(part.dense(like).abs().sum()) for part in found.encoder.values())

    free, held = learn(k=0.3), learn(k=0.3, l1_sparse=500.0, l1_full=500.0)
    assert size(held) < 0.5 * size(free)


def test_the_gradient_of_the_penalty_is_its_sign_times_its_strength():
    from stackwise.adapt.composable_sft.rules import TowardsBase

    model = nn.Linear(3, 1, bias=False)
    base = {"weight": model.weight.detach() - torch.tensor([[1.0, -2.0, 0.0]])}
    rule = TowardsBase(lambda m, b: m.weight.sum() * 0, base=base, strength=0.25, grad_clip=None)
    optimizer = rule.optimizers(model)[0]
    model.weight.grad = torch.zeros(1, 3)
    seen = []
    optimizer.step = lambda: seen.append(model.weight.grad.clone())

    class Loop:
        optimizers = (optimizer,)

        def average_gradients(self, optimizer):
            pass

    rule.update(Loop(), optimizer)
    assert torch.equal(seen[0], torch.tensor([[0.25, -0.25, 0.0]]))


def test_norms_stay_unless_it_is_said_otherwise():
    model = bert()
    frozen = places_in(model)
    assert not any("LayerNorm" in name for name in frozen.maskable)
    assert any("LayerNorm" in name for name in places_in(model, freeze=[]).maskable)
    assert set(frozen.heads) == {
        "classifier.weight", "classifier.bias", "bert.pooler.dense.weight",
        "bert.pooler.dense.bias",
    }  # fmt: skip
    llama = open_model(small_language_model())
    tied = places_in(llama)
    assert "model.embed_tokens.weight" in tied.maskable and not tied.heads


def test_untying_leaves_the_logits_and_frees_the_embedding():
    model = bert("ForMaskedLM")
    ids = batches()[0]["input_ids"]
    with torch.no_grad():
        before = model(input_ids=ids).logits
        untied(model)
        assert torch.equal(model(input_ids=ids).logits, before)
    found = places_in(model)
    assert "bert.embeddings.word_embeddings.weight" in found.maskable
    assert not any("decoder.weight" in name for name in found.heads)
    assert "cls.predictions.bias" in found.heads


# ---- what is kept and composed


@pytest.fixture(scope="module")
def task_and_language():
    """What is learned for classes, and by a masked language model, on one encoder."""
    model, language = bert(), bert("ForMaskedLM", seed=1)
    language.bert.load_state_dict(model.bert.state_dict(), strict=False)
    masked = [{"input_ids": one["input_ids"], "labels": one["input_ids"]} for one in batches()]
    return (
        model,
        composable_sft(model, batches(), k=0.05, **QUICK),
        composable_sft(language, masked, k=0.05, l1_full=0.1, l1_sparse=0.1, **QUICK),
    )


def test_what_was_learned_under_one_head_goes_under_another(task_and_language):
    model, task, language = task_and_language
    assert task.base == language.base == encoder_hash(model)
    before = numbers(model)
    with task.on(model), language.on(model):
        one = numbers(model)
    with language.on(model), task.on(model):
        other = numbers(model)
    with (task + language.without_head()).on(model):
        added = numbers(model)
    assert equal(one, other) and equal(numbers(model), before)
    assert all(torch.allclose(one[n], added[n], atol=1e-6) for n in one)
    assert torch.equal(one["classifier.weight"], added["classifier.weight"])
    with language.on(model):
        alone = numbers(model)
    assert torch.equal(alone["classifier.weight"], before["classifier.weight"])


def test_disjoint_fine_tunings_are_each_themselves_in_their_sum(task_and_language):
    model, task, language = task_and_language
    halves = task.restricted("layer.0"), language.restricted("layer.1")
    assert halves[0].overlap(halves[1]) == 0
    with halves[0].on(model):
        first = numbers(model)
    with halves[1].on(model):
        second = numbers(model)
    with halves[0].on(model), halves[1].on(model):
        both = numbers(model)
    for name in both:
        wanted = first if "layer.0" in name else second
        assert torch.equal(both[name], wanted[name])


def test_a_task_learned_over_a_language_scores_the_same_put_on_together(task_and_language):
    model, _, language = task_and_language
    with language.on(model):
        over = composable_sft(model, batches(seed=3), k=0.05, exact=True, **QUICK)
        with over.on(model):
            trained = model(**batches(seed=4)[0]).loss.item()
    with language.on(model), over.on(model):
        assert model(**batches(seed=4)[0]).loss.item() == trained
    with pytest.raises(ModelError, match="was made for a base"):
        over.put(model)


def test_a_base_changed_by_one_bit_is_refused_and_another_head_is_not(task_and_language):
    model, task, _ = task_and_language
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.classifier.weight.add_(1)
    with task.on(other):
        pass
    norm = other.bert.encoder.layer[0].output.LayerNorm.weight  # no entry of it changes
    with torch.no_grad():
        norm[0] = torch.nextafter(norm[0], torch.tensor(math.inf))
    with pytest.raises(ModelError, match="was made for a base"):
        task.put(other)


def test_two_heads_of_one_job_are_one_too_many(task_and_language):
    model, task, _ = task_and_language
    other = composable_sft(model, batches(seed=5), k=0.05, **QUICK)
    with task.on(model):
        with pytest.raises(ModelError, match="both bring the head"):
            other.put(model)
        other.without_head().put(model)
        other.without_head().take_off(model)
    with pytest.raises(ModelError, match=r"both bring the head of a job .* without_head"):
        task + other


def test_it_is_kept_as_it_is_and_is_small(task_and_language, tmp_path):
    model, task, _ = task_and_language
    task.save(tmp_path)
    again = Delta.load(tmp_path)
    assert isinstance(again, SparseFineTuning) and again == task and again.density == task.density
    values = sum(part.tensors()["values"].numel() * 8 for part in task.head.values())
    size = (tmp_path / "delta.safetensors").stat().st_size
    assert size < 8 * task.count + values + 12_000  # names and shapes, and an index for each
    count = sum(p.numel() for p in model.parameters())
    with again.on(model):
        assert sum(p.numel() for p in model.parameters()) == count


def test_merged_it_is_a_plain_model_with_its_head(task_and_language, tmp_path):
    model, task, language = task_and_language
    model.bert.save_pretrained(tmp_path / "base")  # an encoder without a head
    named = SparseFineTuning(
        task.encoder, head=task.head, classes=["a", "b", "c"], base=task.base,
        entries=task.entries,
    )  # fmt: skip
    merge_delta(tmp_path / "base", [named, language], tmp_path / "merged")
    made = hf.AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    assert made.config.id2label == {0: "a", 1: "b", 2: "c"}
    with task.on(model), language.on(model):
        wanted = numbers(model)
    for name, value in made.state_dict().items():
        if name.startswith("bert.enc") or name.startswith("bert.emb"):
            assert torch.equal(value, wanted[name])


def test_the_overlap_of_two_is_counted(task_and_language):
    _, task, language = task_and_language
    found = overlap_report({"task": task, "language": language})
    row = found.tables["overlap"].iloc[0]
    assert row["shared"] == task.overlap(language) == language.overlap(task)
    assert task.overlap(task) == task.count
    assert 0 <= row["share"] <= 1 and row["chance"] == pytest.approx(0.05, abs=0.01)
    density = found.tables["density"]
    assert density.shape[1] == 2 and (density <= 1).all().all()


def test_a_decoder_learns_labels_with_a_head_of_its_own():
    task, model = LabelsTask.small(), open_model(small_language_model())
    found = composable_sft(model, task, k=0.1, epochs=1, lr=1e-2)
    assert set(found.head) == {"score.weight"} and found.classes == ["food", "travel", "weather"]
    headed = found.prepared(model)
    with found.on(headed):
        assert task.judge(headed, "test").scores["accuracy"] >= 0
    with found.on(model):  # which has no such head: the encoder's part alone
        pass


def test_a_learner_takes_one(tmp_path):
    from stackwise.tasks.labels.baselines.transformer import TransformerClassifier

    task = LabelsTask.small()
    small = {"layers": 1, "width": 16, "heads": 2, "vocabulary": 300, "max_epochs": 1}
    learner = task.fit(TransformerClassifier(**small))
    X, _ = task.part("test")
    before = learner.predict_proba(X)
    found = composable_sft(learner, task, **QUICK)
    with found.on(learner):
        assert not (learner.predict_proba(X) == before).all()
    assert (learner.predict_proba(X) == before).all()


# ---- long work


@pytest.mark.parametrize("at", ["full", "sparse", "full 2", "sparse 2"])
def test_a_fit_that_is_stopped_and_resumed_is_the_same_to_the_bit(tmp_path, at, monkeypatch):
    from stackwise.training import loop

    rounds = 2 if "2" in at else 1
    knobs = {"k": 30, "iterations": rounds, "weight_decay": 0.05, "epochs": 3}
    wanted = learn(**knobs)
    stopping = loop.TrainingLoop._tell

    def stops(self, metrics):
        stopping(self, metrics)
        if self.phase.name == at and self.epoch == 2:
            self.request.asked = True

    with monkeypatch.context() as patch, session(folder=tmp_path):
        patch.setattr(loop.TrainingLoop, "_tell", stops)
        with pytest.raises(Interrupted):
            learn(**knobs)
    with session(folder=tmp_path, resume=True):
        again = learn(**knobs)
    assert again == wanted


def test_a_time_that_is_too_short_keeps_the_largest_changes_and_says_so():
    told = []
    with session(on_event=told.append):
        found = learn(time_limit=1e-9, epochs=400, k=20)
    assert found.cut and 0 < found.count <= 20
    assert any("before the last sparse phase" in event.get("note", "") for event in told)
    assert not learn(k=20).cut


# ---- refusals


@pytest.mark.parametrize(
    ("knobs", "error", "words"),
    [
        ({"k": 1000}, KnobError, "asked for 1,000 of 188 entries"),
        ({"k": 1.5}, KnobError, "k=1.5 is no number of entries"),
        ({"epochs": 0}, KnobError, "epochs=0 trains nothing"),
        ({"iterations": 3, "k": 2}, KnobError, "has nothing to select in each round"),
        ({"heads": ["hat"]}, KnobError, "heads names 'hat', which is in no name"),
        ({"freeze": ["body", "head"]}, ModelError, "no weight of this Mlp is left"),
        ({"k": -1}, KnobError, "k"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_sentence(knobs, error, words):
    with pytest.raises(error, match=words):
        learn(**knobs)


@pytest.mark.parametrize("freeze", [None, []])
def test_statistics_of_batches_stay_and_what_is_put_on_is_what_was_trained(freeze):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    model.train()(DATA[0])  # so that there are statistics
    model.eval()
    losses = []

    def loss(output, y):
        losses.append(functional.cross_entropy(output, y))
        return losses[-1]

    before = numbers(model)
    found = learn(model, heads=None, freeze=freeze, k=1.0, exact=True, loss=loss, batch_size=48)
    assert equal(numbers(model), before)
    with torch.no_grad():  # the first loss is that of the model as it answers, not by its batch
        assert torch.allclose(losses[0], functional.cross_entropy(model(DATA[0]), DATA[1]))
    with found.on(model):
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            assert torch.equal(model.state_dict()[f"1.{name}"], before[f"1.{name}"])
    assert ("1.weight" in found.encoder) == (freeze is not None)


def test_half_precision_is_learned_in_float32(tmp_path):
    model = bert().bfloat16()
    found = composable_sft(model, batches(), k=0.05, **QUICK)
    assert all(part.tensors()["values"].dtype == torch.float32 for part in found.encoder.values())
    before = numbers(model)
    with found.on(model):
        assert model.dtype == torch.bfloat16 and not equal(numbers(model), before)
    assert equal(numbers(model), before)


# ---- the command line


def test_the_commands_apply_and_merge(command, tmp_path, monkeypatch):
    import json
    import shutil

    from stackwise.tasks.labels.small import small_texts

    monkeypatch.chdir(tmp_path)
    shutil.copytree(small_language_model(), "MODEL")
    rows = [{"text": t, "label": c} for t, c in zip(*small_texts(), strict=True)]
    (tmp_path / "task.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = [{"text": "the rain and the snow are here "} for _ in range(30)]
    (tmp_path / "language.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    quick = ("--set", "epochs=1")
    for name in ("task", "language"):
        code, _, err = command("apply", "composable-sft", "MODEL", "--data", f"{name}.jsonl",
                               "--out", f"sft/{name}", *quick)  # fmt: skip
        assert code == 0, err
    record = json.loads((tmp_path / "sft/task/run.json").read_text())
    assert record["delta"]["kind"] == "sparse-fine-tuning" and "accuracy" in json.dumps(record)
    code, _, err = command("merge", "MODEL", "sft/task", "sft/language", "--out", "model")
    assert code == 0, err
    made = hf.AutoModelForSequenceClassification.from_pretrained("model")
    assert sorted(made.config.label2id) == ["food", "travel", "weather"]
    assert hf.AutoTokenizer.from_pretrained("model")
    code, _, err = command("apply", "composable-sft", "MODEL", "--data", "task.jsonl", "--set",
                           "k=0.5", "--set", "epochs=0", "--out", "sft/none")  # fmt: skip
    assert code == 2 and "epochs=0 trains nothing" in err
    assert isinstance(load("sft/task"), SparseFineTuning)
