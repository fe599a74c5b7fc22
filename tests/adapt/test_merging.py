"""Deltas put on for good, as a plain model folder."""

import json

import pytest
import torch
from delta_families import Gain, delta_of, model_of, same_bits, state
from transformers import AutoModelForCausalLM, AutoTokenizer

from stackwise.adapt import WeightDelta, deltas_on, merge_delta
from stackwise.conformance import small_language_model
from stackwise.errors import ModelError
from stackwise.models import open_model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_merged_folder_is_the_model_with_them_on(dtype, tmp_path):
    base = model_of("gpt2").to(dtype)
    base.save_pretrained(tmp_path / "base")
    kept = []
    for kind in ("low-rank", "lora", "sparse"):
        delta_of(kind, base.float()).save(tmp_path / kind)
        kept.append(tmp_path / kind)
    base = base.to(dtype)
    assert merge_delta(tmp_path / "base", kept, tmp_path / "out") == tmp_path / "out"
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    for folder in kept:
        WeightDelta.load(folder).put(base)
    assert same_bits(state(merged), state(base))
    assert merged.dtype == dtype and merged.lm_head.weight is merged.transformer.wte.weight
    assert not list(tmp_path.glob(".out-*"))


def test_the_tokenizer_goes_along_and_that_of_a_delta_before_that_of_the_base(tmp_path):
    base = small_language_model()
    delta = delta_of("sparse", open_model(base))
    delta.save(tmp_path / "plain")
    merge_delta(base, [tmp_path / "plain"], tmp_path / "one")
    assert AutoTokenizer.from_pretrained(tmp_path / "one").get_vocab() == (
        AutoTokenizer.from_pretrained(base).get_vocab()
    )
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = "{{ messages }}"
    tokenizer.save_pretrained(tmp_path / "plain")
    merge_delta(base, [tmp_path / "plain"], tmp_path / "two")
    assert AutoTokenizer.from_pretrained(tmp_path / "two").chat_template == "{{ messages }}"
    assert not (tmp_path / "two" / "delta.json").exists()
    assert json.loads((tmp_path / "two" / "config.json").read_text())["model_type"] == "llama"


def test_a_given_object_is_left_as_it_was(tmp_path):
    model = model_of("llama")
    before, one, two = state(model), delta_of("dense", model, 1), delta_of("dense", model, 2)
    one.put(model)
    merge_delta(model, [two], tmp_path / "out")
    assert deltas_on(model) == (one,)
    two.put(model)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert same_bits(state(merged), state(model))
    one.take_off(model)
    two.take_off(model)
    assert same_bits(state(model), before)


def test_what_cannot_be_merged_leaves_no_folder(tmp_path):
    model, plain = model_of("llama"), model_of("plain")
    gain = delta_of("gain", model)
    assert isinstance(gain, Gain)
    held = gain.put(model_of("llama"))
    delta = delta_of("dense", model_of("llama", 3))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    for make, words in [
        (lambda: merge_delta(model, [gain], tmp_path / "out"), "cannot be merged"),
        (lambda: merge_delta(held, [], tmp_path / "out"), "cannot be merged"),
        (lambda: merge_delta(model, [delta], tmp_path / "out"), "was made for a base"),
        (lambda: merge_delta(plain, [], tmp_path / "out"), "has no save_pretrained"),
        (lambda: merge_delta(model, [tmp_path], tmp_path / "out"), "holds no delta"),
        (lambda: merge_delta(model, [], tmp_path / "full"), "is not empty"),
    ]:
        with pytest.raises(ModelError, match=words):
            make()
    assert {path.name for path in tmp_path.iterdir()} == {"full"} and deltas_on(model) == ()
