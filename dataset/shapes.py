"""Masks as shapes in JSON: COCO (run lengths or polygons), YouTube-VIS, SAM's and labelme's files.

Written against the formats' descriptions, since `pycocotools` is no dependency.
"""

import base64
import io
import math
import re
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard

import numpy as np
from PIL import Image

from util.errors import InputError, names_some, shorten
from util.files import read_json
from util.image import open_picture, size_text

Masks = dict[str, np.ndarray]  # (H, W) bool by the object's name
LARGEST, LONGEST = 2**28, 2**16  # pixels; of a side
JAGGED = 16  # steps of an outline that may be by chance: 8 at most, in objects of 3 to 40 pixels
LAYOUT_ERRORS = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, OSError, Image.DecompressionBombError)
NO_OBJECT = ("__ignore__", "_background_")  # labelme's names
TRACKS = ("track_id", "instance_id", "object_id")  # where tools say which object an annotation shows
NO_TRACK = (None, "", -1)  # what they write there for none
CVAT_FRAME = re.compile(r"frame_(\d{6})\.PNG")  # CVAT's names for the frames of a film, counted from 0


def read_shapes(path: Path, video: str = "") -> dict[str, Masks]:
    """The masks in a JSON file, by the frame's name (empty if the file does not tell it) and the object's.

    Of pictures in several folders, it takes those in the video's.
    Raises `InputError` naming the file if it is none of these formats, or does not say which shapes are one object.
    """
    content = read_json(path)
    try:
        if isinstance(content, dict) and "shapes" in content:
            return {_stem(content.get("imagePath")) or path.stem: _labelme(content)}
        if isinstance(content, dict) and "videos" in content:
            return _youtube_vis(content)
        if isinstance(content, dict) and "annotations" in content and ("images" in content or "image" in content):
            return _coco(content, video)
        each = content if isinstance(content, list) else [content]
        if len({entry.get("image_id") for entry in each}) > 1:
            raise InputError("expected the names of images, found their image_id alone; add the list of images")
        masks = [entry.get("segmentation", entry) for entry in each]
        if masks and all("counts" in mask for mask in masks):
            agreeing = map(_agreeing, map(decode_rle, masks), each)
            return {"": {str(i): mask for i, mask in enumerate(agreeing, start=1)}}
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except MemoryError as error:
        raise InputError(f"{path}: expected masks that fit into memory, found more ({error})") from error
    except LAYOUT_ERRORS as error:
        raise InputError(f"{path}: expected COCO or labelme JSON, found another layout ({shorten(error)})") from error
    raise InputError(f"{path}: expected COCO or labelme JSON, found another layout; export PNG masks or COCO JSON")


def count_shapes(path: Path) -> tuple[int, int]:
    """How many frames and how many masks a JSON file has, without decoding them; 1 and 1 if that is not to be seen."""
    content = read_json(path)
    try:
        if "videos" in content:
            shown = [[bool(segmentation) for segmentation in entry["segmentations"]] for entry in content["annotations"]]
            return sum(map(any, zip(*shown, strict=True))), sum(map(sum, shown))
        entries = content["annotations"]
        return len({entry.get("image_id") for entry in entries}), len(entries)
    except LAYOUT_ERRORS:
        return 1, 1


