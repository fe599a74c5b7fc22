"""Small files and models under the names that the documentation's commands use."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from beir_files import beir
from stackwise.conformance import small_language_model
from stackwise.models import save_model
from stackwise.stack.saved import rebuild_saved
from stackwise.tasks.anomalies.small import small_series as small_anomalies
from stackwise.tasks.detection.small import small_scenes
from stackwise.tasks.images.small import small_pictures
from stackwise.tasks.labels.small import small_texts
from stackwise.tasks.rasters.small import small_scene
from stackwise.tasks.series.small import small_series
from stackwise.tasks.tags.small import small_sentences
from stackwise.tasks.vqa.estimators.vision import new_vision
from stackwise.tasks.vqa.small import small_questions

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
    """Write every stand-in below `place`; MODEL and smollm2-135m have so many blocks, four or
    more.
    """
    tables(place)
    texts(place)
    collection(place)
    pictures(place)
    annotated(place)
    moments(place)
    series(place)
    scenes(place)
    tagged(place)
    asked(place)
    for name in MODELS:
        shutil.copytree(small_language_model(), place / name)
    for name in ("MODEL", "smollm2-135m") if blocks > 4 else ():
        shutil.rmtree(place / name)
        order = [number % 4 for number in range(blocks)]
        rebuild_saved(small_language_model(), order, place / name)


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


def moments(place: Path) -> None:
    """A series with labelled anomalies, and one without labels."""
    frame = small_anomalies()
    frame.to_csv(place / "plant.csv", index=False)
    frame.drop(columns="fault").to_csv(place / "later.csv", index=False)


def collection(place: Path) -> None:
    """Documents, queries and judgements, in the folder and in one of their own."""
    for folder in (place, place / "collection"):
        beir(folder)


def pictures(place: Path) -> None:
    """Pictures, a folder a class, and some without a class; and the same of other classes."""
    for number, (picture, label) in enumerate(zip(*small_pictures(60), strict=True)):
        other = f"target/{'square' if label == 'square' else 'bar'}"
        for folder in (f"photos/{label}", other, *(["new_photos"] if number < 4 else [])):
            (place / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(place / folder / f"{number}.png")


def annotated(place: Path) -> None:
    """Pictures with boxes, as COCO has them, and some without."""
    images, annotations, categories = [], [], {"disc": 1, "square": 2}
    for folder in ("boxes", "pictures"):
        (place / folder).mkdir()
    for number, (picture, (boxes, labels)) in enumerate(zip(*small_scenes(30), strict=True)):
        name = f"{number:02d}.png"
        Image.fromarray(picture).save(place / "boxes" / name)
        if number < 3:
            Image.fromarray(picture).save(place / "pictures" / name)
        images.append({"id": number, "file_name": name})
        for (x1, y1, x2, y2), label in zip(boxes.tolist(), labels, strict=True):
            annotations.append({
                "id": len(annotations), "image_id": number, "category_id": categories[label],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
            })  # fmt: skip
    known = [{"id": number, "name": name} for name, number in categories.items()]
    content = {"images": images, "annotations": annotations, "categories": known}
    (place / "boxes" / "boxes.json").write_text(json.dumps(content))


def scenes(place: Path) -> None:
    """A scene, what is known of it, and another one of the same bands."""
    import rasterio
    from rasterio.transform import from_origin

    about = {"driver": "GTiff", "height": 24, "width": 24, "crs": "EPSG:32754",
             "transform": from_origin(500_000, 6_500_000, 10, 10)}  # fmt: skip
    cube, units = small_scene()
    named = {"scene": cube, "other": cube[:, ::-1], "map": units[None].astype("uint8")}
    for name, bands in named.items():
        more = {"count": len(bands), "dtype": bands.dtype}
        with rasterio.open(place / f"{name}.tif", "w", **about, **more) as dataset:
            dataset.write(bands)


def tagged(place: Path) -> None:
    """A word and its tag a line, and a text without."""
    sentences = zip(*small_sentences(), strict=True)
    blocks = ["".join(f"{word}\t{tag}\n" for word, tag in zip(*one)) for one in sentences]
    (place / "train.conll").write_text("\n".join(blocks))
    (place / "notes.txt").write_text("I took Xanax in Rome\nthey sell Cipro near New York now\n")


def asked(place: Path) -> None:
    """Questions about pictures, with answers and without, and a vision transformer."""
    folder = place / "letters"
    folder.mkdir()
    lines = []
    for number, one in enumerate(small_questions()):
        Image.fromarray(one["image"]).save(folder / f"{number}.png")
        lines.append(json.dumps(one | {"image": f"{number}.png"}) + "\n")
    (folder / "questions.jsonl").write_text("".join(lines))
    (folder / "new.jsonl").write_text("".join(lines[:4]))
    tower = new_vision(side=224, patch=56, channels=3, layers=2, width=16, heads=2)
    save_model(tower, place / "dinov2-small")


def series(place: Path) -> None:
    """Waves with a class each, as .ts files and as a row a moment; and what a forecast reads."""
    waves, forms = small_series(count=30)
    channels = [":".join(",".join(map(str, one)) for one in wave).replace("nan", "?")
                for wave in waves]  # fmt: skip
    head = "@problemName engines\n@classLabel {}\n@data\n"
    told = [f"{one}:{form}" for one, form in zip(channels, forms, strict=True)]
    (place / "engines.ts").write_text(head.format("true saw sine square") + "\n".join(told))
    (place / "new.ts").write_text(head.format("false") + "\n".join(channels[:4]))
    moments = pd.concat([
        pd.DataFrame({"machine": f"m{row}", "heat": wave[0], "shake": wave[1], "fault": form})
        for row, (wave, form) in enumerate(zip(waves, forms, strict=True))
    ])  # fmt: skip
    moments.to_parquet(place / "machines.parquet")
    hours = pd.date_range("2026-01-01", periods=150, freq="h")
    load = np.sin(np.arange(150) / 4)
    pd.DataFrame({"hour": hours, "load": load, "wind": load[::-1]}).to_csv(
        place / "load.csv", index=False
    )


def texts(place: Path) -> None:
    """A corpus, prompts, chats, questions, and texts with a label."""
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
    domain = [{"text": f"the {a} box is beside the {b} one, said the {b} fox."} for a, b in pairs]
    labels = [
        {"text": text, "label": label} for text, label in zip(*small_texts(), strict=True)
    ]  # fmt: skip
    every = {"chats": chats, "questions": choices, "reviews": labels, "task": labels,
             "new_domain": 2 * domain, "few": chats[::2], "code": chats, "sums": chats[::-1],
             "both": chats}  # fmt: skip
    for name, records in every.items():
        text = "".join(json.dumps(record) + "\n" for record in records)
        (place / f"{name}.jsonl").write_text(text)
