"""Read the files that packages carry, each in its own form."""

import csv
import gzip
import html
import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

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


def middles(folder: Path, side: int) -> "tuple[np.ndarray, np.ndarray]":
    """ImageNet's pictures in foolbox: the middle of each (7/8 of its shorter side), at one size.

    Returns:
        (n, side, side, 3) and the numbers of their classes among ImageNet's 1,000.
    """
    import numpy as np
    from PIL import Image

    pictures, classes = [], []
    for path in sorted(folder.glob("imagenet_*.jpg")):
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        length = int(min(picture.size) * 0.875)
        left, top = ((whole - length) // 2 for whole in picture.size)
        middle = picture.crop((left, top, left + length, top + length))
        pictures.append(np.asarray(middle.resize((side, side), Image.Resampling.BICUBIC)))
        classes.append(int(path.stem.rpartition("_")[2]))
    return np.stack(pictures), np.array(classes)


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


def sentinel_crop(file: Path) -> "tuple[np.ndarray, list[str]]":
    """Bands of 10 m of a Sentinel-2 scene, reflectances times 10,000."""
    import numpy as np

    values = np.array(json.loads(file.read_text(encoding="utf-8")), dtype=np.uint16)
    return values, ["B02", "B03", "B04", "B08"]


def landsat_spectra(file: Path) -> "pd.DataFrame":
    """Pixels of Landsat 8, each of a land cover."""
    import pandas as pd

    found = json.loads(file.read_text(encoding="utf-8"))
    return pd.DataFrame({name: list(values.values()) for name, values in found.items()})


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


def chatterbot_subjects(folder: Path) -> tuple[list[str], list[str]]:
    """What is said first in each exchange, and the subject of the exchange; each text once."""
    first = {chat["messages"][0]["content"]: chat["subject"] for chat in chatterbot(folder)}
    return list(first), list(first.values())


def drug_reviews(file: Path) -> str:
    return "\n".join(text for text, _ in _rated(file, "Train"))


def drug_ratings(file: Path) -> tuple[list[str], list[str]]:
    """All reviews, those of the test file last, and what each rates its drug."""
    rated = [*_rated(file, "Train"), *_rated(file, "Test")]
    return [text for text, _ in rated], [rating for _, rating in rated]


def drug_names(file: Path) -> dict[str, Any]:
    """All reviews as they are written, HTML entities too, and the names of the drugs that they are
    about, by which they are tagged.

    A name column of "a / b" names two. Parted at every "/", it would make the number 20 a drug, the
    most frequent one; of fewer than three letters none is a name.
    """
    rows = [*_reviews(file, "Train"), *_reviews(file, "Test")]
    names = {
        name.strip() for row in rows for name in html.unescape(row["drugName"] or "").split(" / ")
    }
    letters = {name: sum(sign.isalpha() for sign in name) for name in names}
    return {
        "texts": [text for row in rows if (text := (row["review"] or "").strip('"').strip())],
        "names": sorted(name for name in names if letters[name] >= 3),
        "label": "drug",
        "common": ["plan b", "sulfur", "lithium", "caffeine"],
    }


def tweet_entities(file: Path) -> list[dict[str, Any]]:
    """Tweets with the tags of ten types: a word and its tag a line, a blank line between."""
    found: list[dict[str, Any]] = []
    begun = False
    for line in file.read_text(encoding="utf-8").split("\n"):
        token, _, tag = line.strip().rpartition("\t")
        if token and not begun:
            found.append({"tokens": [], "tags": []})
        begun = bool(token)
        if begun:
            found[-1]["tokens"].append(token)
            found[-1]["tags"].append(tag)
    return found


def _rated(file: Path, part: str) -> list[tuple[str, str]]:
    """The reviews of a part that hold something, and their ratings."""
    read = [
        (" ".join((row["review"] or "").strip('"').split()), row["rating"])
        for row in _reviews(file, part)
    ]
    return [(text, rating) for text, rating in read if text]


def _reviews(file: Path, part: str) -> list[dict[str, str]]:
    """The rows of a part."""
    with zipfile.ZipFile(file) as archive:
        name = next(name for name in archive.namelist() if part in name and "MACOSX" not in name)
        lines = io.TextIOWrapper(archive.open(name), "utf-8")
        return list(csv.DictReader(lines, delimiter="\t"))


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
