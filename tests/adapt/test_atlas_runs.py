"""From files to files: runs, model folders and adapters as donors, and what a run keeps."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from delta_families import lora_of, model_of, same_bits, state
from safetensors.torch import load_file
from scaled_models import tuned
from transformers import AutoModelForCausalLM

from stackwise import load
from stackwise.adapt.atlas import merge_saved, task_arithmetic
from stackwise.adapt.atlas.arithmetic import Unmapped
from stackwise.conformance import small_language_model
from stackwise.conformance.small_models import half_language_model
from stackwise.errors import ModelError
from stackwise.models import open_model
from stackwise.stack.shards import MadePiece, read_pieces, write_pieces

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """MODEL, two fine-tuned forms of it, an adapter of it, and lines of text."""
    place = tmp_path_factory.mktemp("atlas")
    shutil.copytree(small_language_model(), place / "MODEL")
    for seed in (1, 2):
        shutil.copytree(place / "MODEL", place / f"tuned{seed}")
        tuned(open_model(place / "MODEL"), seed, 0.05).save_pretrained(place / f"tuned{seed}")
    lora_of(open_model(place / "MODEL"), 3)[0].save(place / "adapter")
    words = ("red", "green", "blue", "small", "large")
    lines = [f"the {a} box is beside the {b} one, said the {b} fox" for a in words for b in words]
    (place / "few.txt").write_text("\n".join(lines))
    return place


def on_text(place: Path, out: Path, *more: str) -> list[object]:
    donors = ",".join(str(place / one) for one in ("tuned1", "tuned2", "adapter"))
    return ["apply", "atlas", place / "MODEL", "--set", f"donors={donors}",
            "--data", place / "few.txt", "--task", "text", "--length", "16", "--out", out,
            "--set", "epochs=1", *more]  # fmt: skip


def test_a_run_holds_a_plain_model_its_coefficients_and_their_picture(
    place: Path, tmp_path: Path, command: Command
):
    code, _, told = command(*on_text(place, tmp_path / "out"))
    assert code == 0, told
    made = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "model")
    base = open_model(place / "MODEL")
    table = pd.read_csv(tmp_path / "out" / "coefficients.csv", index_col=0)
    assert list(table.columns) == ["block", "tuned1", "tuned2", "adapter"]
    assert (tmp_path / "out" / "figures" / "coefficients.png").stat().st_size > 1000
    by_hand = base.model.layers[0].mlp.up_proj.weight.detach().clone()
    row = table.set_index("block").loc["model.layers.0.mlp.up_proj.weight"]
    for name in ("tuned1", "tuned2"):
        donor = open_model(place / name).model.layers[0].mlp.up_proj.weight
        by_hand += row[name] * (donor - base.model.layers[0].mlp.up_proj.weight).detach()
    adapter = lora_of(base, 3)[0].parts["model.layers.0.mlp.up_proj.weight"]
    by_hand += row["adapter"] * adapter.dense(by_hand)
    assert torch.allclose(made.model.layers[0].mlp.up_proj.weight, by_hand, atol=1e-5)
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert len(record["models"]["donors"]) == 3 and record["before"]["scores"]
    assert (
        record["scores"]["validation"]["loss"] <= record["before"]["scores"]["validation"]["loss"]
    )


def test_a_donor_that_changed_meanwhile_is_another_request(
    place: Path, tmp_path: Path, command: Command
):
    copied = tmp_path / "place"
    shutil.copytree(place, copied)
    words = on_text(copied, tmp_path / "out", "--set", "epochs=0")
    assert command(*words)[0] == 0
    assert command(*words, "--resume")[0] == 0
    tuned(open_model(copied / "MODEL"), 7, 0.05).save_pretrained(copied / "tuned1")
    code, _, told = command(*words, "--resume")
    assert code == 2 and "other settings" in told


def test_bad_requests_are_refused_in_a_sentence(place: Path, tmp_path: Path, command: Command):
    for words, told in [
        (["--set", "budget=4"], "budget is 4, and there are 3 donors"),
        (["--set", "objective=negate"], "negation without a control"),
        (["--set", f"donors={tmp_path}"], "neither a stackwise run"),
        (["--set", "objective=ufm"], "a class a sample"),
        (["--set", "linearised=true"], "returns a tensor"),
        (["--set", f"control={tmp_path}/none"], "is no file, no folder"),
    ]:
        code, _, error = command(*on_text(place, tmp_path / "out", *words))
        assert code == 2 and told in error and "Traceback" not in error, (words, error)
        assert not (tmp_path / "out" / "model").exists()


# ------------------------------------------------------------------------------- files to files


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert", "vit", "t5"])
def test_arithmetic_on_disk_is_that_in_memory(family: str, tmp_path: Path):
    base = model_of(family)
    donors = [tuned(base, seed) for seed in (1, 2)]
    for name, one in (("base", base), ("a", donors[0]), ("b", donors[1])):
        one.save_pretrained(tmp_path / name)
    folders = [tmp_path / "a", tmp_path / "b"]
    merge_saved(tmp_path / "base", tmp_path / "out", donors=folders, alpha=0.3)
    merged = open_model(tmp_path / "out")
    wanted = task_arithmetic(base, donors, 0.3)
    for name, weight in wanted.named_parameters():
        found = merged.get_parameter(name)
        assert torch.allclose(found, weight, rtol=1e-5, atol=1e-6), name
    again = merge_saved(tmp_path / "base", tmp_path / "none", donors=folders, alpha=0.0)
    assert same_bits(state(open_model(again)), state(open_model(tmp_path / "base")))


def test_halves_on_disk_are_summed_in_float32_and_rounded_once(tmp_path: Path):
    source = half_language_model(tmp_path / "base")
    for seed in (1, 2):
        model = tuned(open_model(source), seed, 0.05).bfloat16()
        model.save_pretrained(tmp_path / f"t{seed}")
    donors = [tmp_path / "t1", tmp_path / "t2"]
    merge_saved(source, tmp_path / "out", donors=donors, alpha=0.4)
    base, one, two, made = (
        load_file(folder / "model.safetensors") for folder in (source, *donors, tmp_path / "out")
    )
    for name, weight in made.items():
        first, plain = base[name].float(), weight.float()
        total = first + 0.4 * (one[name].float() - first) + 0.4 * (two[name].float() - first)
        assert weight.dtype == torch.bfloat16
        assert bool(((plain - total).abs() <= total.abs() * 2.0**-8 + 1e-8).all())  # half a bit
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (source / name).read_bytes()


def test_on_disk_shards_become_shards(tmp_path: Path):
    base = model_of("llama")
    tuned(base, 1).save_pretrained(tmp_path / "a", max_shard_size="2KB")
    base.save_pretrained(tmp_path / "base", max_shard_size="3KB")
    pieces = read_pieces(tmp_path / "base")
    merge_saved(tmp_path / "base", tmp_path / "out", donors=[tmp_path / "a"], alpha=1.0)
    assert read_pieces(tmp_path / "out").keys() == pieces.keys()
    made = open_model(tmp_path / "out")
    for name, weight in tuned(base, 1).named_parameters():
        if name != "lm_head.weight":
            assert torch.allclose(made.get_parameter(name), weight, atol=1e-6)
    with pytest.raises(ModelError, match="is not empty"):
        merge_saved(tmp_path / "base", tmp_path / "out", donors=[tmp_path / "a"], alpha=1.0)


def test_an_adapter_cannot_be_mapped_and_is_merged_all_the_same(
    place: Path, tmp_path: Path, command: Command
):
    with pytest.raises(Unmapped):
        merge_saved(place / "MODEL", tmp_path / "x", donors=[place / "adapter"], alpha=1.0)
    for donor in ("adapter", "tuned1"):
        code, _, told = command("apply", "atlas", place / "MODEL", "--set", "alpha=0.5",
                                "--set", f"donors={place / donor}",
                                "--out", tmp_path / donor)  # fmt: skip
        assert code == 0, told
        made = open_model(tmp_path / donor / "model")
        wanted = task_arithmetic(open_model(place / "MODEL"), [place / donor], 0.5)
        assert torch.allclose(made.lm_head.weight, wanted.lm_head.weight, atol=1e-6)
        up = made.model.layers[1].mlp.up_proj.weight
        assert torch.allclose(up, wanted.model.layers[1].mlp.up_proj.weight, atol=1e-5)


def test_a_damaged_donor_is_named(place: Path, tmp_path: Path):
    shutil.copytree(place / "tuned1", tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match="cut off"):
        merge_saved(place / "MODEL", tmp_path / "out", donors=[tmp_path / "cut"], alpha=1.0)
    assert not (tmp_path / "out").exists()


def test_a_piece_that_is_made_fills_its_place(tmp_path: Path):
    numbers = torch.arange(12, dtype=torch.float32).view(3, 4)
    model_of("plain")
    from safetensors.torch import save_file

    save_file({"one": numbers, "two": numbers.half()}, tmp_path / "model.safetensors")
    pieces = read_pieces(tmp_path)
    made = {
        name: MadePiece(p.file, p.dtype, p.shape, p.start, p.size, parts)
        for (name, p), parts in zip(
            pieces.items(), [lambda: (numbers[:1] + 1, numbers[1:] + 1), lambda: [numbers[0]]]
        )
    }
    (tmp_path / "out").mkdir()
    write_pieces(pieces | {"one": made["one"]}, tmp_path / "out")
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert torch.equal(found["one"], numbers + 1) and torch.equal(found["two"], numbers.half())
    with pytest.raises(ModelError, match="two was made of 16 bytes in place of 24"):
        write_pieces({"two": made["two"]}, tmp_path / "out")


@pytest.mark.slow
def test_the_merge_is_mergekits_task_arithmetic(tmp_path: Path):
    pytest.importorskip("mergekit")
    from mergekit.config import MergeConfiguration
    from mergekit.merge import MergeOptions, run_merge

    base = model_of("llama")
    base.save_pretrained(tmp_path / "base")
    for seed in (1, 2):
        tuned(base, seed).save_pretrained(tmp_path / f"t{seed}")
    donors = [tmp_path / "t1", tmp_path / "t2"]
    config = MergeConfiguration.model_validate({
        "merge_method": "task_arithmetic", "base_model": str(tmp_path / "base"),
        "dtype": "float32", "parameters": {"normalize": False},
        "models": [{"model": str(d), "parameters": {"weight": 0.3}} for d in donors],
    })  # fmt: skip
    run_merge(config, str(tmp_path / "theirs"), MergeOptions(copy_tokenizer=False, quiet=True))
    merge_saved(tmp_path / "base", tmp_path / "ours", donors=donors, alpha=0.3, exclude=[])
    theirs, ours = (open_model(tmp_path / name) for name in ("theirs", "ours"))
    for name, weight in ours.named_parameters():
        assert torch.allclose(weight, theirs.get_parameter(name), rtol=1e-5, atol=1e-6), name


# ------------------------------------------------------------------------------- our own runs


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["table", "images"])
def test_runs_of_ours_are_mixed(kind: str, tmp_path: Path, command: Command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if kind == "table":
        generator = np.random.default_rng(0)
        for name in ("a", "b"):
            frame = pd.DataFrame(generator.normal(size=(120, 3)), columns=list("xyz"))
            frame["price"] = frame["x"] * (3 if name == "a" else 1) - frame["y"]
            frame.to_csv(f"{name}.csv", index=False)
        data, other, more = "a.csv", "b.csv", ["--target", "price"]
        fit = ["fit", "mlp", data, *more]
    else:
        from PIL import Image

        from stackwise.tasks.images.small import small_pictures

        for number, (picture, label) in enumerate(zip(*small_pictures(60), strict=True)):
            Path("photos", label).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(f"photos/{label}/{number}.png")
        data = other = "photos"
        fit = ["fit", "residual-cnn", data, "--set", "width=4"]
    code, _, told = command(*fit, "--out", "base", "--set", "max_epochs=1")
    assert code == 0, told
    for seed in (1, 2):
        code, _, told = command("apply", "gradual-pruning", "base", "--data", other,
                                "--set", "sparsity=0", "--set", "epochs=4", "--seed", seed,
                                "--out", f"tuned{seed}")  # fmt: skip
        assert code == 0, told
    code, _, told = command("apply", "atlas", "base", "--set", "donors=tuned1,tuned2",
                            "--data", data, "--set", "epochs=2", "--out", "mixed")  # fmt: skip
    assert code == 0, told
    mixed, base = load("mixed"), load("base")
    head = next(name for name, _ in reversed(list(base.network_.named_parameters())))
    assert torch.equal(mixed.network_.get_parameter(head), base.network_.get_parameter(head))
    record = json.loads(Path("mixed/run.json").read_text())
    name = "rmse" if kind == "table" else "accuracy"
    before, after = (one["scores"]["validation"][name] for one in (record["before"], record))
    assert np.isfinite([before, after]).all()
    assert Path("mixed/coefficients.csv").is_file()
