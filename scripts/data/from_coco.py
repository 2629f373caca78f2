"""Lay out a video and its COCO or labelme JSON as JPEGImages/<video>/ and Annotations/<video>/, to train, evaluate and score.

python scripts/data/from_coco.py holiday.mp4 --mask annotations.json --output mine
python scripts/data/from_coco.py frames --mask labelme_files --output mine

Polygons and run lengths (RLE) are read, as are all other masks that segment_video.py takes.
"""

import argparse
import os
import shutil
import sys
from pathlib import Path

from dataset.frame_folder import FrameFolder
from dataset.given_masks import add_mask_flags, open_with_masks
from dataset.own_video import add_one_video_flags, one_video
from dataset.video_file import VideoFile
from util.errors import InputError, one_line_errors
from util.files import one_line_for, within_temporary, write_new
from util.flags import Parser
from util.guards import path_in, refuse_foreign
from util.label_map import colour_map, write_label_map
from util.picture import as_jpeg
from util.progress import progress_bar


def parser() -> argparse.ArgumentParser:
    result = Parser(__doc__)
    add_one_video_flags(result)
    add_mask_flags(result)
    result.add_argument("--name", help="the video's name in --output (default: that of the file or folder)")
    result.add_argument("--output", required=True, metavar="DIR", help="folder to add to (required)")
    return result


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    if not arguments.mask:
        raise InputError("--mask: expected the JSON file, or a folder of them")
    source = Path(one_video(arguments.video))
    place = source if source.is_dir() else source.parent  # of the frames, if they are a folder or a pattern
    output, name = Path(arguments.output), arguments.name or (source.stem if source.is_file() else place.resolve().name)
    images, masks = (path_in(output / part, name, source="--name") for part in ("JPEGImages", "Annotations"))
    in_place = images.is_dir() and source.is_dir() and images.samefile(source)
    # an earlier try, before its masks came to their place
    killed = images.is_dir() and images.resolve() != place.resolve() and unfinished(masks).is_dir()
    for folder in (masks, *([] if in_place or killed else [images])):
        if folder.exists():
            raise InputError(f"{folder}: already exists; remove it, or give another --name")
    video, found = open_with_masks(arguments, source)
    with one_line_for(output):
        hidden = hide(masks, {f"{each}.png" for each in video.names})
        for frame, mask in found.items():
            write_label_map(hidden / f"{video.names[frame]}.png", mask.labels, colour_map())
        if killed:  # perhaps with another video of this name
            os.replace(images, unfinished(images))
        if not in_place:
            os.replace(write_frames(video, images), images)
        os.replace(hidden, masks)
    print(f"{masks}: masks of {len(found)} of {len(video.names)} frames")


def write_frames(video: FrameFolder | VideoFile, folder: Path) -> Path:
    """Where they are until `folder` is complete: the files of a folder of frames as they are, those of a film as JPEG."""
    copied = isinstance(video, FrameFolder)
    names = [path.name for path in video.paths] if copied else [f"{name}.jpg" for name in video.names]
    hidden = hide(folder, {*names})
    with progress_bar(len(names), "frames") as bar:
        for index, frame in enumerate(video.paths if copied else video.forwards()):
            if isinstance(frame, Path):
                shutil.copyfile(frame, hidden / names[index])
            else:
                write_new(hidden / names[index], as_jpeg(frame.image))
            bar.increment()
    return hidden


def unfinished(folder: Path) -> Path:
    """Where the files of a folder are until all of them are there."""
    return folder.with_name(f".{within_temporary(folder.name)}.unfinished")


def hide(folder: Path, names: set[str]) -> Path:
    """`unfinished(folder)`, made; an earlier try may have left some of the files `names` in it."""
    hidden = unfinished(folder)
    refuse_foreign(hidden, names)
    hidden.mkdir(parents=True, exist_ok=True)
    return hidden


if __name__ == "__main__":
    sys.exit(main())
