"""Paths, their search, the shared runs, and the path for a task."""

import json

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from stackwise import runs
from stackwise.conformance import small_language_model
from stackwise.errors import DataError, KnobError, ModelError, StudyError
from stackwise.models import open_model
from stackwise.route.cola import (
    Edit,
    Runner,
    Search,
    Settings,
    Space,
    accuracies,
    angular_path,
    cola,
    cola_paths,
    rates,
    search_questions,
    ucb,
)
from stackwise.route.cola.entry import asked_of
from stackwise.stack import Stack
from stackwise.tasks.choices.asking import letter_logits
from stackwise.tasks.choices.task import ChoicesTask

SIZES = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 5, "num_attention_heads": 4}


def llama():
    return LlamaForCausalLM(LlamaConfig(**SIZES, intermediate_size=48))


def neox():
    return GPTNeoXForCausalLM(GPTNeoXConfig(**SIZES, intermediate_size=48))


def gpt2():
    return GPT2LMHeadModel(GPT2Config(vocab_size=60, n_embd=32, n_layer=5, n_head=4))


@pytest.fixture(params=[llama, neox, gpt2], ids=["llama", "neox", "gpt2"])
def model(request):
    torch.manual_seed(0)
    made = request.param().eval()
    for parameter in made.parameters():
        parameter.data.add_(0.1 * torch.randn(parameter.shape))
    return made


def rows(count=6, seed=0):
    generator = np.random.default_rng(seed)
    return [generator.integers(1, 60, size=generator.integers(5, 12)).tolist()
            for _ in range(count)]  # fmt: skip


def questions(count=40, seed=0):
    generator = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        options = [str(number) for number in generator.permutation(90)[:3] + 10]
        made.append({"question": "which?", "choices": options,
                     "answer": int(generator.integers(3))})  # fmt: skip
    return made


@pytest.fixture(scope="module")
def reader():
    return open_model(small_language_model())


@pytest.fixture(scope="module")
def task():
    return ChoicesTask.load(questions())


# ---- paths and edits


def test_the_edits_of_28_blocks_are_those_of_the_paper():
    path = tuple(range(28))
    skips = list(Space(repeats=False, longest=999).edits(path))
    repeats = list(Space(skips=False, longest=999).edits(path))
    assert len(skips) == 28 + 27 + 26 + 25
    assert len(repeats) == 4 * 106


def test_an_edit_does_what_its_name_says():
    path = (0, 1, 2, 3)
    assert Edit(1, 2)(path) == (0, 3)
    assert Edit(1, 2, 2)(path) == (0, 1, 2, 1, 2, 1, 2, 3)
    for edit in Space(longest=8).edits(path):
        edited = edit(path)
        assert len(edited) == 4 - edit.length if not edit.times else 4 + edit.length * edit.times
        assert 1 <= len(edited) <= 8


def test_a_path_never_is_empty_and_protected_blocks_stay():
    assert not list(Space(repeats=False).edits((3,)))
    for edit in Space(protected=frozenset({0, 4})).edits(tuple(range(5))):
        edited = edit(tuple(range(5)))
        assert edited[0] == 0 and edited[-1] == 4
        assert edited.count(0) == edited.count(4) == 1


# ---- the search


def test_the_score_is_the_one_computed_by_hand():
    expected = 0.5 + 1.8 * (np.log(16) / 4) ** 0.5 - 2.5
    assert ucb(2, 4, 16, 14, 28, 1.8, 5.0) == pytest.approx(expected)
    assert expected == pytest.approx(-0.5014, abs=1e-4)


def run_search(settings, simulations, right, seed=0, depth=12):
    search = Search(depth, Space(longest=24), settings, seed)
    for _ in range(simulations):
        search.tell(float(right(search.propose())))
    return search


@pytest.mark.parametrize("strategy", ["mcts", "random", "greedy", "beam"])
def test_a_planted_path_is_found(strategy):
    search = run_search(Settings(strategy), 150, lambda path: 7 not in path)
    assert search.best() is not None and 7 not in search.best()
    assert search.simulations == 150


def test_a_penalty_makes_paths_shorter():
    def length(penalty):
        searches = [run_search(Settings(penalty=penalty), 200, lambda p: 7 not in p, seed)
                    for seed in range(5)]  # fmt: skip
        return np.mean([len(search.best()) for search in searches])

    assert length(5.0) < length(0.0)


@pytest.mark.parametrize("settings", [Settings(), Settings(widening=0.5)])
def test_trees_branch(settings):
    search = run_search(settings, 150, lambda path: False)
    children = [len(node.children) for node in search.nodes.values()]
    assert max(children) >= 2
    assert sum(count >= 2 for count in children) >= 2


