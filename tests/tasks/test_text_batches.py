"""Text files as batches of a language model, and pruning one with them from the command line."""

import shutil
import sys
from pathlib import Path

import pytest
import torch
import transformers as hf
from tokenizers import Tokenizer, models, pre_tokenizers

from stackwise import cli
from stackwise.errors import DataError
from stackwise.tasks.text_batches import IGNORED, token_batches

END = 2


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


def test_passages_are_packed_into_rows_of_one_length(tokenizer):
    batches = token_batches(["w3 w4 w5", "w6", "w7 w8 w9"], tokenizer, length=4, rows=2)
    assert [batch["input_ids"].shape for batch in batches] == [(2, 4), (1, 4)]
    ids = torch.cat([batch["input_ids"] for batch in batches]).flatten()
    mask = torch.cat([batch["attention_mask"] for batch in batches]).flatten()
    labels = torch.cat([batch["labels"] for batch in batches]).flatten()
    assert ids[:10].tolist() == [3, 4, 5, END, 6, END, 7, 8, 9, END]
    assert mask.tolist() == [1] * 10 + [0] * 2
    assert torch.equal(labels[:10], ids[:10]) and labels[10:].tolist() == [IGNORED] * 2


def test_no_row_of_a_single_token_is_left(tokenizer):
    batches = token_batches(["w3 w4 w5 w6"], tokenizer, length=4)
    assert batches[0]["input_ids"].tolist() == [[3, 4, 5, 6]]
    tokenizer_without_end = hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer._tokenizer)
    with pytest.raises(DataError, match="fewer than two tokens"):
        token_batches(["w3"], tokenizer_without_end)


def test_padding_does_not_change_the_loss(folder, tokenizer):
    model = hf.AutoModelForCausalLM.from_pretrained(folder)
    words = "w3 w9 w4 w17 w5"
    padded = token_batches([words], tokenizer, length=12)[0]
    exact = token_batches([words], tokenizer, length=6)[0]
    assert (exact["attention_mask"] == 1).all() and (padded["attention_mask"] == 0).any()
    torch.testing.assert_close(model(**padded).loss, model(**exact).loss)


def test_a_language_model_is_pruned_on_text_and_loads_with_its_sparsity(
    command, folder, text, tmp_path
):
    knobs = ("sparsity=0.75", "epochs=2", "every=2", "batch_size=2")
    sets = [word for knob in knobs for word in ("--set", knob)]
    out = tmp_path / "sparse"
    words = ("apply", "gradual-pruning", folder, "--data", text, "--out", out, *sets)
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
    text.write_text("w1 w2 w3", encoding="utf-8")
    code, error = command(*words, "--resume")
    assert code == 2 and "started with another data" in error


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
        (folder, empty, f"{empty} holds no text"),
        (folder, tmp_path / "gone.txt", "gone.txt is not a file"),
        (encoder, text, "a BertForMaskedLM is no causal language model"),
    ):
        out = tmp_path / "out"
        code, error = command("apply", "gradual-pruning", model, "--data", data, "--out", out)
        last = error.strip().splitlines()[-1]
        assert code == 2 and last.startswith("Error: ") and sentence in last
        assert not out.exists()
