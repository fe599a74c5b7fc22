"""Packages that only some methods need, each with the extra that brings it."""

import importlib
import importlib.util

from stackwise.errors import NotInstalled

EXTRAS = {
    "transformers": "llm", "tokenizers": "llm", "datasets": "llm", "gguf": "llm",
    "xgboost": "boost", "onnx": "onnx", "onnxruntime": "onnx", "onnxscript": "onnx",
    "polars": "polars", "ray": "ray", "peft": "peft", "faiss": "retrieval",
    "bm25s": "retrieval", "fastapi": "serve", "uvicorn": "serve",
    "tensorboard": "track", "mlflow": "track", "huggingface_hub": "hub",
    "catboost": "catboost", "rasterio": "rasters",
    "faster_coco_eval": "detection",
}  # fmt: skip
"""Modules by the extra that brings them."""

SERVES = {
    "llm": "language models", "boost": "XGBoost in comparisons", "onnx": "stackwise export",
    "polars": "polars frames", "ray": "compare --on ray", "peft": "adapters of peft",
    "retrieval": "search over words and vectors", "serve": "stackwise serve",
    "track": "--track tensorboard or mlflow",
    "hub": "stackwise push", "catboost": "CatBoost in comparisons", "rasters": "GeoTIFF",
    "detection": "the scores of detectors",
}  # fmt: skip
"""What each extra is for."""


def needs(module: str, what: str) -> None:
    """Refuse work that needs a package which is not here; otherwise the package is imported.

        needs("transformers", "a language model")
        from transformers import AutoTokenizer

    Raises:
        NotInstalled: one sentence with the command that installs it.
    """
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise NotInstalled(
            f"{what} needs {module}: pip install 'stackwise[{EXTRAS[module]}]'"
        ) from error


def lacking(extra: str) -> list[str]:
    """The modules of an extra that are not here; nothing is imported."""
    return [
        module
        for module, brought in EXTRAS.items()
        if brought == extra and importlib.util.find_spec(module) is None
    ]
