"""Turn a box, clicks or scribbles into a mask, with GrabCut, the scribble network or Segment Anything."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from skimage.morphology import skeletonize

from model.checkpoint import digest
from model.sam import BOTTOM_RIGHT, OFF, ON, TOP_LEFT, Sam
from model.scribble import ScribbleNetwork, load_scribble_network
from util.tensors import normalise, padding_to_stride, unpad

Cut = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # as `cut_from_scribbles`

BACKGROUND, OBJECT, MAYBE_BACKGROUND, MAYBE_OBJECT = range(4)  # as OpenCV numbers them
NEAR = 0.75  # how far around what is marked the object may be, as a part of its extent
MOST_PIXELS = 40_000  # at which it works
ROUNDS = 3
FIRST_SIDE, SIDE = 192, 320  # pixels, the shorter side at which the network sees the whole image, and a part of it
ENLARGED = 2  # how far a smaller part is enlarged at most
SURE = 1.0  # the least logit, for or against the object, at which a correction changes a pixel
DOT_REACH = 3  # of a correction by a dot, as a multiple of what a line at its place would reach
VERSION = 2  # of how the network cuts: results of others are not gone on with
RADIUS, SMOOTH = 8, 1e-4  # of the guided filter: pixels that the network sees, and the variance of colours that is smoothed
LEAST = 1e-4  # probability
MOST_POINTS, SPREAD = 4, 1 / 16  # of a mark for Segment Anything, and how far apart they are, as a part of the longer side
MARGIN = 0.3  # around what is marked for the network, as a part of its extent


def cut(image: np.ndarray, hints: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB and hints (H, W) uint8, of the four above -> (H, W) bool, where the object is.

    Works on the region that may show the object, scaled down if it is large.  If the hints lack background or object, there
    is nothing to separate, and the mask is what they say.
    """
    maybe = _maybe_object(hints)
    if not maybe.any() or maybe.all():
        return maybe
    window = _around(hints != BACKGROUND, lambda extent: 10 + extent // 4)  # for colours of the background
    told = hints[window]
    height, width = told.shape
    scale = min(1.0, (MOST_PIXELS / (height * width)) ** 0.5)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(image[window], size, interpolation=cv2.INTER_AREA)
    labels = cv2.resize(told, size, interpolation=cv2.INTER_NEAREST)
    for certain in (BACKGROUND, OBJECT):  # a thin line must not fall between the pixels
        area = cv2.resize((told == certain).astype(np.float32), size, interpolation=cv2.INTER_AREA)
        labels[area > 0.5 if certain == BACKGROUND else area > 0] = certain
    if _maybe_object(labels).all() or not _maybe_object(labels).any():
        return maybe
    cv2.setRNGSeed(0)
    cv2.grabCut(small, labels, (0, 0, 0, 0), np.zeros((1, 65)), np.zeros((1, 65)), ROUNDS, cv2.GC_INIT_WITH_MASK)
    soft = _maybe_object(labels).astype(np.float32)
    result = np.zeros(hints.shape, bool)
    result[window] = cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR) > 0.5
    return (result & (hints != BACKGROUND)) | (hints == OBJECT)


def _maybe_object(hints: np.ndarray) -> np.ndarray:
    return np.isin(hints, (OBJECT, MAYBE_OBJECT))


def cut_from_scribbles(image: np.ndarray, mask: np.ndarray, others: np.ndarray, on: np.ndarray, off: np.ndarray) -> np.ndarray:
    """The object's mask (H, W) bool from the image (H, W, 3) uint8 RGB, its mask so far, and scribbles on and off it.

    mask, others, on, off: (H, W) bool, each possibly empty; `others` are other objects, of which it gets only what `on` says.
    """
    marked = mask | on
    if not marked.any():
        return marked
    hints = np.full(mask.shape, BACKGROUND, np.uint8)
    hints[_around(marked, lambda extent: round(NEAR * extent))] = MAYBE_BACKGROUND
    hints[mask] = MAYBE_OBJECT
    hints[others | off] = BACKGROUND
    hints[on] = OBJECT
    return cut(image, hints)


@torch.inference_mode()
def cut_with_network(
    network: ScribbleNetwork, image: np.ndarray, mask: np.ndarray, others: np.ndarray, on: np.ndarray, off: np.ndarray
) -> np.ndarray:
    """As `cut_from_scribbles`; the marks on and off the object may be clicks too.

    A box is a mask with all that lies around it in `off`.  What the marks say always holds.  The network looks at the part of
    the image around the mask and the marks on the object; outside, there is no object.  Without a mask, it looks at the whole
    image first, and then around what it has found there; both times, only what hangs together with the marks counts.  A mask
    changes only where the network is sure of it.  Edges of first masks follow the colours (`along_colours`).
    """
    if not (mask | on).any():
        return np.zeros(mask.shape, bool)
    anew, corrects = not mask.any(), not _from_scratch(mask, others, off)
    look = partial(_look, network, image, fine=not corrects)
    if anew:
        mask = _touching((look(mask, on, off, np.s_[:, :], FIRST_SIDE) > 0) & ~others | on, on) & ~off
    part = _around(mask | on, lambda extent: 16 + round(MARGIN * extent))
    unsure = SURE if corrects else 0
    result = ((look(mask, on, off, part, SIDE) > np.where(mask, -unsure, unsure)) & ~others | on) & ~off
    return _touching(result, on) if anew else result