def test_a_search_repeats_itself_and_more_of_it_sees_more():
    one, two = (run_search(Settings(), 60, lambda p: len(p) < 10, seed=3) for _ in range(2))
    more = run_search(Settings(), 120, lambda p: len(p) < 10, seed=3)
    assert one.evaluated == two.evaluated
    assert set(one.evaluated) <= set(more.evaluated)
    assert run_search(Settings(), 60, lambda p: len(p) < 10, seed=4).evaluated != one.evaluated


def test_no_reward_finds_nothing_and_every_reward_finds_the_shortest():
    assert run_search(Settings(), 50, lambda path: False).best() is None
    search = run_search(Settings(), 50, lambda path: True)
    assert len(search.best()) == min(map(len, search.evaluated))
    assert [reward for _, reward in search.front()] == [1.0]


# ---- the runs


def test_shared_runs_give_what_the_stack_gives(model):
    tokens = rows()
    runner = Runner(model, tokens)
    assert runner.by_hand
    paths = [(0, 1, 2, 3, 4), (0, 2, 2, 4), (0, 1, 2, 3), (4, 0), (0, 1, 2, 1, 2, 3, 4), (2,)]
    asked = [(sample, path) for sample in range(len(tokens)) for path in paths]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = runner.logits(asked)
    for (sample, path), logits in zip(asked, found, strict=True):
        with Stack.of(model).path(path), torch.no_grad():
            (expected,) = letter_logits(model, [tokens[sample]])
        assert torch.allclose(logits, expected, atol=1e-5), (sample, path)
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())
    with torch.no_grad():
        again = letter_logits(model, tokens)
    for sample, row in enumerate(again):
        assert torch.allclose(found[sample * len(paths)], row, atol=1e-5)


def test_in_step_is_as_one_by_one_and_a_small_memory_changes_nothing(model):
    tokens = rows()
    asked = [(i, path) for i in range(6) for path in ((0, 1, 3), (0, 1, 3, 4), (0, 1, 1))]
    whole = Runner(model, tokens).logits(asked)
    tight = Runner(model, tokens, most_bytes=1)
    for pair, expected in zip(asked, whole, strict=True):
        assert torch.allclose(tight.logits([pair])[0], expected, atol=1e-5)


def test_a_beginning_is_run_once(model):
    runner = Runner(model, rows(1))
    runner.logits([(0, (0, 1, 2, 3))])
    assert runner.work.blocks == 4
    runner.logits([(0, (0, 1, 2, 4)), (0, (0, 1, 2, 4, 4))])
    assert runner.work.blocks == 4 + 2
    assert (runner.work.without, runner.work.paths) == (4 + 4 + 5, 3)
    alone = Runner(model, rows(1), share=False)
    alone.logits([(0, (0, 1, 2, 3)), (0, (0, 1, 2, 4))])
    assert alone.work.blocks == alone.work.without == 8


def test_a_model_whose_blocks_cannot_be_called_by_hand_goes_through_the_stack(model, monkeypatch):
    monkeypatch.setattr(Runner, "_agrees", lambda self: False)
    runner = Runner(model, rows(2))
    assert not runner.by_hand
    with Stack.of(model).path((0, 2, 2)), torch.no_grad():
        (expected,) = letter_logits(model, [rows(2)[1]])
    assert torch.allclose(runner.logits([(1, (0, 2, 2))])[0], expected, atol=1e-6)


def test_a_cached_generation_along_a_path_is_the_uncached_one(model):
    ids = torch.tensor([rows(1)[0]])
    for path in ((0, 1, 1, 2, 4), (1, 2, 3)):
        with Stack.of(model).path(path):
            texts = [model.generate(ids, max_new_tokens=6, do_sample=False, pad_token_id=0,
                                    use_cache=cached) for cached in (True, False)]  # fmt: skip
        assert torch.equal(*texts)


# ---- questions


def test_searches_over_workers_are_those_of_one_process(reader, task):
    asked = asked_of(task, "train", reader, reader_tokenizer())
    options = {"simulations": 12, "space": Space(longest=8), "settings": Settings(), "seed": 1}
    alone, work = search_questions(reader, reader_tokenizer(), asked, together=4, **options)
    several, _ = search_questions(
        reader, reader_tokenizer(), asked, together=4, workers=2, **options
    )
    assert [one.said for one in alone] == [one.said for one in several]
    assert [one.path for one in alone] == [one.path for one in several]
    assert work.blocks < work.without
    for one in alone:
        assert one.simulations == 12 and len(one.said) + one.hits == 12


def reader_tokenizer():
    from stackwise.tasks.language.reading import tokenizer_of

    return tokenizer_of(open_model(small_language_model()))


def test_the_share_of_blocks_run_is_at_most_three_fifths(reader, task):
    asked = asked_of(task, "train", reader, reader_tokenizer())
    _, work = search_questions(reader, reader_tokenizer(), asked, simulations=60,
                               space=Space(longest=8), settings=Settings())  # fmt: skip
    assert work.share <= 0.6


