"""A model is rebuilt from its files to files, and is the one that Stack.rebuild makes."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from stack_families import FAMILIES, build, run

from stackwise.errors import ModelError
from stackwise.models import open_model
from stackwise.stack import Stack, rebuild_saved

torch.set_num_threads(1)

SAVED = [name for name, family in FAMILIES.items() if family.kind != "rows"]
ORDER = [0, 1, 1, 3]


def saved(family: str, folder: Path, **options: Any) -> Path:
    """A model of the family in a folder, in bfloat16 as pretrained models are."""
    model = build(family)
    model.to(torch.bfloat16).save_pretrained(folder, **options)
    return folder


@pytest.mark.parametrize("family", SAVED)
def test_a_rebuilt_folder_is_what_a_rebuilt_model_is(family: str, tmp_path: Path) -> None:
    side = FAMILIES[family].side
    folder = saved(family, tmp_path / "model")
    try:
        want: Any = Stack.of(open_model(folder), side=side).rebuild(ORDER)
    except ModelError as error:  # its config cannot say the order: refused here as well
        with pytest.raises(ModelError, match="loaded again|only run"):
            rebuild_saved(folder, ORDER, tmp_path / "new", side=side)
        assert "path()" in str(error) or "order" in str(error)
        return
    rebuild_saved(folder, ORDER, tmp_path / "new", side=side)
    got = open_model(tmp_path / "new")
    ours, theirs = got.state_dict(), want.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert torch.equal(run(got, family), run(want, family))
    # bit for bit the file's own numbers, in the file's own type
    kept = load_file(tmp_path / "new" / "model.safetensors")
    assert {t.dtype for t in kept.values() if t.is_floating_point()} == {torch.bfloat16}


def rebuilt_both_ways(folder: Path, order: list[int], out: Path, **where: Any) -> tuple[Any, Any]:
    rebuild_saved(folder, order, out, **where)
    return open_model(out), Stack.of(open_model(folder), **where).rebuild(order)


def same_weights(one: Any, other: Any) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[n], right[n]) for n in left)


@pytest.mark.parametrize("order", [[2, 0], [3, 3, 1], [1]])
def test_the_table_of_positions_stays_with_the_first_place(
    order: list[int], tmp_path: Path
) -> None:
    folder = saved("t5-decoder", tmp_path / "model")
    assert same_weights(*rebuilt_both_ways(folder, order, tmp_path / "new", side="decoder"))


def test_experts_that_a_file_names_one_by_one(tmp_path: Path) -> None:
    from transformers import MixtralConfig, MixtralForCausalLM

    torch.manual_seed(0)
    MixtralForCausalLM(
        MixtralConfig(
            vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=3,
            num_attention_heads=2, num_key_value_heads=1, num_local_experts=3,
        )
    ).save_pretrained(tmp_path / "model")  # fmt: skip
    assert same_weights(*rebuilt_both_ways(tmp_path / "model", [0, 1, 0, 2], tmp_path / "new"))


def test_shards_are_read_and_written(tmp_path: Path) -> None:
    folder = saved("llama", tmp_path / "model", max_shard_size="4KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    new = rebuild_saved(folder, ORDER, tmp_path / "new", most_bytes=6_000)
    index = json.loads((new / "model.safetensors.index.json").read_text())
    files = sorted(path.name for path in new.glob("*.safetensors"))
    assert files == sorted(set(index["weight_map"].values())) and len(files) > 2
    assert index["metadata"]["total_size"] == sum(
        t.nbytes for name in files for t in load_file(new / name).values()
    )
    assert same_weights(open_model(new), Stack.of(open_model(folder)).rebuild(ORDER))


def test_what_lies_beside_the_weights_goes_along(tmp_path: Path) -> None:
    folder = saved("llama", tmp_path / "model")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "optimizer.bin").write_bytes(b"0")
    names = {path.name for path in rebuild_saved(folder, ORDER, tmp_path / "new").iterdir()}
    assert names == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
        "chat_template.jinja",
    }  # fmt: skip


def test_what_cannot_be_rebuilt_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    folder = saved("llama", tmp_path / "model")
    with pytest.raises(ModelError, match="there is no block 9"):
        rebuild_saved(folder, [0, 9], tmp_path / "new")
    with pytest.raises(ModelError, match="is no model folder"):
        rebuild_saved(tmp_path / "none", [0], tmp_path / "new")
    with pytest.raises(ModelError, match="is not empty"):
        rebuild_saved(folder, [0], folder)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-10])
    with pytest.raises(ModelError, match="no whole safetensors file"):
        rebuild_saved(folder, [0], tmp_path / "new")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="only weights in safetensors"):
        rebuild_saved(folder, [0], tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_files_that_do_not_name_the_blocks_are_refused(tmp_path: Path) -> None:
    folder = saved("llama", tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    kept = {name: t for name, t in tensors.items() if ".layers.2." not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="do not name 4 blocks at 'model.layers'"):
        rebuild_saved(folder, [0], tmp_path / "new")


def test_the_bytes_are_copied_where_the_kernel_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved("llama", tmp_path / "model")
    by_kernel = rebuild_saved(folder, ORDER, tmp_path / "one")
    monkeypatch.delattr("os.copy_file_range")
    by_hand = rebuild_saved(folder, ORDER, tmp_path / "two")
    files = [one / "model.safetensors" for one in (by_kernel, by_hand)]
    assert files[0].read_bytes() == files[1].read_bytes()
    shutil.rmtree(folder)  # nothing of the old files is needed any more
    open_model(by_kernel)