def _from_scratch(mask: np.ndarray, others: np.ndarray, off: np.ndarray) -> bool:
    """Whether there is no mask to correct: nothing at all, or a box."""
    return not mask.any() or bool((mask | others | off).all())


def _touching(region: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """The parts of a region (H, W) bool in which there is a mark (H, W) bool."""
    parts = cv2.connectedComponents(region.astype(np.uint8))[1]
    return region & np.isin(parts, np.unique(parts[marks & region]))


def cut_by(model: str, device: torch.device) -> Cut:
    """`cut_with_network` with the network in a checkpoint, `cut_with_sam` with the files in a folder, or GrabCut by "none";
    corrections stay near the marks.
    """
    if model == "none":
        return changing_locally(cut_from_scribbles)
    if Path(model).is_dir():
        return changing_locally(partial(cut_with_sam, Sam(model)))
    return changing_locally(partial(cut_with_network, load_scribble_network(model, device)))


def cut_digest(model: str) -> str:
    """What the masks of `cut_by` go by: how it cuts, and the digest of the files of this model."""
    if model == "none":
        return model
    return f"{VERSION} " + " ".join(map(digest, sorted(Path(model).glob("*.onnx")) if Path(model).is_dir() else [model]))


def cut_with_sam(
    sam: Sam, image: np.ndarray, mask: np.ndarray, others: np.ndarray, on: np.ndarray, off: np.ndarray
) -> np.ndarray:
    """As `cut_with_network`, with Segment Anything, which sees a mask as a box around it and what is on."""
    marked = mask | on
    if not marked.any():
        return marked
    marks = [(on, ON)] if (mask | off).all() else [(on, ON), (off, OFF)]  # all around a box is off
    told = [(point, label) for marks, label in marks for point in _points(marks)]
    if mask.any():
        y, x = np.nonzero(marked)
        told += [((x.min(), y.min()), TOP_LEFT), ((x.max(), y.max()), BOTTOM_RIGHT)]
    points, labels = zip(*told, strict=True)
    found = sam(image, np.array(points, np.float32), np.array(labels))
    return (found & ~others | on) & ~off


def _points(marks: np.ndarray) -> list[tuple[int, int]]:
    """Points (x, y) that stand for marks (H, W) bool: where each is deepest, and some along a line."""
    points = []
    depth = cv2.distanceTransform(marks.astype(np.uint8), cv2.DIST_L2, 5)
    count, numbers = cv2.connectedComponents(marks.astype(np.uint8))
    for number in range(1, count):
        y, x = np.nonzero(numbers == number)
        away, next_one = np.full(len(x), np.inf), int(depth[y, x].argmax())
        for _ in range(MOST_POINTS):
            points.append((x[next_one], y[next_one]))
            away = np.minimum(away, np.hypot(x - x[next_one], y - y[next_one]))
            next_one = int(away.argmax())
            if away[next_one] < SPREAD * max(marks.shape):
                break
    return points


def _around(marked: np.ndarray, margin_of: Callable[[int], int]) -> tuple[slice, slice]:
    """The rows and columns of a region (H, W) bool, with a margin that its extent says; all in pixels."""
    x, y, width, height = cv2.boundingRect(marked.astype(np.uint8))
    margin = margin_of(max(width, height) - 1)
    return np.s_[max(0, y - margin) : y + height + margin, max(0, x - margin) : x + width + margin]


def _look(
    network: ScribbleNetwork,
    image: np.ndarray,
    mask: np.ndarray,
    on: np.ndarray,
    off: np.ndarray,
    window: tuple[slice, slice],
    side: int,
    *,
    fine: bool,
) -> np.ndarray:
    """The network's logits in a window of the image, the mean of those of its mirror image: (H, W) float32, -inf outside.

    It sees the window with `side` pixels at its shorter side, or enlarged as far as `ENLARGED` allows.  `fine`: with its
    edges where colours change.
    """
    result = np.full(mask.shape, -np.inf, np.float32)
    height, width = mask[window].shape
    scale = min(ENLARGED, side / min(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(image[window], size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    hints = np.stack([cv2.resize(part[window].astype(np.float32), size, interpolation=method) for part in (mask, on, off)])
    least = np.array([0.5, 0, 0] if scale < 1 else [0.5, 0.5, 0.5])  # a thin line must not fall between the pixels
    told = torch.from_numpy((hints > least[:, None, None]).astype(np.float32))
    device = next(network.parameters()).device
    padding = padding_to_stride(size[1], size[0])
    seen = F.pad(torch.cat([normalise(torch.from_numpy(small)), told]), padding).to(device)
    images, marks = torch.stack([seen, seen.flip(-1)]).split([3, len(told)], dim=1)
    logits = network(images, marks)
    logits = unpad((logits[:1] + logits[1:].flip(-1)) / 2, padding)
    if fine:
        found = along_colours(image[window], small, logits.sigmoid()[0].cpu().numpy()).clip(LEAST, 1 - LEAST)
        result[window] = np.log(found / (1 - found))
    else:
        logits = F.interpolate(logits[None], (height, width), mode="bilinear", align_corners=False)[0, 0]
        result[window] = logits.cpu().numpy()
    return result


def along_colours(image: np.ndarray, small: np.ndarray, soft: np.ndarray) -> np.ndarray:
    """Probabilities (h, w) of a `small` image (h, w, 3) uint8, at the size of `image`, with their edges where colours change.

    The guided filter (He, Sun, Tang; ECCV 2010): around each pixel, the linear function of the colour that fits best.
    """

    def mean(x: np.ndarray) -> np.ndarray:
        return cv2.blur(x, (2 * RADIUS + 1, 2 * RADIUS + 1))

    colours = small.astype(np.float32) / 255
    products = (colours[..., :, None] * colours[..., None, :]).reshape(*soft.shape, 9)
    means, mean_soft = mean(colours), mean(soft)
    covariance = mean(products).reshape(*soft.shape, 3, 3) - means[..., :, None] * means[..., None, :]
    with_soft = mean(colours * soft[..., None]) - means * mean_soft[..., None]
    slope = np.linalg.solve(covariance + SMOOTH * np.eye(3, dtype=np.float32), with_soft[..., None])[..., 0]
    offset = mean_soft - np.einsum("hwc,hwc->hw", slope, means)
    size = image.shape[1::-1]
    slope, offset = cv2.resize(mean(slope), size), cv2.resize(mean(offset), size)
    return np.einsum("hwc,hwc->hw", slope, image, dtype=np.float32) / 255 + offset


def changing_locally(cut_from: Cut) -> Cut:
    """A cut whose corrections stay near the marks.

    Where there is a mask already, it gains only what `cut_from` adds around a mark on the object, and loses only what that
    removes around a mark off it (`_around_marks`).
    """

    def changed(image: np.ndarray, mask: np.ndarray, others: np.ndarray, on: np.ndarray, off: np.ndarray) -> np.ndarray:
        found = cut_from(image, mask, others, on, off)
        if _from_scratch(mask, others, off):
            return found
        return (mask | _around_marks(found & ~mask, on, ~mask)) & ~_around_marks(mask & ~found, off, mask)

    return changed


def _around_marks(region: np.ndarray, marks: np.ndarray, side: np.ndarray) -> np.ndarray:
    """What of a region (H, W) bool is connected to marks and near them; `side` is all on their side of the mask's edge.

    People mark the middle of what is wrong.  So each point of a line reaches as far as it lies away from that edge, and no
    further than the line lies deep in the region: a line along a thin part changes that part, and not the outline that hangs
    together with it.  A dot, which is no longer than it is wide, does not say how long the part is, and reaches further.
    """
    result = region & marks
    part = _around(region | marks, lambda extent: 1)  # all that can matter, and its border, so that it is not empty
    away = _depth(side | marks)[part]  # what is marked may be another object's by now
    region, marks = region[part], marks[part]
    deep = _depth(region | marks)
    _, numbers, (_, *places), _ = cv2.connectedComponentsWithStats(marks.astype(np.uint8))
    for i, (x, y, width, height, _) in enumerate(places, start=1):
        mark, near = numbers == i, marks.astype(np.uint8)
        own = np.pad(mark[y : y + height, x : x + width], 1)
        factor = DOT_REACH if max(width, height) <= 2 * _depth(own).max() + 1 else 1
        reach = 1 + factor * np.minimum(away, deep[mark].max())
        for row, column in np.argwhere(skeletonize(own)) + (y - 1, x - 1):
            cv2.circle(near, (int(column), int(row)), round(float(reach[row, column])), 1, cv2.FILLED)
        parts = cv2.connectedComponents((region & (near > 0) | marks).astype(np.uint8))[1]
        result[part] |= region & np.isin(parts, np.unique(parts[mark]))
    return result


def _depth(region: np.ndarray) -> np.ndarray:
    """How far each pixel of a region (H, W) bool lies from what is outside; (H, W) float32."""
    depth = cv2.distanceTransform(region.astype(np.uint8), cv2.DIST_L2, 5)
    return np.minimum(depth, sum(region.shape))  # huge where nothing is outside
