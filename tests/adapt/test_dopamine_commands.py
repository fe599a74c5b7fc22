"""Modes from the command line: on folders of six families, on a run, wherever a model is named."""

import json
import sys
from pathlib import Path

import pytest
import torch
import transformers as hf

import stackwise
from stackwise import cli, runs
from stackwise.adapt import base_hash, deltas_on
from stackwise.adapt.dopamine import TauGate, dopamine
from stackwise.conformance import small_language_model
from stackwise.tasks.labels.small import small_texts

pytestmark = pytest.mark.slow
SIZES = {"vocab_size": 257, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
         "intermediate_size": 24, "max_position_embeddings": 128}  # fmt: skip
GPT2 = {"vocab_size": 257, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
DISTILBERT = {"vocab_size": 257, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24,
              "max_position_embeddings": 128}  # fmt: skip
HEAD = {"num_labels": len(set(small_texts()[1]))}
FAMILIES = {
    "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**SIZES)),
    "gpt2": lambda: hf.GPT2LMHeadModel(hf.GPT2Config(**GPT2)),
    "gpt-neox": lambda: hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**SIZES)),
    "bert": lambda: hf.BertForSequenceClassification(hf.BertConfig(**SIZES, **HEAD)),
    "distilbert": lambda: hf.DistilBertForSequenceClassification(
        hf.DistilBertConfig(**DISTILBERT, **HEAD)
    ),
    "electra": lambda: hf.ElectraForSequenceClassification(
        hf.ElectraConfig(**SIZES, embedding_size=16, **HEAD)
    ),
}  # fmt: skip
"""Three decoders and three encoders with a head."""