def _coco(content: dict[str, Any], video: str) -> dict[str, Masks]:
    images = content["images"] if "images" in content else [content["image"]]
    categories = {entry["id"]: str(entry["name"]) for entry in content.get("categories", ())}
    by_image: dict[Any, list[dict]] = {}
    only = images[0].get("id") if len(images) == 1 else None
    for entry in content["annotations"]:
        by_image.setdefault(entry.get("image_id", only), []).append(entry)
    ids = [image.get("id") for image in images]
    if twice := [each for each, count in Counter(map(str, ids)).items() if count > 1]:
        raise InputError(f"expected an id of its own for each image, found {shorten(twice[0])} twice")
    if unknown := by_image.keys() - {*ids}:
        raise InputError(f"expected annotations of its images, found image_id {shorten(min(unknown, key=str))}")
    places = {_folder(image) for image in images}
    if len(places) > 1:
        if not (own := {place for place in places if video and video in place.parts}):
            raise InputError(f"expected the pictures of one folder, found those of {names_some(sorted(map(str, places)))}")
        images = [image for image in images if _folder(image) in own]
    result: dict[str, Masks] = {}
    whose: dict[str, object] = {}
    several: list[str] = []  # images with two objects of a category and nothing that tells them apart
    for image in images:
        entries = by_image.get(image.get("id"), [])
        name = _stem(image.get("file_name"))
        if entries and name in result:
            raise InputError(f"expected each frame once, found {name} twice")
        masks: Masks = {}
        called = [_category(entry.get("category_id"), categories) for entry in entries]
        for number, (category, entry) in enumerate(zip(called, entries, strict=True), start=1):
            facts = {**entry, **(entry.get("attributes") or {})}
            track = next((facts[key] for key in TRACKS if facts.get(key) not in NO_TRACK), None)
            track = int(track) if isinstance(track, float) and track.is_integer() else track  # 1.0, as some tools write it
            alone = called.count(category) == 1
            if track is None and not alone:
                several.append(f"several '{category}' in {name}")
            title = f"{category} {track}" if track is not None else category if alone else f"{category} #{number}"
            _refuse_two(whose, title, category)
            size = picture_size(image["height"], image["width"])
            mask = _agreeing(_segmentation(entry.get("segmentation"), size, entry.get("area")), entry)
            masks[title] = masks[title] | mask if title in masks else mask
        if entries:
            result[name] = masks
    if several and len(result) > 1:
        raise InputError(f"expected a track_id of each object, found {several[0]} without one: which is which?")
    return result


def _category(number: Any, names: dict[Any, str]) -> str:
    return names.get(number, "object" if number is None else f"category {number}")


def _youtube_vis(content: dict[str, Any]) -> dict[str, Masks]:
    if len(videos := content["videos"]) != 1:
        raise InputError(f"expected the annotations of one video, found {len(videos)}")
    video, result = videos[0], {}
    names, size = video["file_names"], picture_size(video["height"], video["width"])
    for entry in content["annotations"]:
        if "video_id" in entry and entry["video_id"] != video["id"]:
            raise InputError(f"expected annotations of video {video['id']}, found one of video {entry['video_id']}")
        facts = (entry.get(key) or [None] * len(names) for key in ("bboxes", "areas"))
        for name, segmentation, box, area in zip(names, entry["segmentations"], *facts, strict=True):
            masks = result.setdefault(_stem(name), {})
            if (title := str(entry["id"])) in masks:
                raise InputError(f"expected each object once in a frame, found {title} twice in {_stem(name)}")
            if segmentation:
                masks[title] = _agreeing(_segmentation(segmentation, size, area), {"bbox": box, "area": area})
            else:  # by the format, the object is not in this frame
                masks[title] = np.zeros(size, bool)
    shown = [name for name, masks in result.items() if any(mask.any() for mask in masks.values())]
    return {name: result[name] for name in shown} if len(shown) == 1 else result  # a first mask says nothing of other frames


def _labelme(content: dict[str, Any]) -> Masks:
    size = picture_size(content["imageHeight"], content["imageWidth"])
    masks: Masks = {}
    whose: dict[str, object] = {}
    for shape in content["shapes"]:
        group = shape.get("group_id")
        title = str(shape["label"]) + ("" if group is None else f" {group}")
        if shape["label"] in NO_OBJECT:
            raise InputError(
                f"expected objects, found a shape called {shape['label']}; remove it, or cut it out of the others"
            )
        if title in masks and group is None:
            raise InputError(
                f"expected a group_id where two shapes have one label, found '{title}' twice without: the same group_id if "
                "they are one object, else two labels"
            )
        _refuse_two(whose, title, shape["label"])
        mask = _not_empty(_labelme_shape(shape, size))
        masks[title] = masks[title] | mask if title in masks else mask
    return masks


def _refuse_two(whose: dict[str, object], title: str, name: object) -> None:
    """Raise `InputError` if another name, with or without a number, has made this title before."""
    if whose.setdefault(title, name) != name:
        raise InputError(
            f"expected names that differ, found '{title}' as a name, and as a name with a number: are they one object?"
        )


