"""Pruning a language model on a text file from the command line."""

import shutil
import sys
from pathlib import Path

import pytest
import torch
import transformers as hf
from tokenizers import Tokenizer, models, pre_tokenizers

from stackwise import cli, runs


@pytest.fixture(scope="module")
def tokenizer() -> hf.PreTrainedTokenizerFast:
    """Words w0 to w49; w2 ends a text."""
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(50)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return hf.PreTrainedTokenizerFast(tokenizer_object=words, eos_token="w2")


@pytest.fixture
def folder(tmp_path, tokenizer) -> Path:
    """A random Llama and its tokenizer, as save_pretrained writes them."""
    torch.manual_seed(0)
    config = hf.LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=16,
    )  # fmt: skip
    hf.LlamaForCausalLM(config).save_pretrained(tmp_path / "llama")
    tokenizer.save_pretrained(tmp_path / "llama")
    return tmp_path / "llama"


@pytest.fixture
def text(tmp_path) -> Path:
    path = tmp_path / "lines.txt"
    lines = (" ".join(f"w{3 + (i * 7 + j) % 40}" for j in range(9)) for i in range(30))
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture
def command(monkeypatch, capsys):
    """Call a command and give back (exit code, stderr)."""

    def call(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["stackwise", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), capsys.readouterr().err

    return call


@pytest.fixture
def said(monkeypatch, capsys):
    """Call a command that ends well and give back what it printed."""

    def call(*words: object) -> str:
        monkeypatch.setattr(sys, "argv", ["stackwise", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        assert not ended.value.code, printed.err
        return printed.out

    return call


def test_a_language_model_is_pruned_on_text_and_loads_with_its_sparsity(
    command, folder, text, tmp_path
):
    knobs = ("sparsity=0.75", "epochs=2", "every=2", "batch_size=2")
    sets = [word for knob in knobs for word in ("--set", knob)]
    out = tmp_path / "sparse"
    words = ("apply", "gradual-pruning", folder, "--data", text, "--length", 8, "--out", out, *sets)
    code, error = command(*words)
    assert code == 0, error
    before = hf.AutoModelForCausalLM.from_pretrained(folder)
    sparse = hf.AutoModelForCausalLM.from_pretrained(out / "model")
    weights = {
        name: weight
        for name, weight in sparse.named_parameters()
        if weight.ndim == 2 and "proj" in name
    }
    assert len(weights) == 14
    for name, weight in weights.items():
        zeros = int((weight == 0).sum())
        assert zeros == weight.numel() - round(weight.numel() * 0.25), name
        kept = weight != 0
        assert not torch.equal(weight[kept], before.get_parameter(name)[kept])  # it was trained
    assert hf.AutoTokenizer.from_pretrained(out / "model")("w3 w4")["input_ids"] == [3, 4]
    assert command(*words, "--resume")[0] == 0
    text.write_text(text.read_text(encoding="utf-8") + " w3", encoding="utf-8")
    code, error = command(*words, "--resume")
    assert code == 2 and "the data (or how they are read and split)" in error


def told(command_output: str, name: str) -> list[str]:
    return [line for line in command_output.splitlines() if line.startswith(name)]


@pytest.mark.parametrize("words", [(), ("--task", "text")])
def test_what_pruning_costs_is_said_beside_what_it_was(said, folder, text, tmp_path, words):
    knobs = ("sparsity=0.9", "epochs=1", "every=1", "batch_size=2", "lr=0.5")
    sets = [word for knob in knobs for word in ("--set", knob)]
    out = said("apply", "gradual-pruning", folder, "--data", text, "--length", 8, "--out",
               tmp_path / "out", *words, *sets)  # fmt: skip
    record = runs.Run(tmp_path / "out").record
    assert told(out, "a pass:") and told(out, "a thousand samples:")
    (sizes,) = told(out, "bytes:")
    assert "with zeros packed" in sizes
    measured = record["measured"]
    assert measured["after"]["bytes"] == measured["before"]["bytes"]
    assert measured["after"]["packed_bytes"] < 0.6 * measured["before"]["packed_bytes"]
    old, new = (scores["validation"]["bits_per_byte"] for scores in (
        record["before"]["scores"], record["scores"]))  # fmt: skip
    assert told(out, "validation bits_per_byte:") == [
        f"validation bits_per_byte: {old:.5g} before, {new:.5g} after"
    ]


def test_without_data_bytes_and_speed_are_said(said, folder, tmp_path):
    out = said("apply", "gradual-pruning", folder, "--set", "epochs=0", "--set", "sparsity=0.9",
               "--out", tmp_path / "out")  # fmt: skip
    assert told(out, "bytes:") and told(out, "a pass:") and not told(out, "Warning")


def test_what_cannot_be_used_is_said_in_one_sentence(command, folder, text, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(folder, bare, ignore=lambda *_: [p.name for p in folder.glob("*token*")])
    empty = tmp_path / "empty.txt"
    empty.write_text("\n\n", encoding="utf-8")
    encoder = tmp_path / "encoder"
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2}
    config = hf.BertConfig(vocab_size=50, num_hidden_layers=1, **sizes)
    hf.BertForMaskedLM(config).save_pretrained(encoder)
    for model, data, sentence in (
        (bare, text, f"{bare} has no tokenizer"),
        (folder, empty, "empty holds no text"),
        (folder, tmp_path / "gone.txt", "gone.txt"),
        (encoder, text, "a BertForMaskedLM is no causal language model"),
    ):
        out = tmp_path / "out"
        code, error = command("apply", "gradual-pruning", model, "--data", data, "--out", out)
        last = error.strip().splitlines()[-1]
        assert code == 2 and last.startswith("Error: ") and sentence in last
        assert not out.exists()
