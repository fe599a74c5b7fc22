"""The same pictures and boxes in each of the formats that are read."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from stackwise.tasks.detection.small import CLASSES, small_scenes

SIDE = 64


def pictures(folder: Path, count: int = 12, start: int = 0) -> list:
    """Write pictures; returns the boxes and labels of each."""
    folder.mkdir(parents=True, exist_ok=True)
    scenes, truth = small_scenes(start + count)
    for number in range(start, start + count):
        Image.fromarray(scenes[number]).save(folder / f"{number:03d}.png")
    return truth[start : start + count]


def as_coco(folder: Path, count: int = 12, *, start: int = 0, name: str = "boxes.json") -> Path:
    """COCO's json beside the pictures."""
    truth = pictures(folder, count, start)
    images, annotations = [], []
    for place, (boxes, labels) in enumerate(truth):
        number = start + place
        images.append({"id": 100 + number, "file_name": f"{number:03d}.png"})
        for (x1, y1, x2, y2), label in zip(boxes.tolist(), labels):
            annotations.append({
                "id": len(annotations), "image_id": 100 + number,
                "category_id": 7 + CLASSES.index(label), "bbox": [x1, y1, x2 - x1, y2 - y1],
            })  # fmt: skip
    categories = [{"id": 7 + place, "name": label} for place, label in enumerate(CLASSES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / name).write_text(json.dumps(content))
    return folder


def as_voc(folder: Path, count: int = 12) -> Path:
    """Pascal VOC's xml beside the pictures."""
    for number, (boxes, labels) in enumerate(pictures(folder, count)):
        objects = "".join(
            f"<object><name>{label}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin>"
            f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
            for (x1, y1, x2, y2), label in zip(boxes, labels)
        )
        text = f"<annotation><filename>{number:03d}.png</filename>{objects}</annotation>"
        (folder / f"{number:03d}.xml").write_text(text)
    return folder


def as_yolo(folder: Path, count: int = 12) -> Path:
    """YOLO's folders images and labels, and classes.txt."""
    (folder / "labels").mkdir(parents=True)
    for number, (boxes, labels) in enumerate(pictures(folder / "images", count)):
        lines = []
        for (x1, y1, x2, y2), label in zip(boxes / SIDE, labels):
            middle = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
            lines.append(f"{CLASSES.index(label)} " + " ".join(f"{one:.8f}" for one in middle))
        (folder / "labels" / f"{number:03d}.txt").write_text("\n".join(lines))
    (folder / "classes.txt").write_text("\n".join(CLASSES))
    return folder


def as_records(folder: Path, count: int = 12) -> Path:
    """metadata.jsonl beside the pictures, as `datasets` has it."""
    lines = []
    for number, (boxes, labels) in enumerate(pictures(folder, count)):
        size = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
        objects = {"bbox": size.tolist(), "categories": labels.tolist()}
        lines.append(json.dumps({"file_name": f"{number:03d}.png", "objects": objects}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


def as_parquet(file: Path, count: int = 12) -> Path:
    """A column of pictures and a column objects, classes by number."""
    import datasets

    truth = pictures(file.parent / "made", count)
    rows = []
    for number, (boxes, labels) in enumerate(truth):
        size = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
        content = (file.parent / "made" / f"{number:03d}.png").read_bytes()
        rows.append({
            "image": {"bytes": content, "path": None},
            "objects": {"bbox": size.tolist(), "category": [CLASSES.index(of) for of in labels]},
        })  # fmt: skip
    named = datasets.ClassLabel(names=list(CLASSES))
    features = datasets.Features({
        "image": datasets.Image(),
        "objects": {"bbox": datasets.List(datasets.List(datasets.Value("float32"))),
                    "category": datasets.List(named)},
    })  # fmt: skip
    datasets.Dataset.from_list(rows, features=features).to_parquet(file)
    return file
