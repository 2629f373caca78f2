"""From downloaded archives to the folders that training and evaluation read: complete, once, and nothing else."""

import io
import multiprocessing
import os
import signal
import tarfile
import warnings
import zipfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import PALETTE, content
from PIL import Image

from dataset import preparation
from dataset.archives import Archive
from dataset.davis import davis_videos
from dataset.preparation import Placement, convert_image, convert_mask, map_parallel, place
from dataset.static import StaticClips
from dataset.vos import VideoClips
from dataset.youtube import youtube_videos
from util.errors import InputError
from util.image import read_image
from util.label_map import object_ids, read_label_map

LABELS = np.zeros((6, 8), np.uint8)
LABELS[1:4, 2:5], LABELS[4:, 6:] = 2, 7  # sparse ids


def jpg(height: int = 6, width: int = 8) -> bytes:
    return encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)), "JPEG")


def png(labels: np.ndarray = LABELS, palette: bytes | None = PALETTE) -> bytes:
    image = Image.fromarray(labels)
    if palette:
        image.putpalette(palette)
    return encoded(image, "PNG")


def grey(height: int = 6, width: int = 8) -> bytes:
    return png(np.pad(np.full((height - 2, width - 2), 255, np.uint8), 1), None)


def encoded(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def tarred(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            add(archive, name, data)
    return path


def add(archive: tarfile.TarFile | zipfile.ZipFile, name: str, data: bytes = b"", **facts: object) -> None:
    """Add a file to an archive, even if there is one of this name; `facts` are of `TarInfo`."""
    if isinstance(archive, zipfile.ZipFile):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return archive.writestr(name, data)
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for fact, value in facts.items():
        setattr(info, fact, value)
    return archive.addfile(info, io.BytesIO(data))


def unpacked(path: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def video(root: str, name: str, frames: int = 3, masks: int | None = None, mask: bytes | None = None) -> dict[str, bytes]:
    """`root` has {} as a placeholder for JPEGImages or Annotations."""
    images, annotations = root.format("JPEGImages"), root.format("Annotations")
    files = {f"{images}/{name}/{t:05d}.jpg": jpg() for t in range(frames)}
    masks = frames if masks is None else masks
    return files | {f"{annotations}/{name}/{t:05d}.png": mask or png() for t in range(masks)}


DAVIS_16 = video("DAVIS/{}/480p", "bear", mask=grey()) | video("DAVIS/{}/1080p", "bear", mask=grey())
DAVIS_16["DAVIS/ImageSets/480p/val.txt"] = b"/JPEGImages/480p/bear/00000.jpg /Annotations/480p/bear/00000.png\n"
TRAINVAL = video("DAVIS/{}/480p", "bear") | video("DAVIS/{}/480p", "cow")
TRAINVAL |= {"DAVIS/ImageSets/2017/train.txt": b"\xef\xbb\xbfbear\n", "DAVIS/ImageSets/2017/val.txt": b"cow\n"}
TEST_DEV = video("DAVIS/{}/480p", "owl", masks=1) | {"DAVIS/ImageSets/2017/test-dev.txt": b"owl\n"}
META = b'{"videos": {"v": {"objects": {"2": {"frames": ["00000", "00002"]}, "7": {"frames": ["00000"]}}}}}'
VALID = video("valid/{}", "v", masks=1) | {"valid/meta.json": META}
BL30K = video("BL30K/{}", "clip")


def test_without_an_archive_it_says_where_to_get_one_and_writes_nothing(script, tmp_path, capsys):
    for name in ("davis", "youtube", "bl30k", "static"):
        assert script(f"prepare_{name}", "--output", tmp_path / "out") == 0
        assert "http" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_davis_archives_are_told_by_their_content_and_read_by_evaluation(script, tmp_path):
    archives = [
        zipped(tmp_path / f"{i}.bin", files | {"__MACOSX/DAVIS/._x": b""})
        for i, files in enumerate([TEST_DEV, DAVIS_16, TRAINVAL])
    ]
    assert script("prepare_davis", *archives, "--output", tmp_path / "out") == 0
    (val,) = davis_videos(tmp_path / "out/2017")
    (testdev,) = davis_videos(tmp_path / "out/2017", split="testdev")
    (old,) = davis_videos(tmp_path / "out/2016", year=2016)
    assert [video.name for video in (val, testdev, old)] == ["cow", "owl", "bear"]
    assert not val.without_truth
    assert len(testdev.without_truth) == len(testdev) - 1
    assert old.union
    assert sorted(path.name for path in (tmp_path / "out").glob("2016/*/*")) == ["480p", "480p", "480p"]
    assert not list((tmp_path / "out").rglob("*MACOSX*"))


def test_full_resolution_davis_is_shrunk_and_segmented_at_that_size(script, light_file, tmp_path, capsys):
    small = video("DAVIS/{}/480p", "cow", mask=png())
    lists = {"DAVIS/ImageSets/2017/train.txt": b"cow\n", "DAVIS/ImageSets/2017/val.txt": b"cow\n"}
    large = {f"DAVIS/JPEGImages/Full-Resolution/cow/{t:05d}.jpg": jpg(90, 120) for t in range(3)}
    out = tmp_path / "DAVIS"
    assert script("prepare_davis", zipped(tmp_path / "480p", small | lists), "--output", out, "--num_workers", 0) == 0
    flags = ("--output", out, "--shorter", 60, "--num_workers", 0)
    assert script("prepare_davis", tmp_path / "480p", *flags) == 2
    assert "expected JPEGImages/Full-Resolution" in capsys.readouterr().err
    assert script("prepare_davis", zipped(tmp_path / "full", large | lists), *flags) == 0
    frame = out / "2017/trainval/JPEGImages/60p/cow/00001.jpg"
    assert Image.open(frame).size == (80, 60)
    flags = ("--model", light_file, "--davis_path", out, "--output")
    assert script("eval_davis", *flags, tmp_path / "out", "--resolution", "60p", "--size", 48) == 0
    mask = Image.open(out / "2017/trainval/Annotations/480p/cow/00000.png")
    result = Image.open(tmp_path / "out/cow/00001.png")
    assert result.size == mask.size != (80, 60)
    first = Image.open(tmp_path / "out/cow/00000.png")
    assert np.mean(np.array(first) == np.array(mask)) > 0.8
    assert script("eval_davis", *flags, tmp_path / "none", "--resolution", "999p") == 2
    assert "999p: no such folder; prepare_davis.py --shorter" in capsys.readouterr().err


def test_trainval_and_test_dev_unpacked_over_one_another_are_told_apart(script, tmp_path):
    folder = unpacked(tmp_path, TRAINVAL | TEST_DEV) / "DAVIS"
    assert script("prepare_davis", folder, "--output", tmp_path / "out") == 0
    for part, names in (("trainval", ["bear", "cow"]), ("test-dev", ["owl"])):
        assert sorted(p.name for p in (tmp_path / "out/2017" / part / "JPEGImages/480p").iterdir()) == names


@pytest.mark.parametrize(
    ("name", "files", "complaint"),
    [
        ("davis", BL30K, "expected JPEGImages/480p"),
        ("davis", TRAINVAL | DAVIS_16, "holds both DAVIS 2016 and 2017"),
        ("davis", TRAINVAL | {"DAVIS/ImageSets/2017/val.txt": b"cow\nlost\n"}, "list lost, not found in it"),
        (
            "davis",
            {name: data for name, data in TRAINVAL.items() if "Annotations" not in name},
            "is it the Unsupervised archive?",
        ),
        ("youtube", video("train/{}", "v", masks=0), "found frames only: is it YouTube-VIS?"),
        ("youtube", TRAINVAL, "found DAVIS/"),
        ("bl30k", TRAINVAL, "found DAVIS/"),
        ("static", {"images/0001.jpg": jpg()}, "from all its archives at once"),
        ("static", VALID, "from all its archives at once"),
    ],
)
def test_an_archive_that_cannot_be_right_is_refused_before_anything_is_written(
    name, files, complaint, script, tmp_path, capsys
):
    assert script(f"prepare_{name}", zipped(tmp_path / "a.zip", files), "--output", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_youtubes_training_frames_are_shrunk_with_their_masks_and_read_by_training(script, tmp_path):
    labels = LABELS.repeat(120, axis=0).repeat(120, axis=1)  # 720x960
    picture, mask = jpg(720, 960), png(labels)
    files = {f"train/JPEGImages/v/{t:05d}.jpg": picture for t in (0, 5, 10)}
    files |= {f"train/Annotations/v/{t:05d}.png": mask for t in (0, 5, 10)}
    files |= video("train/{}", "small") | {"train/meta.json": b'{"videos": {}}'}
    out = tmp_path / "out"
    assert script("prepare_youtube", zipped(tmp_path / "a.zip", files), "--output", out, "--num_workers", 1) == 0
    assert read_image(out / "train_480p/JPEGImages/v/00005.jpg").shape == (480, 640, 3)
    mask = read_label_map(out / "train_480p/Annotations/v/00005.png")
    assert (mask.labels == LABELS.repeat(80, axis=0).repeat(80, axis=1)).all()
    assert mask.palette == PALETTE
    small = content(out / "train_480p/JPEGImages/small") | content(out / "train_480p/Annotations/small")
    assert small["00000.jpg"] == jpg()
    assert small["00000.png"] == png()
    clips = VideoClips(out / "train_480p/JPEGImages", out / "train_480p/Annotations", stride=5, crop=32)
    assert clips.names == ["small", "v"]
    assert clips.draw(1, np.random.default_rng(0), max_skip=5) is not None
    assert (out / "train_480p/meta.json").read_bytes() == b'{"videos": {}}'


def test_youtubes_valid_and_all_frames_are_read_by_evaluation(script, tmp_path):
    every = tarred(tmp_path / "b", {f"valid_all_frames/JPEGImages/v/{t:05d}.jpg": jpg() for t in range(6)}, "w:gz")
    assert script("prepare_youtube", zipped(tmp_path / "a", VALID), every, "--output", tmp_path / "out") == 0
    (found,) = youtube_videos(tmp_path / "out")
    assert len(found) == 6
    assert found.wanted == {"00000", "00002"}
    assert object_ids(found.read_mask(found.masks["00000"])) == [2, 7]


def test_another_years_youtube_is_refused_and_what_is_there_stays(script, tmp_path, capsys):
    out = tmp_path / "out"
    assert script("prepare_youtube", zipped(tmp_path / "a", VALID), "--output", out) == 0
    before = content(out)
    other = video("valid/{}", "w", masks=1) | {"valid/meta.json": META.replace(b'"v"', b'"another"')}
    assert script("prepare_youtube", zipped(tmp_path / "b", other), "--output", out) == 2
    assert "from another data set or year?" in capsys.readouterr().err
    assert content(out) == before


@pytest.mark.parametrize(
    ("suffix", "mask", "pack"), [(".JPG", ".PNG", tarred), (".JPEG", ".Png", zipped), (".jpeg", ".png", unpacked)]
)
def test_pictures_are_used_however_their_suffix_is_written(suffix, mask, pack, script, tmp_path):
    renamed = {name.replace(".jpg", suffix).replace(".png", mask): data for name, data in VALID.items()}
    assert script("prepare_youtube", pack(tmp_path / "a", renamed), "--output", tmp_path / "out") == 0
    assert content(tmp_path / "out").keys() == VALID.keys()


def test_an_archive_of_which_little_is_used_says_so_and_ends_with_1(script, tmp_path, capsys):
    files = VALID | {f"train_480p/JPEGImages/v/{t:05d}.JPG": jpg() for t in range(9)}
    archive = zipped(tmp_path / "a.zip", files)
    for _ in range(2):  # also when all that can be used is there
        assert script("prepare_youtube", archive, "--output", tmp_path / "out") == 1
        told = capsys.readouterr().err
        assert f"{archive}: used 4 of 13 pictures, not train_480p/JPEGImages/v/00000.jpg" in told
    assert len(content(tmp_path / "out")) == len(VALID)
    archive = zipped(tmp_path / "b.zip", {name.replace(".jpg", ".bmp"): data for name, data in TRAINVAL.items()})
    assert script("prepare_davis", archive, "--output", tmp_path / "davis") == 1
    assert "used 0 of 6 frames, not DAVIS/JPEGImages/480p/bear/00000.bmp" in capsys.readouterr().err


def test_bl30k_comes_in_several_tars_and_is_read_by_training(script, tmp_path, capsys):
    parts = [tarred(tmp_path / name, video("./BL30K/{}", name)) for name in "ab"]
    out = tmp_path / "out"
    assert script("prepare_bl30k", parts[0], "--output", out) == 0
    assert script("prepare_bl30k", *parts, "--output", out) == 0
    assert "6 files written, 6 already there" in capsys.readouterr().out
    clips = VideoClips(out / "JPEGImages", out / "Annotations", crop=32)
    assert clips.names == ["a", "b"]
    assert clips.draw(0, np.random.default_rng(0), max_skip=5) is not None


def static_archives(folder: Path) -> list[Path]:
    rgb = encoded(Image.open(io.BytesIO(grey())).convert("RGB"), "PNG")  # as FSS-1000 has its masks
    files = {
        "images": {"images/0001.jpg": jpg(), "images/0002.jpg": jpg()},
        "masks": {"ground_truth_mask/0001.png": grey()},
        "tr": {"DUTS-TR/DUTS-TR-Image/sun.jpg": jpg(), "DUTS-TR/DUTS-TR-Mask/sun.png": grey()},
        "te": {"DUTS-TE/DUTS-TE-Image/sun.jpg": jpg(), "DUTS-TE/DUTS-TE-Mask/sun.png": grey()},
        "fss": {f"fewshot_data/{c}/10.{s}": d for c in ("ab", "train") for s, d in (("jpg", jpg()), ("png", rgb))},
        "big": {"BIG/test/2007_im.jpg": jpg(600, 1024), "BIG/test/2007_gt.png": grey(600, 1024)},
        "hrsod": {"HRSOD_train/images/55.jpg": jpg(1024, 300), "HRSOD_train/masks/55.png": grey(1024, 300)}
        | {"HRSOD_test/66.jpg": jpg(), "HRSOD_test_mask/66.png": grey()},
    }
    return [zipped(folder / name, content) for name, content in files.items()]


def test_static_sets_become_photographs_beside_greyscale_masks(script, tmp_path, capsys):
    out = tmp_path / "out"
    assert script("prepare_static", *static_archives(tmp_path), "--output", out, "--num_workers", 0) == 0
    assert "mask is missing: ecssd/0002" in capsys.readouterr().out
    pairs = ["DUTS-TR/sun", "DUTS-TE/sun", "fss/ab/10", "fss/train/10", "ecssd/0001", "BIG_small/2007"]
    pairs += ["HRSOD_small/55", "HRSOD_small/66"]
    assert set(content(out)) == {f"{pair}.{suffix}" for pair in pairs for suffix in ("jpg", "png")}
    for pair in pairs:
        labels, palette = read_label_map(out / f"{pair}.png")
        assert palette is None
        assert set(np.unique(labels)) == {0, 255}
        assert labels.shape == read_image(out / f"{pair}.jpg").shape[:2]
    assert read_image(out / "BIG_small/2007.jpg").shape == (300, 512, 3)
    assert read_image(out / "HRSOD_small/55.jpg").shape == (512, 150, 3)
    for name, count in (("fss", 2), ("HRSOD_small", 2), ("ecssd", 1)):
        clips = StaticClips(out / name, crop=32)
        assert len(clips) == count
        assert clips.draw(0, np.random.default_rng(0), max_skip=0) is not None


def test_hrsod_and_big_can_be_shrunk_by_their_shorter_side_as_in_the_released_code(script, tmp_path):
    out = tmp_path / "out"
    archives = static_archives(tmp_path)
    assert script("prepare_static", *archives, "--output", out, "--num_workers", 0, "--shorter", 100) == 0
    for pair, size in (("BIG_small/2007", (100, 170)), ("HRSOD_small/55", (341, 100)), ("ecssd/0001", (6, 8))):
        labels = read_label_map(out / f"{pair}.png").labels
        assert labels.shape == read_image(out / f"{pair}.jpg").shape[:2] == size


@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.parametrize("name", ["BL30K/JPEGImages/../../../evil.jpg", "/evil.jpg", "..\\evil.jpg", "C:/evil.jpg"])
def test_a_member_that_leads_out_of_the_folder_is_refused(name, pack, script, tmp_path, capsys):
    archive = pack(tmp_path / "a", BL30K | {name: jpg()})
    assert script("prepare_bl30k", archive, "--output", tmp_path / "deep/in/out") == 2
    assert "leads out of the folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("name", ["JPEGImages/\n/0.jpg", "JPEGImages/clip/\t0.jpg", "JPEGImages/clip/" + "x" * 300 + ".jpg"])
def test_a_member_whose_name_is_not_plain_is_refused(name, script, tmp_path, capsys):
    archive = tarred(tmp_path / "a", {f"BL30K/{name}": jpg()} | BL30K)
    assert script("prepare_bl30k", archive, "--output", tmp_path / "out") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: {archive}: ")
    assert "a control character" in error or "expected a plain name, of at most 255 bytes" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("kind", "told"), [(tarfile.LNKTYPE, "is a link that leads out"), (tarfile.FIFOTYPE, "is a device")])
def test_a_second_name_of_a_file_outside_or_a_device_is_refused(kind, told, script, tmp_path, capsys):
    with tarfile.open(tmp_path / "a", "w") as archive:
        add(archive, "BL30K/JPEGImages/clip", type=kind, linkname="/etc")
    assert script("prepare_bl30k", tmp_path / "a", "--output", tmp_path / "out") == 2
    assert told in capsys.readouterr().err


def with_links(path: Path, content: dict[str, bytes], links: dict[str, str], kind: str) -> Path:
    """An archive (`tar`, `zip` or `folder`) with symbolic links, by name and target."""
    if kind == "folder":
        unpacked(path, content)
        for name, target in links.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).symlink_to(target)
    elif kind == "zip":
        zipped(path, content)
        with zipfile.ZipFile(path, "a") as archive:
            for name, target in links.items():
                info = zipfile.ZipInfo(name)
                info.external_attr = 0o120777 << 16
                archive.writestr(info, target)
    else:
        tarred(path, content)
        with tarfile.open(path, "a") as archive:
            for name, target in links.items():
                add(archive, name, type=tarfile.SYMTYPE, linkname=target)
    return path


INSIDE = {
    "BL30K/JPEGImages/copy": "clip",  # a folder
    "BL30K/Annotations/copy": "../Annotations/chain",  # through another link
    "BL30K/Annotations/chain": "clip",
    "README": "BL30K/nowhere",  # nobody needs it
    "BL30K/LICENSE.txt": "/usr/share/licence",
}


@pytest.mark.parametrize("kind", ["tar", "zip", "folder"])
def test_links_that_stay_inside_an_archive_are_followed(kind, script, tmp_path):
    archive = with_links(tmp_path / "a", BL30K, INSIDE, kind)
    out = tmp_path / "out"
    assert script("prepare_bl30k", archive, "--output", out) == 0
    found = content(out)
    for part in ("JPEGImages", "Annotations"):
        clip = {name: data for name, data in found.items() if name.startswith(f"{part}/clip/")}
        assert clip
        assert {name: found[name.replace("/clip/", "/copy/")] for name in clip} == clip


@pytest.mark.parametrize("kind", ["tar", "zip"])
@pytest.mark.parametrize(
    ("links", "told"),
    [
        ({"BL30K/x": "../../x"}, "leads out"),
        ({"BL30K/x": "/x"}, "leads out"),
        ({"BL30K/x": "y"}, "to nothing"),
        ({"BL30K/x": "y", "BL30K/y": "x"}, "to nothing"),
        ({"BL30K/x": "x/x"}, "to nothing"),
        ({"BL30K/JPEGImages/clip/x": ".."}, "to itself"),
        ({f"BL30K/{i}": "JPEGImages" for i in range(1001)}, "at most 1000 links"),
    ],
)
def test_links_to_nothing_or_out_of_an_archive_are_refused(links, told, kind, tmp_path):
    with pytest.raises(InputError, match=told):
        assert Archive(with_links(tmp_path / "a", BL30K, links, kind)).sizes


def test_unpacked_archives_may_link_each_other_and_each_file_is_placed_once(script, tmp_path, capsys):
    links = {"ground_truth_mask": "../two/ground_truth_mask"}
    one = with_links(tmp_path / "one", {"images/0001.jpg": jpg()}, links, "folder")
    two = with_links(tmp_path / "two", {"ground_truth_mask/0001.png": grey()}, {"images": "../one/images"}, "folder")
    assert script("prepare_static", one, two, "--output", tmp_path / "out", "--num_workers", 0) == 0
    assert "2 files written, 0 already there" in capsys.readouterr().out
    assert set(content(tmp_path / "out")) == {"ecssd/0001.jpg", "ecssd/0001.png"}


def test_clutter_in_an_unpacked_archive_is_not_looked_at(tmp_path):
    archive = with_links(tmp_path / "a", BL30K, {}, "folder")
    expected = Archive(archive).sizes
    for name in ("@eaDir", "lost+found"):
        (archive / "BL30K" / name).mkdir()
        (archive / "BL30K" / name / "00000.jpg").symlink_to("nowhere")
    (archive / "Thumbs.db").touch()
    assert Archive(archive).sizes == expected


@pytest.mark.parametrize("behind", [0, 100, 530], ids=["between files", "in a header", "in a file"])
@pytest.mark.parametrize("mode", ["w", "w:gz", "zip"])
def test_an_archive_that_was_cut_off_is_told(mode, behind, script, tmp_path, capsys):
    archive = zipped(tmp_path / "a", BL30K) if mode == "zip" else tarred(tmp_path / "a", BL30K, mode)
    second = tarfile.BLOCKSIZE * (1 + -(-len(jpg()) // tarfile.BLOCKSIZE))  # where the second file's header begins
    whole = archive.read_bytes()
    archive.write_bytes(whole[: min(second + behind, len(whole) // 2)])
    assert script("prepare_bl30k", archive, "--output", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "cut off?" in error or "cannot read this archive" in error
    assert not (tmp_path / "out").exists()


def test_a_broken_image_is_named_and_left_out_and_the_others_are_written(script, tmp_path, capsys):
    files = video("train/{}", "v") | {"train/JPEGImages/v/00001.jpg": jpg(500, 500)[:-2000]}
    files |= {
        "train/JPEGImages/v/00002.jpg": b"nothing",
        "train/Annotations/v/00002.png": encoded(Image.new("RGB", (8, 6)), "PNG"),
    }
    archive = zipped(tmp_path / "a", files)
    assert script("prepare_youtube", archive, "--output", tmp_path / "out", "--num_workers", 0) == 2
    error = capsys.readouterr().err
    assert "3 files cannot be read and were left out" in error
    assert f"{archive}: train/JPEGImages/v/00001.jpg: cannot read this image" in error
    assert f"{archive}: train/JPEGImages/v/00002.jpg: cannot read this image (it is not JPEG" in error
    assert "00002.png: expected a label map (a paletted or greyscale PNG), found mode RGB" in error
    names = {Path(name).name for name in content(tmp_path / "out")}
    assert names == {"00000.jpg", "00000.png", "00001.png"}


def test_a_member_whose_bytes_were_damaged_is_named_and_the_others_are_written(script, tmp_path, capsys):
    archive = zipped(tmp_path / "a", VALID)
    data = bytearray(archive.read_bytes())
    data[data.index(jpg()) + 50] ^= 1  # in the first frame
    archive.write_bytes(data)
    assert script("prepare_youtube", archive, "--output", tmp_path / "out") == 2
    assert "valid/JPEGImages/v/00000.jpg: cannot read (Bad CRC-32" in capsys.readouterr().err
    assert len(content(tmp_path / "out")) == len(VALID) - 1


def test_running_again_after_a_kill_writes_only_what_is_not_finished(script, tmp_path, monkeypatch, capsys):
    archive, out = zipped(tmp_path / "a", video("train/{}", "v")), tmp_path / "out"
    arguments = ("prepare_youtube", archive, "--output", out, "--num_workers", 0)
    written = []

    def killed_at_the_third(path, data):
        written.append(path)
        with open(path, "wb") as file:
            file.write(data[: len(data) // 2] if len(written) == 3 else data)
        if len(written) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(preparation, "write_new", killed_at_the_third)
        assert script(*arguments) == 130
    finished = [path for path in out.rglob("*") if path.is_file() and path.suffix != ".partial"]
    assert len(finished) == 2
    times = {path: path.stat().st_mtime_ns for path in finished}
    assert script(*arguments) == 0
    assert "4 files written, 2 already there" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in finished} == times
    assert not list(out.rglob("*.partial"))
    assert sorted(content(out / "train_480p").values()) == sorted(video("train/{}", "v").values())


@pytest.mark.parametrize("other", ["size", "edition"])
def test_pictures_of_another_size_or_edition_are_not_taken_for_those_of_the_archive(other, script, tmp_path, capsys):
    files = {f"BIG/{name}_{kind}": data for name in "ab" for kind, data in (("im.jpg", jpg(60, 80)), ("gt.png", grey(60, 80)))}
    flags = ("--output", tmp_path / "out", "--num_workers", 0)
    assert script("prepare_static", zipped(tmp_path / "a.zip", files), *flags, "--shorter", 40) == 0
    if other == "edition":
        files |= {name: png(np.pad(np.full((9, 9), 255, np.uint8), 25)) for name in files if name.endswith(".png")}
        files = dict(sorted(files.items()))  # the mask first
    again = zipped(tmp_path / "b.zip", files)
    assert script("prepare_static", again, *flags, "--shorter", 30 if other == "size" else 40) == 2
    assert "was it made of another edition, or with other flags?" in capsys.readouterr().err
    assert script("prepare_static", tmp_path / "a.zip", *flags, "--shorter", 40) == 0
    assert "0 files written, 4 already there" in capsys.readouterr().out


def test_frames_and_masks_may_come_in_an_archive_each(script, tmp_path):
    both = video("train/{}", "v")
    parts = [{name: data for name, data in both.items() if name.endswith(kind)} for kind in (".jpg", ".png")]
    archives = [zipped(tmp_path / f"{i}.zip", part) for i, part in enumerate(parts)]
    assert script("prepare_youtube", *archives, "--output", tmp_path / "out", "--num_workers", 0) == 0
    assert len(content(tmp_path / "out/train_480p")) == len(both)


def test_pictures_without_a_place_are_told(script, tmp_path, capsys):
    files = VALID | {"train_480p/JPEGImages/v/00000.JPG": jpg()}
    assert script("prepare_youtube", zipped(tmp_path / "a.zip", files), "--output", tmp_path / "out") == 0
    assert "a.zip: used 4 of 5 pictures, not train_480p/JPEGImages/v/00000.jpg" in capsys.readouterr().out


def test_an_own_file_in_the_place_of_one_of_the_archives_is_kept(script, tmp_path, capsys):
    out = unpacked(tmp_path / "out", {"JPEGImages/clip/00001.jpg": b"mine", "JPEGImages/clip/note.txt": b"mine too"})
    assert script("prepare_bl30k", tarred(tmp_path / "a", BL30K), "--output", out) == 2
    assert "differs from" in capsys.readouterr().err
    assert (out / "JPEGImages/clip/00001.jpg").read_bytes() == b"mine"
    (out / "JPEGImages/clip/00001.jpg").unlink()
    assert script("prepare_bl30k", tmp_path / "a", "--output", out) == 0
    copied = next((out / "Annotations").rglob("*.png"))
    copied.write_bytes(bytes(copied.stat().st_size))  # as a power cut may leave it
    assert script("prepare_bl30k", tmp_path / "a", "--output", out) == 2
    assert f"{copied}: differs from" in capsys.readouterr().err
    assert (out / "JPEGImages/clip/note.txt").read_bytes() == b"mine too"


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_a_converted_file_whose_place_holds_something_else_is_not_done(kind, script, tmp_path, capsys):
    archive, out = zipped(tmp_path / "a", video("train/{}", "v")), tmp_path / "out"
    flags = ("prepare_youtube", archive, "--output", out, "--num_workers", 0)
    assert script(*flags) == 0
    path = min(out.rglob(f"*.{kind}"))
    for damaged in (b"", b"mine", bytes(path.stat().st_size), path.read_bytes()[:-12]):
        path.write_bytes(damaged)
        assert script(*flags) == 2
        assert f"{path}: differs from" in capsys.readouterr().err


def test_a_member_with_a_long_name_is_placed_and_one_with_a_longer_name_is_quoted_in_short(tmp_path):
    place_all(Archive(zipped(tmp_path / "a", {"y" * 250: b"2"})), tmp_path / "out")
    assert content(tmp_path / "out") == {"y" * 250: b"2"}
    with pytest.raises(InputError, match=r"expected a plain name") as caught:
        place_all(Archive(zipped(tmp_path / "b", {"many words " * 5000: b"1"})), tmp_path / "out")
    assert len(str(caught.value)) < 700


def test_a_thousand_links_are_followed_in_a_moment(tmp_path):
    links = {f"x/{i:03}": "../y/a" if i % 20 else f"{i + 1:03}" for i in range(1000)}
    archive = Archive(with_links(tmp_path / "a", {"y/a": b"1"}, links, "tar"))
    assert archive.sizes == {"y/a": 1, **dict.fromkeys(links, 1)}


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_nothing_is_written_through_a_link_called_like_a_temporary_file(link, tmp_path):
    (tmp_path / "mine").write_text("mine")
    getattr(tmp_path / ".a.jpg.partial", link)(tmp_path / "mine")
    place_all(Archive(zipped(tmp_path / "a.zip", {"a.jpg": jpg()})), tmp_path)
    assert (tmp_path / "mine").read_text() == "mine"
    assert (tmp_path / "a.jpg").read_bytes() == jpg()


def test_two_files_that_would_become_one_are_refused(tmp_path):
    archive = Archive(zipped(tmp_path / "a", {"x": b"1", "y": b"2"}))
    with pytest.raises(InputError, match=r"y: would become .*, and so would .*: x"):
        place([(archive, {name: Placement(tmp_path, "out") for name in "xy"})])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["x/a.jpg", "x/a.JPG", "x/a.jpeg", "./x//a.jpg", "x\\a.jpg"])
@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_an_archive_in_which_two_files_have_one_name_is_refused(suffix, name, tmp_path):
    path = tmp_path / f"a{suffix}"
    with zipfile.ZipFile(path, "w") if suffix == ".zip" else tarfile.open(path, "w") as archive:
        add(archive, "x/a.jpg", b"one")
        add(archive, name, b"two")
    with pytest.raises(InputError, match=r"two files called 'x/a.jpg'; which counts\?$"):
        place_all(Archive(path), tmp_path / "out")


def test_a_tar_that_is_too_large_to_list_may_hold_a_file_twice_but_not_two_of_one_name(script, tmp_path, capsys):
    files = video("BL30K/{}", "a")
    name, data = next((name, data) for name, data in files.items() if name.endswith(".jpg"))
    for again, status in ((data, 0), (data[:-3] + b"\0" + data[-2:], 2)):
        with tarfile.open(tarred(tmp_path / "a", files), "a") as archive:
            add(archive, name, again)
        assert script("prepare_bl30k", tmp_path / "a", "--output", tmp_path / str(status)) == status
    assert "which is another file of this name" in capsys.readouterr().err


@pytest.mark.parametrize("pack", [zipped, tarred, unpacked])
def test_zip_tar_and_folder_hold_the_same_files(pack, tmp_path):
    files = {"top/b/1": b"one", "top/a": b"two", "top/.hidden": b"", "top/b/._1": b""}
    folder = pack(tmp_path / "x", files)
    archive = Archive(folder / "top" if pack is unpacked else folder)
    assert archive.sizes == {"top/b/1": 3, "top/a": 3}
    assert {member.name: member.read() for member in archive.members()} == {"top/b/1": b"one", "top/a": b"two"}
    assert all(0 <= member.position <= archive.size for member in archive.members())
    assert archive.read_text("top/a") == "two"


@pytest.mark.parametrize(
    ("sides", "found", "wanted"),
    [
        ({"shorter": 48}, (72, 128), (48, 85)),
        ({"shorter": 48}, (128, 72), (85, 48)),
        ({"shorter": 48}, (48, 500), (48, 500)),
        ({"shorter": 48}, (40, 500), (40, 500)),
        ({"longer": 51}, (100, 60), (51, 30)),
        ({"longer": 51}, (51, 40), (51, 40)),
        ({"longer": 51}, (1000, 2), (51, 1)),
        ({}, (40, 500), (40, 500)),
    ],
)
def test_image_and_mask_become_of_the_same_size_and_are_never_enlarged(sides, found, wanted):
    image = Image.open(io.BytesIO(convert_image(jpg(*found), **sides)))
    mask = Image.open(io.BytesIO(convert_mask(png(np.zeros(found, np.uint8)), **sides)))
    assert image.size == mask.size == wanted[::-1]
    assert (image.format, mask.format) == ("JPEG", "PNG")


def test_a_mask_keeps_its_ids_and_palette():
    labels = np.random.default_rng(0).choice(np.array([0, 3, 200, 255], np.uint8), (90, 120))
    palette = bytes(reversed(PALETTE))
    shrunk = Image.open(io.BytesIO(convert_mask(png(labels, palette), shorter=30)))
    assert (np.array(shrunk) == labels[1::3, 1::3]).all()  # the middle of each three pixels
    assert bytes(shrunk.getpalette()) == palette


def test_a_shrunk_image_does_not_alias():
    checks = np.indices((512, 512)).sum(axis=0) % 2 * np.uint8(255)
    image = encoded(Image.fromarray(checks.astype(np.uint8)), "PNG")
    shrunk = np.array(Image.open(io.BytesIO(convert_image(image, longer=100))))
    assert np.abs(shrunk[5:-5, 5:-5].astype(int) - 127).max() < 10


@pytest.mark.parametrize("workers", [0, 2])
def test_parallel_results_come_in_order_until_an_error_gets_through(workers):
    pictures = [jpg(4, width) for width in range(1, 30)]
    others = set(multiprocessing.active_children())  # of other tests
    results = map_parallel(convert_image, [*pictures, b"nothing"], workers=workers)
    assert [next(results) for _ in pictures] == pictures
    with pytest.raises(InputError, match="it is not JPEG"):
        next(results)
    assert set(multiprocessing.active_children()) <= others


def test_a_dead_worker_is_told_in_one_line():
    with pytest.raises(InputError, match="a worker process died"):
        list(map_parallel(os._exit, [1], workers=1))


def test_workers_that_cannot_be_started_are_one_line(monkeypatch):
    def refused(*_: object, **__: object) -> None:
        raise FileNotFoundError(2, "No such file or directory", "/dev/shm")

    monkeypatch.setattr("util.ahead.ProcessPoolExecutor", refused)
    with pytest.raises(InputError, match=r"^cannot start worker processes \(.*/dev/shm.*\); run without them$"):
        next(map_parallel(len, ["a"], workers=1))


def test_a_second_ctrl_c_ends_workers_that_still_begin(monkeypatch):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    lengths = map_parallel(len, ["a", "bb", "ccc"], workers=1)
    assert next(lengths) == 1
    monkeypatch.setattr(ProcessPoolExecutor, "shutdown", interrupted)
    (worker,) = multiprocessing.active_children()
    with pytest.raises(KeyboardInterrupt):
        lengths.throw(KeyboardInterrupt)
    worker.join(10)
    assert worker.exitcode == -signal.SIGKILL


def test_16_bits_become_8_in_photographs_and_in_masks():
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    deep = encoded(Image.fromarray(ramp.astype(np.uint16) * 257), "PNG")
    found = np.array(Image.open(io.BytesIO(convert_image(deep))).convert("L"))
    assert np.abs(found.astype(int) - ramp).max() <= 4  # JPEG's own
    assert np.array_equal(np.array(Image.open(io.BytesIO(convert_mask(deep, grey=True)))), ramp)
    with pytest.raises(InputError, match="expected a label map"):
        convert_mask(deep)


@pytest.mark.parametrize("grey", [False, True])
def test_a_mask_in_jpeg_is_refused(grey):
    with pytest.raises(InputError, match=r"^expected a mask as PNG, found JPEG"):
        convert_mask(jpg(), grey=grey)


@pytest.mark.parametrize("place", [0.5, -20, -5], ids=["in the middle", "near the end", "in the checksum"])
@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_one_bit_that_changed_in_a_compressed_archive_is_told_before_anything_is_written(mode, place, tmp_path):
    path = tarred(tmp_path / "a", {f"images/{i}.jpg": jpg(40 + i, 40) for i in range(5)}, mode)
    data = bytearray(path.read_bytes())
    data[int(len(data) * place) if isinstance(place, float) else place] ^= 4
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a: .*(cannot read|damaged|whole)"):
        place_all(Archive(path), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_zeros_behind_a_compressed_archive_are_padding_or_a_hole(mode, tmp_path):
    path = tarred(tmp_path / "a", {f"images/{i}.jpg": jpg(40 + i, 40) for i in range(5)}, mode)
    with path.open("r+b") as file:
        if mode == "w:gz":
            file.truncate(path.stat().st_size + 4096)
            place_all(Archive(path), tmp_path / "out")
        file.truncate(1 << 40)
    with pytest.raises(InputError, match=r"a: expected a whole zip or tar"):
        Archive(path)


def place_all(archive: Archive, out: Path) -> None:
    place([(archive, {name: Placement(out, name) for name in archive.sizes})])


@pytest.mark.parametrize(
    "headers",
    [
        *({"size": size} for size in ("abc", "-5", "9" * 30, "7")),
        *({"GNU.sparse.map": found, "GNU.sparse.size": "9"} for found in ("0,1,x", "0", "0,1", "0," + "9" * 20)),
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9"},
        {"comment": "0" * (1 << 17)},
    ],
)
def test_a_tar_whose_headers_are_odd_or_huge_is_one_short_line(headers, tmp_path):
    with tarfile.open(tmp_path / "a", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        add(archive, "images/0001.jpg", jpg(), pax_headers=headers)
    with pytest.raises(InputError) as told:
        place_all(Archive(tmp_path / "a"), tmp_path / "out")
    assert str(told.value).startswith(str(tmp_path / "a"))
    assert len(str(told.value)) < 400
    assert not (tmp_path / "out").exists()


def test_names_in_archives_that_are_not_utf_8_work_or_are_one_line(tmp_path):
    with tarfile.open(tmp_path / "a", "w", encoding="latin-1", format=tarfile.GNU_FORMAT) as archive:
        add(archive, "größe.jpg", jpg())
    place_all(Archive(tmp_path / "a"), tmp_path / "out")
    assert os.listdir(os.fsencode(tmp_path / "out")) == ["größe.jpg".encode("latin-1")]
    path = zipped(tmp_path / "b", {"größe.jpg": jpg()})
    path.write_bytes(path.read_bytes().replace("größe".encode(), b"gr\xff\xfe\xfd\xfce"))
    with pytest.raises(InputError, match="b: cannot read this archive"):
        assert Archive(path).sizes


def test_links_of_an_unpacked_archive_lead_into_each_other_and_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    one = with_links(tmp_path / "one", {"a.jpg": jpg()}, {"other": "../two", "up": ".."}, "folder")
    with_links(tmp_path / "two", {"b.jpg": jpg(), "deep/c.jpg": jpg()}, {"back": "../one", "deep/up": ".."}, "folder")
    assert Archive(one).sizes.keys() == {"one/a.jpg", "one/other/b.jpg", "one/other/deep/c.jpg"}

    def scandir(place, real=os.scandir):
        if str(place).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(place))
        return real(place)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(InputError, match="other/deep: Permission denied"):
        Archive(one)


def test_links_may_lead_to_hidden_files_of_an_archive(tmp_path):
    for kind in ("tar", "zip"):
        found = with_links(tmp_path / kind, {".annex/x": jpg()}, {"a/b/0.jpg": "../../.annex/x"}, kind)
        assert Archive(found).sizes == {"a/b/0.jpg": len(jpg())}