def _labelme_shape(shape: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
    points, kind = np.array(shape["points"], float), shape.get("shape_type") or "polygon"
    _refuse_no_pixels(points)
    if kind == "polygon":
        return fill_polygon(points, size)
    if kind == "rectangle":
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
        return fill_polygon(np.array([(left, top), (right, top), (right, bottom), (left, bottom)]), size)
    if kind == "circle":
        y, x = np.mgrid[: size[0], : size[1]] + 0.5
        return (x - points[0, 0]) ** 2 + (y - points[0, 1]) ** 2 <= ((points[1] - points[0]) ** 2).sum()
    if kind == "mask":
        found = np.array(open_picture(io.BytesIO(base64.b64decode(shape["mask"]))).convert("L")) != 0
        (left, top), (right, bottom) = points.min(axis=0).round().astype(int), points.max(axis=0).round().astype(int)
        box = (int(bottom - top + 1), int(right - left + 1))
        if max(abs(a - b) for a, b in zip(found.shape, box, strict=True)) > 1:
            raise InputError(f"expected a mask of {size_text(box)}, as its points, found {size_text(found.shape)}")
        found = found[max(0, -top) : max(0, size[0] - top), max(0, -left) : max(0, size[1] - left)]
        left, top = max(0, left), max(0, top)
        result = np.zeros(size, bool)
        result[top : top + found.shape[0], left : left + found.shape[1]] = found
        return result
    raise InputError(f"expected polygons, rectangles, circles or masks, found a {kind}, which has no area")


def _segmentation(found: Any, size: tuple[int, int], area: Any = None) -> np.ndarray:
    """A COCO segmentation (H, W) bool: run lengths, or polygons as lists of x and y in turn, which are added.

    Where its `area` says so, polygons within others are holes, as tools write them that take outlines from pixels.
    """
    if isinstance(found, dict):
        mask = decode_rle(found)
        if mask.shape != size:
            raise InputError(f"expected a mask of {size_text(size)}, as its image, found {size_text(mask.shape)}")
        return mask
    if not found:
        raise InputError("expected a segmentation of each object, found none; boxes are not enough")
    found = [found] if isinstance(found[0], int | float) else found
    polygons = [np.array(polygon, float).reshape(-1, 2) for polygon in found]
    _refuse_no_pixels(np.concatenate(polygons))
    filled = [fill_polygon(points, size) for points in polygons]
    edges = sum(float(np.hypot(*(np.roll(points, -1, axis=0) - points).T).sum()) for points in polygons)
    mask, with_holes = np.logical_or.reduce(filled), np.logical_xor.reduce(filled)
    if _is_number(area) and (least := np.count_nonzero(with_holes)) < np.count_nonzero(mask) and _nested(filled):
        off = max(least - area, area - least - edges / 2, 0)  # outlines through the centres of pixels lose half a pixel
        noise = edges / 20  # more than filling adds or loses by where the corners lie in their pixels
        if off + noise < np.count_nonzero(mask) - area and off <= 0.05 * area:
            return _not_empty(with_holes)
    return _not_empty(mask)


def _nested(filled: list[np.ndarray]) -> bool:
    """Whether polygons (H, W) bool that share pixels lie within others, but for a tenth."""
    covered = np.sum(filled, axis=0, dtype=np.uint16) > 1
    within = [mask for mask in filled if 10 * np.count_nonzero(mask & ~covered) <= np.count_nonzero(mask)]
    return not (covered & ~np.logical_or.reduce(within or [~covered])).any()


def _refuse_no_pixels(points: np.ndarray) -> None:
    if not (abs(points) <= LARGEST).all():
        raise InputError("expected coordinates in pixels, found others")
    if points.max() <= 1:
        raise InputError("expected coordinates in pixels, found numbers from 0 to 1")


def _agreeing(mask: np.ndarray, facts: dict[str, Any]) -> np.ndarray:
    """The same mask (H, W); raises `InputError` if it leaves about as many pixels as its `area` says, where told, or lies
    mostly outside its `bbox` (x, y, width, height), as if rows were columns.
    """
    box, area, shown = facts.get("bbox"), facts.get("area"), np.count_nonzero(mask)
    if _is_number(area) and abs(mask.size - shown - area) < 0.1 * area < abs(shown - area):
        raise InputError(f"expected a mask of {area:g} pixels, as its area says, found {shown}; is it inverted?")
    if box and min(box[2:]) > 1:
        left, top = (max(0, math.floor(corner)) for corner in box[:2])
        inside = mask[top : math.ceil(box[1] + box[3]), left : math.ceil(box[0] + box[2])]
        if 2 * np.count_nonzero(inside) < shown:
            raise InputError(
                f"expected masks within their bbox, found one mostly outside {shorten(box)}: do its runs go along rows?"
            )
    return mask


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float)


