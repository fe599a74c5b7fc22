"""Read the files that packages carry, each in its own form."""

import csv
import gzip
import io
import json
import os
import shutil
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stackwise.optional import needs

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


def keel(file: Path, columns: int) -> "pd.DataFrame":
    import pandas as pd

    names = [f"x{i}" for i in range(columns)] + ["class"]
    frame = pd.read_csv(file, header=None, names=names, skipinitialspace=True)
    frame["class"] = frame["class"].astype(str)
    return frame


def from_tar(file: Path, member: str) -> "pd.DataFrame":
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


def read_csv(file: Path) -> "pd.DataFrame":
    import pandas as pd

    return pd.read_csv(file)


def read_folded(file: Path) -> "pd.DataFrame":
    return fold_one_hot(read_csv(file))


def read_credit(file: Path) -> "pd.DataFrame":
    return fold_one_hot(read_csv(file)).drop(columns="ID")


def diabetes(file: Path) -> "pd.DataFrame":
    import pandas as pd

    names = ["age", "sex", "bmi", "blood_pressure", *(f"serum_{i}" for i in range(1, 7))]
    frame = pd.read_csv(file, header=None, names=names, sep=r"\s+")
    frame["sex"] = frame["sex"].astype(int).astype(str)
    target = file.with_name("diabetes_target.csv.gz")
    return frame.assign(progression=pd.read_csv(target, header=None)[0].to_numpy())


def flights(file: Path) -> "pd.DataFrame":
    """Flights that arrived; what is only known on arrival (air_time, arr_time) is left out."""
    frame = read_csv(file).dropna(subset="arr_delay")
    return frame.drop(columns=["air_time", "arr_time", "year"]).reset_index(drop=True)


def movielens(folder: Path) -> "pd.DataFrame":
    """Ratings in the order of their time, with user and film; liked means 4 or more of 5."""
    import pandas as pd

    parts = {
        name: pd.read_csv(folder / f"ml-100k.{name}", sep="\t")
        for name in ("inter", "user", "item")
    }
    for part in parts.values():
        part.columns = [str(column).partition(":")[0] for column in part]
    frame = parts["inter"].merge(parts["user"], on="user_id").merge(parts["item"], on="item_id")
    frame = frame.sort_values(["timestamp", "user_id", "item_id"], kind="stable")
    frame["liked"] = (frame.pop("rating") >= 4).map({True: "yes", False: "no"})
    codes = ["user_id", "item_id", "zip_code", "release_year"]
    frame[codes] = frame[codes].astype("string").radd("n")  # labels, not amounts
    frame = frame.rename(columns={"class": "genres", "movie_title": "title"})
    return frame.drop(columns="title").reset_index(drop=True)


def mnist_csv(file: Path) -> "tuple[np.ndarray, np.ndarray]":
    import pandas as pd

    values = pd.read_csv(file, header=None).to_numpy()
    return values[:, :784].reshape(-1, 28, 28).astype("uint8"), values[:, 784].astype("int64")


def digits(file: Path) -> "tuple[np.ndarray, np.ndarray]":
    """Ink of 0 to 16 a pixel, brought to 0 to 255."""
    import pandas as pd

    values = pd.read_csv(file, header=None).to_numpy()
    images = (values[:, :64] * 255 / 16).round().reshape(-1, 8, 8)
    return images.astype("uint8"), values[:, 64].astype("int64")


def lfw_subset(file: Path) -> "tuple[np.ndarray, np.ndarray]":
    """A hundred faces, then a hundred pieces of background."""
    import numpy as np

    images = np.load(file, allow_pickle=False)
    return (images * 255).round().astype("uint8"), np.repeat(["face", "background"], 100)


def emoji(folder: Path) -> "tuple[np.ndarray, np.ndarray]":
    """The base emoji, each with its category; skin tones alone ("Component") are left out."""
    import numpy as np
    from PIL import Image

    listed = json.loads((folder / "emoji.json").read_text(encoding="utf-8"))
    kept = [one for one in listed if one["has_img_google"] and one["category"] != "Component"]
    images = np.empty((len(kept), 64, 64, 4), np.uint8)
    for place, one in enumerate(kept):
        with Image.open(folder / "img" / "google" / "64" / Path(one["image"]).name) as image:
            images[place] = np.asarray(image.convert("RGBA"))
    return images, np.array([one["category"] for one in kept])


def idx_images(folder: Path) -> "tuple[np.ndarray, np.ndarray]":
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


def python_source(folder: Path) -> str:
    left_out = {"test", "tests", "idlelib", "site-packages", "lib2to3", "__pycache__"}
    files = [p for p in sorted(folder.rglob("*.py")) if not left_out & set(p.parts)]
    return "\n".join(file.read_text(encoding="utf-8", errors="replace") for file in files)


def semanlink(file: Path) -> str:
    documents = json.loads(file.read_text(encoding="utf-8"))
    texts = [" ".join((d["arxiv_summary"] or d["comment"] or "").split()) for d in documents]
    return "\n".join(text for text in texts if len(text) >= 300)


def chatterbot(folder: Path) -> list[dict[str, Any]]:
    """Each exchange as a chat: the user and the assistant take turns."""
    import yaml

    found = []
    for path in sorted(folder.glob("*.yml")):
        for turns in yaml.safe_load(path.read_text(encoding="utf-8"))["conversations"]:
            roles = ("user", "assistant")
            messages = [
                {"role": roles[place % 2], "content": str(text).strip()}
                for place, text in enumerate(turns)
            ]
            if len(messages) > 1 and all(message["content"] for message in messages):
                found.append({"messages": messages, "subject": path.stem})
    return found


def drug_reviews(file: Path) -> str:
    with zipfile.ZipFile(file) as archive:
        name = next(name for name in archive.namelist() if "Train" in name and "MACOSX" not in name)
        rows = csv.DictReader(io.TextIOWrapper(archive.open(name), "utf-8"), delimiter="\t")
        reviews = [" ".join((row["review"] or "").strip('"').split()) for row in rows]
    return "\n".join(text for text in reviews if text)


def brown(folder: Path) -> str:
    names = [line.split()[0] for line in (folder / "cats.txt").read_text().splitlines() if line]
    lines = []
    for name in names:
        for line in (folder / name).read_text().splitlines():
            words = [word.rpartition("/")[0] for word in line.split()]
            if words:
                lines.append(" ".join(words))
    return "\n".join(lines)


def speeches(folder: Path) -> str:
    files = sorted(folder.glob("*.txt"))
    return "\n".join(file.read_text(encoding="utf-8", errors="replace") for file in files)


def smollm2(folder: Path) -> Path:
    """Unpack the GGUF file once into the cache, as a folder that `from_pretrained` reads."""
    needs("transformers", "a language model")
    needs("gguf", "this packed model")
    from stackwise.files import cache_folder, writing_cache

    ready = cache_folder() / "models" / "smollm2-135m"
    if not (ready / "config.json").is_file():
        with writing_cache(ready):
            _unpack(folder, ready)
    return ready


def _unpack(folder: Path, ready: Path) -> None:
    import torch
    import transformers

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
        try:
            os.replace(beside, ready)
        except OSError:
            if not (ready / "config.json").is_file():  # no other process was faster
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