def test_rates_are_counted_as_they_are_named(reader, task):
    asked = asked_of(task, "train", reader, reader_tokenizer())
    outcomes, _ = search_questions(reader, reader_tokenizer(), asked, simulations=30,
                                   space=Space(longest=8), settings=Settings())  # fmt: skip
    found = rates(outcomes)
    right = [one for one in outcomes if one.right]
    assert found["accuracy"] == len(right) / len(outcomes)
    assert found["with_the_label"] >= found["accuracy"]
    shorter = [one for one in right if len(one.path) < 4]
    assert found["shorter"] == (
        len(shorter) / len(right) if right else pytest.approx(np.nan, nan_ok=True)
    )


def test_the_accuracy_of_a_path_is_that_of_the_rebuilt_model(reader, task):
    asked = asked_of(task, "test", reader, reader_tokenizer())
    paths = [(0, 1, 2, 3), (0, 2), (1, 1, 3)]
    found = accuracies(reader, reader_tokenizer(), asked, paths)
    for path, score in zip(paths, found, strict=True):
        made = Stack.of(reader).rebuild(path)
        made.name_or_path = small_language_model()
        assert task.judge(made, "test").scores["accuracy"] == pytest.approx(score)


def test_the_block_with_the_least_angle_is_dropped_first(reader):
    shrunk = Stack.of(reader).rebuild([0, 1, 2, 3])
    with torch.no_grad():
        block = Stack.of(shrunk).blocks[2]
        block.self_attn.o_proj.weight.zero_()
        block.mlp.down_proj.weight.zero_()
    assert angular_path(shrunk, [[1, 2, 3], [4, 5]], 1) == (0, 1, 3)


def test_apply_and_probe_from_a_folder(task, tmp_path):
    run = runs.derive_run("transform", "cola", small_language_model(), out=tmp_path / "shorter",
                          data=task, knobs={"simulations": 10, "questions": 8})  # fmt: skip
    kept = AutoModelForCausalLM.from_pretrained(tmp_path / "shorter" / "model")
    before, after = run.record["before"]["scores"], run.record["scores"]
    assert after["validation"]["accuracy"] >= before["validation"]["accuracy"]
    assert kept.config.num_hidden_layers == len(kept.model.layers)
    runs.derive_run("probe", "cola", small_language_model(), out=tmp_path / "seen", data=task,
                    knobs={"simulations": 10, "questions": 8})  # fmt: skip
    record = json.loads((tmp_path / "seen" / "findings.json").read_text())
    assert "upper bound" in record["summary"]["note"]
    assert {"rates", "front", "blocks", "questions", "test"} <= set(record["tables"])
    assert (tmp_path / "seen" / "figures" / "front.png").is_file()


def test_the_same_seed_gives_the_same_path(reader, task):
    one, two = (cola(reader, task, simulations=10, questions=8) for _ in range(2))
    assert one.config.num_hidden_layers == two.config.num_hidden_layers


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m, t: cola(m, None), "questions with their answers"),
        (lambda m, t: cola(object(), t), "no causal language model"),
        (lambda m, t: cola(m, t, skips=False, repeats=False), "nothing to search"),
        (lambda m, t: cola(m, t, protect=[9]), r"block 9, the model has 4 \(0..3\)"),
        (lambda m, t: cola(m, t, simulations=0), "simulations"),
        (lambda m, t: cola(m, t, max_length=2), "below the model's 4 blocks"),
        (lambda m, t: cola_paths(m, t, on="slurm"), "ray"),
    ],
)
def test_what_cannot_be_searched_is_said(reader, task, call, words):
    with pytest.raises((KnobError, DataError, ModelError, ValueError), match=words):
        call(reader, task)


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_searches_on_ray_are_those_of_one_process(reader, task):
    ray = pytest.importorskip("ray")
    asked = asked_of(task, "train", reader, reader_tokenizer())[:6]
    options = {"simulations": 8, "space": Space(longest=8), "settings": Settings(), "seed": 1}
    alone, _ = search_questions(reader, reader_tokenizer(), asked, together=2, **options)
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False,
             object_store_memory=100 * 2**20)  # fmt: skip
    try:
        several, _ = search_questions(
            reader, reader_tokenizer(), asked, together=2, on="ray", **options
        )
    finally:
        ray.shutdown()
    assert [(one.said, one.path) for one in alone] == [(one.said, one.path) for one in several]


@pytest.mark.xdist_group("ray")
def test_a_cluster_that_is_not_there_is_said_in_a_sentence(reader, task, dead_cluster):
    asked = asked_of(task, "train", reader, reader_tokenizer())[:2]
    options = {"simulations": 2, "space": Space(longest=8), "settings": Settings()}
    with pytest.raises(StudyError, match="no Ray cluster to connect to"):
        search_questions(reader, reader_tokenizer(), asked, on="ray", **options)
    with pytest.raises(StudyError, match="not on 'dask'"):
        search_questions(reader, reader_tokenizer(), asked, on="dask", **options)