def _not_empty(mask: np.ndarray) -> np.ndarray:
    if not mask.any():  # else it would say that the object is gone
        raise InputError("expected shapes that hold pixels, found one that holds none")
    return mask


def fill_polygon(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The pixels (H, W) bool whose centres lie in a polygon of (x, y), (N, 2); where it crosses itself, the even-odd rule."""
    result = np.zeros(size, bool)
    x, y = points.T
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    for row in range(max(0, math.floor(y.min())), min(size[0], math.ceil(y.max()))):
        centre = row + 0.5
        crosses = (y <= centre) != (next_y <= centre)
        share = (centre - y[crosses]) / (next_y[crosses] - y[crosses])
        ends = np.ceil(np.sort(x[crosses] + share * (next_x[crosses] - x[crosses])) - 0.5).clip(0, size[1]).astype(int)
        for start, stop in zip(ends[::2], ends[1::2], strict=True):
            result[row, start:stop] = True
    return result


def decode_rle(rle: dict[str, Any]) -> np.ndarray:
    """COCO's run lengths, as numbers or compressed text, as a mask (H, W) bool.  Runs go down the columns, 0 first; raises
    `InputError` if they seem to go along the rows, since that outline is far less jagged.
    """
    height, width = picture_size(*rle["size"])
    counts = rle["counts"]
    counts = np.array(_uncompressed(counts) if isinstance(counts, str) else counts, np.int64)
    total = counts.sum(dtype=float)  # of integers, it would begin anew beyond the largest
    if (counts < 0).any() or total != height * width:
        raise InputError(f"expected run lengths of {height}x{width} pixels, found {total:.0f}")
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    mask, by_rows = flat.reshape(width, height).T, flat.reshape(height, width)
    jags, jags_by_rows = np.count_nonzero(mask[:, 1:] != mask[:, :-1]), np.count_nonzero(by_rows[1:] != by_rows[:-1])
    if 2 * jags > 3 * jags_by_rows + JAGGED:  # at most 1.3 times as many, in DAVIS
        raise InputError("expected runs down the columns, found some that make an outline only along the rows")
    return mask


def runs(mask: np.ndarray) -> list[int]:
    """The lengths of the runs of equal values in a boolean array, row by row; the first is of `False`, and may be 0."""
    flat = mask.ravel()
    edges = (np.flatnonzero(flat[1:] != flat[:-1]) + 1).tolist()
    return np.diff([0, *([0] if flat[0] else []), *edges, len(flat)]).tolist()


def encode_rle(mask: np.ndarray) -> str:
    """A mask (H, W) bool as COCO's compressed run lengths, which `decode_rle` reads."""
    counts, text = runs(mask.T), ""
    for i, count in enumerate(counts):
        value, more = count - (counts[i - 2] if i > 2 else 0), True
        while more:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text += chr(bits + 32 * more + 48)
    return text


def _uncompressed(text: str) -> list[int]:
    """Run lengths from COCO's text: groups of 5 bits from the lowest on, and a 6th bit that says whether more follow; the
    last group's highest bit is the sign; from the third run on, the difference to the one before the last.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise InputError(f"expected compressed run lengths, found {shorten(text)}")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits >> 4 & 1) << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    return counts


def picture_size(height: Any, width: Any) -> tuple[int, int]:
    """A size as read from a file; raises `InputError` unless it is that of a picture that fits into memory."""
    height, width = int(height), int(width)
    if height < 1 or width < 1 or max(height, width) > LONGEST or height * width > LARGEST:
        raise InputError(f"expected the size of a picture, found {height}x{width}")
    return height, width


def _folder(image: dict[str, Any]) -> PurePosixPath:
    return PurePosixPath(str(image.get("file_name") or "").replace("\\", "/")).parent


def _stem(name: object) -> str:
    if not isinstance(name, str):
        return ""
    path = PurePosixPath(name.replace("\\", "/"))
    return path.name if CVAT_FRAME.fullmatch(path.name) else path.stem
