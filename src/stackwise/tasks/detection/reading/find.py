"""Find the annotated pictures of a source, of whichever kind it is; none is decoded here."""

import os
from pathlib import Path
from typing import Any

from stackwise.errors import DataError, nearest
from stackwise.tasks.detection.marks import kind_of
from stackwise.tasks.detection.reading.annotated import Gathered
from stackwise.tasks.detection.reading.coco import find_coco
from stackwise.tasks.detection.reading.records import find_records
from stackwise.tasks.detection.reading.voc import find_voc
from stackwise.tasks.detection.reading.yolo import find_yolo
from stackwise.tasks.images.reading.find import find_pictures
from stackwise.tasks.labelled.found import Found, objects

FINDERS = {"coco": find_coco, "voc": find_voc, "yolo": find_yolo, "records": find_records}


def find_annotated(source: Any) -> Found:
    """The pictures of a source and the boxes of each, as `Boxes`.

    Args:
        source: a COCO json, a data.yaml of YOLO, parquet, or a folder of one of the four kinds; a
            named set; in Python (pictures, boxes).

    Raises:
        DataError: it is none of these, or it is damaged.
    """
    if isinstance(source, tuple) and len(source) == 2:
        return _in_memory(*source)
    if not isinstance(source, (str, os.PathLike)):
        raise DataError(
            f"annotated pictures are a folder, a file or (pictures, boxes), not a "
            f"{type(source).__name__}"
        )
    path = Path(os.fspath(source))
    try:
        kind = kind_of(path)
        if kind is not None:
            return FINDERS[kind](path)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if path.exists():
        raise DataError(
            f"{path} annotates no pictures: give COCO's json, VOC's xml, YOLO's txt, or a column "
            "objects of datasets"
        )
    from stackwise import data

    known = {entry.name for entry in data.names("detection")}
    if str(source) in known:
        return _in_memory(*data.detection(str(source)))
    raise DataError(f"{path} does not exist, and is no named set.{nearest(str(source), known)}")


def find_bare(source: Any) -> Found:
    """The pictures of a source in which boxes are looked for, annotated or not."""
    if isinstance(source, (str, os.PathLike)):
        path = Path(os.fspath(source))
        if (path.exists() and kind_of(path) is not None) or not path.exists():
            return find_annotated(source)
        found = find_pictures(source, labelled=False)
        import pandas as pd

        ids = objects(range(1, len(found) + 1))
        return Found(
            found.samples, found.names, columns=pd.DataFrame({"id": ids}), notes=found.notes
        )
    if isinstance(source, tuple) and len(source) == 2:
        return find_annotated(source)
    return _in_memory(source, None)


def _in_memory(pictures: Any, boxes: Any, parts: Any = None) -> Found:
    """Pictures that lie in memory."""
    from stackwise.tasks.detection.reading.scenes import scenes_of

    scenes = scenes_of(pictures)
    if boxes is not None and len(boxes) != len(scenes):
        raise DataError(f"{len(scenes):,} pictures have {len(boxes):,} lists of boxes")
    gathered = Gathered()
    for row in range(len(scenes)):
        part = None if parts is None else str(parts[row])
        gathered.add(scenes.contents[row], scenes.names[row],
                     None if boxes is None else boxes[row], part)  # fmt: skip
    return gathered.found("the list of pictures")
