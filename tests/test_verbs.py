"""Verbs of a learner's card, and deltas, from the command line."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from stackwise import load
from stackwise.conformance import small_language_model
from stackwise.runs import open_reference


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with chats, a text and a decoder's run."""
    folder = tmp_path_factory.mktemp("verbs")
    words = ("red", "green", "blue", "small", "large")
    chats = [{"prompt": f"say {a} {b}", "response": f"{a} {b}"} for a in words for b in words]
    (folder / "chats.jsonl").write_text("".join(json.dumps(chat) + "\n" for chat in chats))
    (folder / "corpus.txt").write_text("a red box is beside a blue one. " * 60)
    return folder


@pytest.fixture
def call(monkeypatch, command, place):
    """Call a command there and give back (exit code, stdout, stderr)."""
    monkeypatch.chdir(place)
    return command


@pytest.fixture
def decoder(call) -> str:
    """A run of a small decoder."""
    words = ("fit", "decoder", "corpus.txt", "--length", 16, "--vocabulary", 300, "--set",
             "layers=1", "--set", "width=16", "--set", "heads=2", "--out", "dec")  # fmt: skip
    code, _, err = call(*words, "--resume")
    assert code == 0, err
    return "dec"


@pytest.fixture
def adapter(call) -> str:
    """A run that holds an adapter of the small language model."""
    words = ("fit", "sft-recipe", "chats.jsonl", "--set", f"model={small_language_model()}",
             "--set", "lora=2", "--set", "max_epochs=1", "--set", "batch_size=4", "--set",
             "remember=none", "--set", "lr=0.05", "--out", "ad")  # fmt: skip
    code, _, err = call(*words, "--resume")
    assert code == 0, err
    return "ad"


def test_a_learner_generates_with_the_options_of_its_method(call, decoder):
    code, out, err = call("generate", decoder, "a red", "a blue", "--max-new-tokens", 4)
    assert code == 0, err
    assert out.splitlines() == load(decoder).generate(["a red", "a blue"], max_new_tokens=4)
    code, out, _ = call("generate", decoder, "a red", "--max-new-tokens", 4, "-o", "said.json")
    assert code == 0
    assert json.loads(Path("said.json").read_text()) == load(decoder).generate(
        ["a red"], max_new_tokens=4
    )
    assert "--temperature" in call("generate", decoder, "-h")[1]
    assert "Name the run before -h" in call("generate", "-h")[1]


def test_a_bare_model_generates_in_a_learner_around_it(call):
    code, out, err = call("generate", small_language_model(), "say red", "--max-new-tokens", 3)
    assert code == 0 and out, err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("generate", "dec", "a", "--max-new-tokens", "0"), "max_new_tokens must be at least 1"),
        (("generate", "dec"), "Missing argument"),
        (("generate", "nowhere", "a"), "no model 'nowhere'"),
        (("generate", "dec", "a", "-o", "said.png"), "must end in .npy, .json, .txt"),
        (("merge", "dec", "nowhere", "--out", "m"), "nowhere"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(call, decoder, words, says):
    code, _, err = call(*words)
    last = err.strip().splitlines()[-1]
    assert code == 2 and says in last and last.startswith("Error: ")


def test_a_learner_without_the_verb_is_told_who_has_it(call):
    Path("t.csv").write_text("a,y\n" + "".join(f"{i},{2 * i}\n" for i in range(60)))
    assert call("fit", "linear", "t.csv", "--target", "y", "--out", "lin", "--resume")[0] == 0
    code, _, err = call("generate", "lin", "a")
    assert code == 2 and "holds a LinearRegressor, which has no generate" in err


def test_a_delta_is_put_on_by_name_and_merged_for_good(call, adapter):
    base = small_language_model()
    both = f"{base}+{adapter}"
    rows = torch.arange(3, 23)[None]
    plain, changed = (open_reference(name) for name in (base, both))
    with torch.no_grad():
        expected = changed(input_ids=rows).logits
        assert not torch.equal(expected, plain(input_ids=rows).logits)
    code, out, err = call("generate", both, "say red", "--max-new-tokens", 3)
    assert code == 0 and out, err
    code, _, err = call("merge", base, adapter, "--out", "merged")
    assert code == 0, err
    with torch.no_grad():
        merged = AutoModelForCausalLM.from_pretrained("merged").eval()(input_ids=rows).logits
    assert torch.equal(merged, expected)
    code, _, err = call("merge", base, adapter, "--out", "merged")
    assert code == 2 and "merged is not empty" in err
    code, _, err = call("probe", "depth-efficiency", both, "--preset", "quick", "--out", "depth",
                        "--data", "corpus.txt")  # fmt: skip
    assert code == 0, err
    record = json.loads(Path("depth/run.json").read_text())
    assert record["model"]["reference"] == both and "+" in record["model"]["hash"]
