"""The registered probe: what it takes, what it gives, and that it leaves the model alone."""

import numpy as np
import pytest
import torch

from stackwise.errors import DataError, KnobError, ModelError
from stackwise.findings import Findings
from stackwise.probe.depth_efficiency import depth_efficiency
from stackwise.probe.depth_efficiency.prompts import examples_of, read_passages

from .conftest import DEPTH, encoder, ids, language_model, residual_network, vision_transformer

TEXT = " ".join(f"w{i}" for i in range(3, 33))


def test_a_language_model_gets_every_table_and_figure(llama):
    found = depth_efficiency(llama, ids(3))
    square = {"skip", "future", "local", "local_future"}
    assert set(found.tables) == square | {
        "norms", "contribution", "cosine", "skip_output", "future_output", "lens",
    }  # fmt: skip
    assert all(found.tables[name].shape == (DEPTH, DEPTH) for name in square)
    assert set(found.figures) == square | {"contribution", "cosine", "output", "lens"}
    assert found.summary["prompts"] == 3 and found.summary["depth"] == DEPTH
    assert len(found.summary["sentences"]) == 5 and found.summary["notes"] == []


def test_findings_are_kept(llama, tmp_path):
    found = depth_efficiency(llama, ids(1))
    found.save(tmp_path)
    kept = Findings.load(tmp_path)
    np.testing.assert_allclose(kept.tables["skip"], found.tables["skip"])
    assert (tmp_path / "figures" / "future.png").stat().st_size > 5000
    assert kept.summary["sentences"] == found.summary["sentences"]


def test_the_model_is_left_bit_for_bit_as_it_was(llama):
    llama.train()
    example = ids()[0]
    before = llama(input_ids=example).logits
    depth_efficiency(llama, ids(2), part="attention")
    assert torch.equal(llama(input_ids=example).logits, before)
    assert llama.training
    hooks = [m for m in llama.modules() if m._forward_hooks or m._forward_pre_hooks]
    assert hooks == []


def test_the_same_call_gives_the_same_numbers(llama):
    one, two = (depth_efficiency(llama, ids(2), random_state=3, splits=2) for _ in range(2))
    for name, table in one.tables.items():
        assert table.equals(two.tables[name])


def test_the_mean_is_below_the_maximum(llama):
    high, mean = (depth_efficiency(llama, ids(2), reduce=how) for how in ("max", "mean"))
    upper = np.triu_indices(DEPTH, k=1)
    assert (mean.tables["skip"].to_numpy()[upper] < high.tables["skip"].to_numpy()[upper]).all()


def test_a_folder_and_a_file_of_prompts_are_enough(model_folder, tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text(f"{TEXT}\n{TEXT[::-1]}\n", encoding="utf-8")
    found = depth_efficiency(model_folder, str(path), max_tokens=20)
    assert found.summary["prompts"] == 2 and found.summary["tokens"] == 40
    tokens = [torch.arange(3, 23)[None]]
    by_ids = depth_efficiency(language_model(), tokens, probes=["lens"])
    by_text = depth_efficiency(model_folder, [TEXT], max_tokens=20, probes=["lens"])
    np.testing.assert_allclose(by_ids.tables["lens"], by_text.tables["lens"], rtol=1e-4, atol=1e-6)


def test_without_data_it_reads_prose_that_comes_with_python(model_folder):
    found = depth_efficiency(model_folder, prompts=2, max_tokens=16, probes=["contribution"])
    assert found.summary["tokens"] == 32


def test_padding_is_not_measured(llama):
    short, long = ids(1, tokens=15)[0], ids(1, tokens=20, seed=2)[0]
    padded = torch.cat([torch.cat([short, torch.zeros(1, 5, dtype=torch.long)], 1), long])
    mask = torch.ones_like(padded)
    mask[0, 15:] = 0
    batch = {"input_ids": padded, "attention_mask": mask, "labels": padded}
    one, two = depth_efficiency(llama, [batch]), depth_efficiency(llama, [short, long])
    for name, table in one.tables.items():
        assert table.equals(two.tables[name])


def test_prompts_are_paragraphs_where_there_are_any_and_lines_otherwise(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("one\ntwo\n\n\nthree\n", encoding="utf-8")
    assert read_passages(path) == ["one\ntwo", "three"]
    path.write_text("one\n  two\n", encoding="utf-8")
    assert read_passages(path) == ["one", "two"]


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "holds no text"), (b"\xff\xfe\x00", "not UTF-8")]
)
def test_an_unreadable_file_is_named(llama, tmp_path, content, message):
    path = tmp_path / "prompts.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"prompts.txt .*{message}"):
        depth_efficiency(llama, path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("missing.txt", "missing.txt is not a file"),
        (["some words"], "no tokenizer"),
        ([], "holds no prompt"),
        (3, "data is int"),
    ],
)
def test_data_that_cannot_be_read_is_refused(llama, data, message):
    with pytest.raises(DataError, match=message):
        depth_efficiency(llama, data)


