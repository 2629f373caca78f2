"""Masks as one text for all frames, in the formats of other tools."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any, NamedTuple
from xml.sax.saxutils import escape, quoteattr

import cv2
import numpy as np
from scipy.spatial import KDTree

from dataset.shapes import runs

WITHIN = 0.49  # pixels from their centres: on the lines between them, rounding would decide which are inside
Masks = Iterable[tuple[int, np.ndarray]]  # numbers of frames, and their label maps (H, W)


class Annotated(NamedTuple):
    """A video and the objects in it."""

    video: str  # its name
    files: list[str]  # of the frames
    times: list[Fraction]  # of the frames, in seconds
    size: tuple[int, int]  # (H, W)
    objects: Mapping[int, str]  # names by number


def coco(what: Annotated, masks: Masks) -> Iterator[str]:
    """COCO's JSON with uncompressed RLE: runs down the columns, of background first.  `track_id` is the object's number."""
    height, width = what.size
    images = [{"id": i + 1, "file_name": name, "width": width, "height": height} for i, name in enumerate(what.files)]
    classes = classes_of(what.objects)
    categories = [{"id": place + 1, "name": name} for name, place in classes.items()]
    top = json.dumps({"images": images, "categories": categories}, ensure_ascii=False)
    yield f'{top[:-1]}, "annotations": [\n'
    written = 0
    for index, labels in masks:
        for number, name, mask in _parts(what, labels):
            if mask.any():
                yield ",\n" if written else ""
                written += 1
                entry: dict[str, Any] = {"id": written, "image_id": index + 1, "category_id": classes[name] + 1}
                entry |= {"track_id": number, "iscrowd": 0, "area": int(mask.sum()), "bbox": _box(mask)}
                yield json.dumps(entry | {"segmentation": {"size": list(mask.shape), "counts": runs(mask.T)}})
    yield "\n]}\n"


def cvat(what: Annotated, masks: Masks) -> Iterator[str]:
    """CVAT for images 1.1: masks as runs along the rows of their box, of background first."""
    labels = "".join(f"<label><name>{escape(name)}</name><type>mask</type></label>" for name in classes_of(what.objects))
    task = f"<name>{escape(what.video)}</name><size>{len(what.files)}</size><labels>{labels}</labels>"
    yield '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'
    yield f"<meta><task>{task}</task></meta>\n"
    height, width = what.size
    for index, labels in masks:
        yield f'<image id="{index}" name={quoteattr(what.files[index])} width="{width}" height="{height}">\n'
        for _, name, mask in _parts(what, labels):
            if mask.any():
                left, top, wide, high = _box(mask)
                counts = ", ".join(map(str, runs(mask[top : top + high, left : left + wide])))
                yield f'<mask label={quoteattr(name)} source="semi-auto" occluded="0" rle="{counts}" '
                yield f'left="{left}" top="{top}" width="{wide}" height="{high}" z_order="0"></mask>\n'
        yield "</image>\n"
    yield "</annotations>\n"


def areas(what: Annotated, masks: Masks) -> Iterator[str]:
    """A table of areas, centroids and boxes in pixels, a line for each frame and object; an absent object has area 0."""
    columns = "frame file seconds object name area share centroid_x centroid_y left top width height"
    yield _row(columns.split())
    for index, labels in masks:
        seconds = f"{float(what.times[index]):.4f}"
        for number, name, mask in _parts(what, labels):
            ys, xs = np.nonzero(mask)
            place = [f"{xs.mean():.2f}", f"{ys.mean():.2f}", *_box(mask)] if len(xs) else [""] * 6
            share = f"{len(xs) / labels.size:.6f}"
            yield _row([index, what.files[index], seconds, number, name, len(xs), share, *place])


FORMATS = {"coco": coco, "cvat": cvat, "areas": areas}
FILES = {"coco": "coco.json", "cvat": "cvat.xml", "areas": "areas.csv"}


def classes_of(objects: Mapping[int, str]) -> dict[str, int]:
    """The class of each name, from 0: objects of one name are of one."""
    return {name: place for place, name in enumerate(dict.fromkeys(objects.values()))}


def yolo_lines(labels: np.ndarray, objects: Mapping[int, str]) -> str:
    """The outlines of all objects as YOLO has them: class and corners as parts of width and height, a line for each object.

    YOLO has no holes; outlines of one object are joined by a way there and back, as its own tools do.
    """
    height, width = labels.shape
    lines, classes = [], classes_of(objects)
    for number, name in objects.items():
        outlines, _ = cv2.findContours((labels == number).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        if outlines:
            corners = _joined([_corners(outline) for outline in outlines]).clip(0, (width, height))
            parts = (corners / (width, height)).reshape(-1)
            lines.append(" ".join([str(classes[name]), *(f"{value:.6f}" for value in parts)]))
    return "".join(f"{line}\n" for line in lines)


def _corners(outline: np.ndarray) -> np.ndarray:
    """An outline of OpenCV's as corners (N, 2), x and y of pixels' centres; around a straight line of pixels."""
    centres = outline[:, 0] + 0.5
    if len(outline) > 2:
        return centres
    along = np.sign(centres[-1] - centres[0])
    along = WITHIN * along / abs(along).sum() if along.any() else np.array([WITHIN, 0])
    across = np.array([along[1], -along[0]])
    first, last = centres[0] - along, centres[-1] + along
    return np.array([first - across, last - across, last + across, first + across])


def _joined(outlines: list[np.ndarray]) -> np.ndarray:
    """Closed outlines (N, 2) as one, (M, 2): each joins those before it where they are nearest."""
    result, *others = outlines
    for other in others:
        distances, nearest = map(np.atleast_1d, KDTree(result).query(other))
        j = int(distances.argmin())
        i = int(nearest[j])
        there_and_back = np.concatenate([other[j:], other[: j + 1], result[i : i + 1]])
        result = np.insert(result, i + 1, there_and_back, axis=0)
    return result


def yolo_data(objects: Mapping[int, str]) -> str:
    """`data.yaml` of a YOLO data set: the folder of the pictures, and the classes."""
    names = "".join(f"  {place}: {json.dumps(name, ensure_ascii=False)}\n" for name, place in classes_of(objects).items())
    return f"train: images\nval: images\nnames:\n{names}"


def object_names(objects: Mapping[int, str]) -> str:
    """A table of the objects' numbers and names."""
    return "".join(map(_row, [["object", "name"], *objects.items()]))


def _parts(what: Annotated, labels: np.ndarray) -> Iterator[tuple[int, str, np.ndarray]]:
    """Number, name and mask (H, W) bool of each object."""
    return ((number, name, labels == number) for number, name in what.objects.items())


def _box(mask: np.ndarray) -> list[int]:
    """Left, top, width and height of what is in a mask."""
    return list(cv2.boundingRect(mask.astype(np.uint8)))


def _row(values: Iterable[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()
