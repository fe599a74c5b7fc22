"""Small files and models under the names that the documentation's commands use."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from stackwise.conformance import small_language_model
from stackwise.stack.saved import rebuild_saved
from stackwise.tasks.images.small import small_pictures

TABLES = """
[[table]]
source = "a.csv"
target = "price"

[[table]]
source = "b.csv"
target = "label"
"""
MODELS = ("MODEL", "FOLDER", "path/to/hf-model", "smollm2-135m")


def lay_out(place: Path, *, blocks: int = 4) -> None:
    """Write every stand-in below `place`; MODEL has so many blocks, four or more."""
    tables(place)
    texts(place)
    pictures(place)
    for name in MODELS:
        shutil.copytree(small_language_model(), place / name)
    if blocks > 4:
        shutil.rmtree(place / "MODEL")
        order = [number % 4 for number in range(blocks)]
        rebuild_saved(small_language_model(), order, place / "MODEL")


def tables(place: Path) -> None:
    """Tables with a price, a label or a click to predict, and rows without."""
    rng = np.random.default_rng(0)
    rows = 60
    frame = pd.DataFrame({"size": rng.normal(size=rows), "kind": rng.choice(list("abc"), rows)})
    price = 3 * frame["size"] + (frame["kind"] == "a") + rng.normal(0, 0.1, rows)
    yes = np.where(price > 0, "yes", "no")
    frame.to_csv(place / "new.csv", index=False)
    for name in ("sales.csv", "a.csv"):
        frame.assign(price=price).to_csv(place / name, index=False)
    frame.assign(label=yes).to_csv(place / "b.csv", index=False)
    frame.assign(y=price).to_parquet(place / "c.parquet")
    frame.assign(y=price).to_csv(place / "data.csv", index=False)
    clicks = {"ad": rng.integers(1, 9, rows), "zone": rng.integers(1, 5, rows), "click": yes}
    pd.DataFrame(clicks).to_csv(place / "clicks.csv", index=False)
    (place / "tables.toml").write_text(TABLES)


def pictures(place: Path) -> None:
    """Pictures, a folder a class, and some without a class."""
    for number, (picture, label) in enumerate(zip(*small_pictures(60), strict=True)):
        for folder in ("photos/" + label, *(["new_photos"] if number < 4 else [])):
            (place / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(place / folder / f"{number}.png")


def texts(place: Path) -> None:
    """A corpus, prompts, chats and questions."""
    words = ("red", "green", "blue", "small", "large")
    pairs = [(a, b) for a in words for b in words]
    (place / "corpus").mkdir()
    for number in range(12):
        lines = [f"the {a} box is beside the {b} one." for a, b in 2 * pairs[number:]]
        (place / "corpus" / f"{number}.txt").write_text("\n".join(lines))
    (place / "prompts.txt").write_text("".join(f"the {a} box is {b}\n" for a, b in pairs[:6]))
    chats = [{"prompt": f"say {a} {b}", "response": f"{a} {b}"} for a, b in pairs]
    choices = [
        {"question": f"which is {a}?", "choices": [a, b], "answer": a} for a, b in pairs if a < b
    ][:6]
    for name, records in (("chats", chats), ("questions", choices)):
        text = "".join(json.dumps(record) + "\n" for record in records)
        (place / f"{name}.jsonl").write_text(text)