def called(monkeypatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["stackwise", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code, words


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder to work in, with a corpus and texts with labels."""
    monkeypatch.chdir(tmp_path)
    words = ("red", "green", "blue", "small", "large")
    texts = [{"text": f"the {a} box is beside the {b} one."} for a in words for b in words]
    Path("new_domain.jsonl").write_text("".join(json.dumps(one) + "\n" for one in texts))
    labels = [{"text": t, "label": label} for t, label in zip(*small_texts(), strict=True)]
    Path("reviews.jsonl").write_text("".join(json.dumps(one) + "\n" for one in labels))
    Path("prompts.txt").write_text("the red box\nthe small one\n")
    return tmp_path


def folder_of(family: str) -> Path:
    torch.manual_seed(0)
    FAMILIES[family]().save_pretrained("MODEL")
    hf.AutoTokenizer.from_pretrained(small_language_model()).save_pretrained("MODEL")
    return Path("MODEL")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mode_is_made_put_on_and_is_a_few_kilobytes(family, place, monkeypatch):
    model = folder_of(family)
    data = "new_domain.jsonl" if family in ("llama", "gpt2", "gpt-neox") else "reviews.jsonl"
    before = {path: path.read_bytes() for path in model.iterdir()}
    called(monkeypatch, "apply", "dopamine", "MODEL", "--data", data, "--set", "name=legal",
           "--preset", "quick", "--out", "modes/legal")  # fmt: skip
    assert all(path.read_bytes() == kept for path, kept in before.items())
    assert not list(Path("modes/legal").rglob("model*"))
    assert sum(path.stat().st_size for path in Path("modes/legal/delta").iterdir()) < 10_000
    mode = stackwise.load("modes/legal")
    assert isinstance(mode, TauGate) and mode.name == "legal" and len(mode.sites) == 2
    record = json.loads(Path("modes/legal/run.json").read_text())
    assert record["scores"] and record["before"]["scores"] and record["delta"]["base"] == mode.base
    opened = runs.open_reference("MODEL+modes/legal")
    assert deltas_on(opened) == (mode,) and base_hash(opened) == mode.base
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        said = opened(input_ids=ids).logits
        mode.take_off(opened)
        assert not torch.equal(opened(input_ids=ids).logits, said)


def test_a_model_with_a_mode_generates_predicts_and_is_probed(place, monkeypatch, capsys):
    folder_of("llama")
    for name in ("legal", "medical"):
        called(monkeypatch, "apply", "dopamine", "MODEL", "--data", "new_domain.jsonl", "--set",
               f"name={name}", "--preset", "quick", "--set", f"lr={0.01 * len(name)}", "--out",
               f"modes/{name}")  # fmt: skip
    both = "MODEL+modes/legal+modes/medical"
    called(monkeypatch, "generate", both, "the red box")
    called(monkeypatch, "predict", "MODEL+modes/legal", "prompts.txt", "-o", "answers.jsonl")
    assert len(Path("answers.jsonl").read_text().splitlines()) == 2
    called(monkeypatch, "probe", "dopamine", both, "--data", "new_domain.jsonl", "--out", "found")
    found = stackwise.load("found")
    assert list(found.tables["overlap"]) == ["base", "legal", "medical"]
    assert (Path("found") / "figures" / "modes.png").is_file()
    monkeypatch.setattr(sys, "argv", ["stackwise", "merge", "MODEL", "modes/legal", "--out", "new"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == 2 and "its thresholds depend on what comes in" in said
    assert "Traceback" not in said and not Path("new").exists()


def test_gains_are_merged_into_a_plain_folder(place, monkeypatch):
    folder_of("gpt2")
    called(monkeypatch, "apply", "dopamine", "MODEL", "--data", "new_domain.jsonl", "--set",
           "learn=gain", "--preset", "quick", "--out", "modes/gains")  # fmt: skip
    called(monkeypatch, "merge", "MODEL", "modes/gains", "--out", "merged")
    merged = hf.GPT2LMHeadModel.from_pretrained("merged").eval()
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        wanted = runs.open_reference("MODEL+modes/gains")(input_ids=ids).logits
        torch.testing.assert_close(merged(input_ids=ids).logits, wanted, atol=1e-5, rtol=1e-5)
    plain = hf.GPT2LMHeadModel.from_pretrained("MODEL").eval()
    mode = stackwise.load("modes/gains").put(plain)
    with torch.no_grad():
        torch.testing.assert_close(plain(input_ids=ids).logits, wanted)
    assert isinstance(mode, hf.GPT2LMHeadModel) and deltas_on(plain)


def test_a_run_of_ours_has_modes_too(place, monkeypatch):
    rows = ["size,kind,price", *(f"{n / 7},{'ab'[n % 2]},{n % 5}.5" for n in range(60))]
    Path("sales.csv").write_text("\n".join(rows) + "\n")
    called(monkeypatch, "fit", "mlp", "sales.csv", "--target", "price", "--set", "max_epochs=1",
           "--out", "runs/first")  # fmt: skip
    called(monkeypatch, "apply", "dopamine", "runs/first", "--data", "sales.csv", "--preset",
           "quick", "--out", "modes/a")  # fmt: skip
    called(monkeypatch, "predict", "runs/first+modes/a", "sales.csv", "-o", "with.csv")
    called(monkeypatch, "predict", "runs/first", "sales.csv", "-o", "without.csv")
    assert Path("with.csv").read_text() != Path("without.csv").read_text()


def test_chats_make_a_mode(place):
    from stackwise.models import open_model
    from stackwise.tasks.instructions.task import InstructionsTask

    model = open_model(small_language_model())
    mode = dopamine(model, InstructionsTask.small(), name="polite", epochs=1)
    assert mode.scores.keys() == {"soft", "hard"}
    assert mode.hard == (mode.scores["hard"] <= 1.005 * mode.scores["soft"])


def test_a_time_limit_ends_learning_with_a_mode():
    from stackwise.models import open_model
    from stackwise.tasks.text.task import TextTask

    model = open_model(small_language_model())
    mode = dopamine(model, TextTask.small(), epochs=10_000, time_limit=0.5)
    assert mode.count == 2 * 4 * 48