def test_a_vision_transformer_gets_all_but_the_future():
    found = depth_efficiency(vision_transformer(), [{"pixel_values": torch.randn(2, 3, 16, 16)}])
    assert {"skip", "local", "lens", "cosine"} <= set(found.tables)
    assert not {"future", "local_future"} & set(found.tables)
    assert "attention" in found.tables["contribution"]
    assert any("left out future" in note for note in found.summary["notes"])


def test_a_post_norm_encoder_gets_whole_blocks_alone():
    found = depth_efficiency(encoder(), ids(2))
    assert "attention" not in found.tables["contribution"]
    assert any("apart" in note for note in found.summary["notes"])


def test_a_residual_network_on_rows_is_probed():
    found = depth_efficiency(residual_network(), [(torch.randn(8, 5), torch.zeros(8))])
    assert found.tables["skip"].shape == (3, 3) and found.tables["lens"]["overlap"].iloc[-1] == 1


def test_what_is_asked_for_by_name_is_not_left_out_silently():
    with pytest.raises(ModelError, match="future effects need a causal model"):
        depth_efficiency(encoder(), ids(1), probes=["future"])
    with pytest.raises(DataError, match="the prompt has 6 tokens; splits need at least 13"):
        depth_efficiency(language_model(), ids(1, tokens=6), probes=["future"])
    found = depth_efficiency(language_model(), ids(1, tokens=6))
    assert any("no future to measure" in note for note in found.summary["notes"])


def test_an_unknown_measurement_and_a_bad_knob_are_named(llama):
    with pytest.raises(KnobError, match="Did you mean 'future'"):
        depth_efficiency(llama, ids(1), probes=["futur"])
    with pytest.raises(KnobError, match="splits must be at least 1"):
        depth_efficiency(llama, ids(1), splits=0)
    with pytest.raises(KnobError, match="reduce"):
        depth_efficiency(llama, ids(1), reduce="median")


def test_a_stream_that_is_not_finite_is_refused(llama):
    with torch.no_grad():
        llama.model.layers[1].mlp.down_proj.weight[0] = torch.nan
    with pytest.raises(ModelError, match="NaN or infinite"):
        depth_efficiency(llama, ids(1))


def test_only_so_many_prompts_are_read(llama):
    examples = examples_of(llama, iter(ids(9)), prompts=2, max_tokens=5)
    assert len(examples) == 2 and examples[0]["input_ids"].shape == (1, 5)


def test_each_side_of_an_encoder_decoder_is_probed():
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    config = T5Config(
        vocab_size=50, d_model=32, d_kv=8, d_ff=48, num_layers=3, num_heads=4,
        decoder_start_token_id=0, pad_token_id=0, eos_token_id=2,
    )  # fmt: skip
    model = T5ForConditionalGeneration(config)
    decoder = depth_efficiency(model, ids(1), side="decoder")
    assert "future" in decoder.tables and "attention" not in decoder.tables["contribution"]
    encoder_side = depth_efficiency(model, ids(1), side="encoder")
    assert (
        "future" not in encoder_side.tables and "attention" in encoder_side.tables["contribution"]
    )
    with pytest.raises(ModelError, match="side='encoder' or side='decoder'"):
        depth_efficiency(model, ids(1))


def test_prompts_are_read_from_records_and_with_a_byte_order_mark(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"prompt": "a\u2028b"}\n{"text": "c"}\n', encoding="utf-8")
    assert read_passages(tmp_path / "p.jsonl") == ["a\u2028b", "c"]
    (tmp_path / "p.txt").write_text("a\u2028b\r\nc", encoding="utf-8-sig")
    assert read_passages(tmp_path / "p.txt") == ["a\u2028b", "c"]
