"""DAVIS 2016 and 2017: where its releases keep their videos, and those as `Video`s."""

from collections.abc import Sequence
from pathlib import Path

from dataset.folders import meant_instead, what_is_in
from dataset.mask_files import list_masks
from dataset.read_videos import UnusableVideoError, checked_video, frames_of, refuse_none, unless_unusable
from dataset.video import Video
from dataset.video_names import chosen_videos, read_image_set
from util.errors import InputError, names_some
from util.guards import plain_name


def davis_videos(
    path: str | Path,
    *,
    split: str = "val",
    year: int = 2017,
    resolution: str = "480p",
    only: Sequence[str] | None = None,
    left_out: list[str] | None = None,
) -> list[Video]:
    """The videos of DAVIS 2016 val, 2017 val or 2017 test-dev (`split` is `val` or `testdev`).

    `path` holds `trainval/` and `test-dev/`, or `JPEGImages/`, or a folder for each year.  `resolution` names the subfolder
    of `JPEGImages` with the frames; masks and results always have 480p.  `only` names the videos that are wanted, in this
    order.  Raises `InputError` if anything that is listed is missing or wrong, or `only` names another video; an
    `UnusableVideoError` becomes a line in `left_out` instead, if that is a list and others are left.
    """
    if year == 2016 and split != "val":
        raise InputError("--split testdev: DAVIS 2016 has only val")
    part = "test-dev" if split == "testdev" else "trainval"
    if (root := davis_folder(Path(path), part, year)) is None:
        raise InputError(
            f"{path}: expected {part}/JPEGImages/ or JPEGImages/ in it or in {year}/, found {what_is_in(Path(path))}"
            f"{meant_instead(Path(path), 'JPEGImages', 'ImageSets')}"
        )
    images = root / "JPEGImages" / plain_name(resolution, source="--resolution")
    annotations = root / "Annotations" / "480p"
    if resolution != "480p" and not images.is_dir():
        raise InputError(f"{images}: no such folder; prepare_davis.py --shorter makes frames of sizes other than 480p")
    image_set = _davis_image_set(root, split, year)
    videos = []
    for name in chosen_videos(read_image_set(image_set), only, image_set):
        frames = frames_of(images / name, listed_in=image_set)
        masks = {frame.stem: annotations / name / f"{frame.stem}.png" for frame in frames}
        truth = {stem: mask for stem, mask in masks.items() if mask.is_file()}
        first = frames[0].stem
        with unless_unusable(name, left_out):
            video = checked_video(
                name,
                frames,
                masks={first: masks[first]},
                wanted=frozenset(masks),
                truth=truth,
                union=year == 2016,
                one_size=resolution == "480p",
            )
            if absent := list_masks(annotations / name).keys() - masks.keys():
                raise UnusableVideoError(f"{images / name}: lacks {names_some(absent)}, of which there are masks")
            videos.append(video)
    return refuse_none(videos, left_out)


def davis_folder(path: Path, part: str, year: int) -> Path | None:
    """Where DAVIS is, for the release's root (`../DAVIS`) or one year's folder (`../DAVIS/2017`); `None` if it is nowhere."""
    if path.name == "2016" != str(year):  # its masks differ
        raise InputError(
            f"{path}: expected DAVIS {year}, found the folder of 2016; give that of {year}, or --year 2016 for this one"
        )
    others = path.parent / str(year) if path.name == "2017" else path
    places = (path / str(year) / part, path / str(year), others, path / part, path)
    return next((place for place in places if (place / "JPEGImages").is_dir()), None)


def _davis_image_set(root: Path, split: str, year: int) -> Path:
    name = "test-dev.txt" if split == "testdev" else "val.txt"
    places = [root / "ImageSets" / str(year) / name]
    if year == 2016:
        places.append(root / "ImageSets" / "480p" / name)
        if root.name != "trainval":  # `trainval` is already that of 2017
            places.append(root.parent / "2017" / "trainval" / "ImageSets" / "2016" / name)
    for place in places:
        if place.is_file():
            return place
    raise InputError(f"{places[0]}: no such image set" + "".join(f", nor {place}" for place in places[1:]))
