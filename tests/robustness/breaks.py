"""Ways to break a data tree.  Each is data, (kind, path, argument), so that a case can be printed and run again."""

import gzip
import json
import os
import pickle
import random
import shutil
import struct
import subprocess
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from films import noise, reordered_late, with_equal_times, write_film
from PIL import Image


class Break(NamedTuple):
    kind: str
    path: str
    argument: Any = None

    def apply(self) -> None:
        """Break it below the current folder; what an earlier break removed, or made a link or a pipe, is left."""
        path = Path(self.path)
        inside = path.parent.resolve().is_relative_to(Path.cwd()) and not path.is_symlink()
        if inside and (path.is_file() or path.is_dir() or self.kind in OUTPUTS):
            KINDS[self.kind](path, self.argument)


SIZES = ((1, 1), (3, 5), (48, 64), (200, 10), (65, 48), (1500, 2))
IDS = ((), (255,), (254, 255), (1, 255), (7,), tuple(range(1, 201)), tuple(range(256)), (0, 2, 1))
NAMES = (
    *("two words.jpg", "größe.png", "00001\n.jpg", "-x.jpg", "--model", ".hidden.png", "._00001.jpg", "Thumbs.db"),
    *(".DS_Store", "00001", "00001.JPG", "00001.PNG", "1.jpg", "99999.jpg", "x" * 240 + ".jpg", "a:b.png", "%s%n.jpg"),
    *("\udcff\udcfe.jpg", "\u202e.png", "*?[x].png", "~", "con.jpg", "00001.jpg.tmp", "run.json", "٣.png", "🐄.jpg"),
)
LINES = (
    *("../ant", "/etc", "ant", " ant ", "bee\tant", "", "#", "\0", "\ufeffant", "nothing", "x" * 300, "ant/..", "-x", "größe"),
    *("\\\\host\\x", ".", "..", "~", "a\rb", "run.json", ".ant.partial", "ant\u2028bee", "\udcff"),
)
VALUES = (
    *(None, True, False, 0, 1, -1, 255, 256, 10**30, -(10**30), 0.5, float("nan"), float("inf"), "", "x", "../x", "\ud800"),
    *([], {}, [[]], ["00000"], {"x": 1}, "00000", "\0", "\n", "x" * 5000, "ant", "9" * 400, {"frames": []}, [None], [0, 0, 0]),
    "/etc/passwd",
)
MEMBERS = (
    *("../evil.jpg", "/tmp/evil.jpg", "DAVIS/JPEGImages/480p/ant/../../../../../evil.jpg", "C:\\evil.jpg", "a\\..\\b.jpg"),
    *("DAVIS/JPEGImages/480p/ant/new\nline.jpg", f"DAVIS/JPEGImages/480p/ant/{'x' * 300}.jpg", "images/0001.jpg"),
    *("BL30K/JPEGImages/../../evil/0.jpg", "valid/JPEGImages/../../../evil.jpg", "DAVIS/ImageSets/2017/val.txt"),
    *("valid/JPEGImages/cow/00000.jpg", "BL30K/JPEGImages/eel/.jpg", "DAVIS/JPEGImages/480p/../evil.jpg", "valid/meta.json"),
)


def replace(path: Path, content: bytes | str) -> None:
    """Write a new file there: the old one may be linked from elsewhere."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)


def link(path: Path, target: str) -> None:
    replace(path, b"")
    path.unlink()
    path.symlink_to(target)


# pictures


def converted(path: Path, change: Callable[[Image.Image], Image.Image], kind: str, **options: Any) -> None:
    image, file = change(Image.open(path)), BytesIO()
    image.save(file, kind, **options)
    replace(path, file.getvalue())


def mode(name: str, kind: str) -> Callable[[Path, Any], None]:
    return lambda path, _: converted(path, lambda image: image.convert("RGB").convert(name), kind)


def sixteen(path: Path, _: object) -> None:
    converted(path, lambda image: Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257), "PNG")


def turned(path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    converted(path, lambda image: image.convert("RGB"), "JPEG", exif=exif)


def see_through(path: Path, _: object) -> None:
    converted(path, lambda image: image.convert("L").convert("P"), "PNG", transparency=0)


def ids(path: Path, numbers: tuple[int, ...]) -> None:
    """A mask with stripes of these ids."""
    height, width = np.asarray(Image.open(path)).shape[:2]
    stripes = np.resize(np.array(numbers or (0,), np.uint8).repeat(3), width)
    labels = np.broadcast_to(stripes, (height, width)).copy()
    converted(path, lambda _: Image.fromarray(labels), "PNG")


def bomb(path: Path, side: int) -> None:
    """A PNG that claims `side` pixels each way, in few bytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    row = bytes(1 + side)
    packer = zlib.compressobj(1)
    rows = side if side <= 12_000 else 100  # more than Pillow's limit is refused before any is read
    packed = b"".join([packer.compress(row) for _ in range(rows)]) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    replace(path, b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b""))


def alpha_only(path: Path, _: object) -> None:
    """All that the picture shows is in its alpha."""

    def change(image: Image.Image) -> Image.Image:
        clear = Image.new("RGBA", image.size)
        clear.putalpha(image.convert("L").point(lambda value: 255 * (value > 0)))
        return clear

    converted(path, change, "PNG")


def deep(path: Path, factor: int) -> None:
    """A colour picture of 16 bits per channel, which holds 8 bits times a factor."""
    values = np.asarray(Image.open(path).convert("RGB")).astype(np.uint16) * np.uint16(factor)
    replace(path, cv2.imencode(".png", values[..., ::-1])[1].tobytes())


def in_disguise(path: Path, kind: str) -> None:
    """A file of another format under this name, among them some for which Pillow would start a program."""
    texts = {
        "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\n(escaped) (w) file closefile\nshowpage\n%%EOF\n",
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="48"><image href="notes.txt"/></svg>',
        "PDF": b"%PDF-1.4\n1 0 obj\n<</Type/Catalog>>\nendobj\ntrailer\n<</Root 1 0 R>>\n",
        "XPM": b'/* XPM */\nstatic char *x[] = {"1 1 1 1", "a c red", "a"};\n',
    }
    if kind in texts:
        replace(path, texts[kind])
    else:
        converted(path, lambda image: image.convert("RGB"), kind)


def films(path: Path, kind: str) -> None:
    """A film with equal times, or whose frames change their order late in an AVI."""
    replace(path, b"")
    if kind == "equal":
        with_equal_times(path, [noise(t, (48, 64)) for t in range(8)], "matroska")
    else:
        reordered_late(path, [noise(t, (48, 64)) for t in range(80)], "avi")


LISTS = {
    "ffconcat": "ffconcat version 1.0\nfile other.mp4\nfile notes.txt\n",
    "m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:1,\nother.mp4\n#EXT-X-ENDLIST\n",
    "m3u8 from the network": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 33\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT1S">'
    '<Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>other.mp4</BaseURL>'
    "</Representation></AdaptationSet></Period></MPD>",
    "playlist": "[playlist]\nFile1=other.mp4\nNumberOfEntries=1\n",
}


def film_list(path: Path, kind: str) -> None:
    """A text that leads to the film, which lies beside it under another name."""
    if not os.path.lexists("other.mp4"):
        os.link(path, "other.mp4")  # a copy of a hole would fill the disk
    replace(path, LISTS[kind])


# any files and folders


def bit(path: Path, seed: int) -> None:
    """One bit of the file is another one."""
    chosen, content = random.Random(seed), bytearray(path.read_bytes())
    content[chosen.randrange(len(content))] ^= 1 << chosen.randrange(8)
    replace(path, bytes(content))


def cut(path: Path, fraction: float) -> None:
    content = path.read_bytes()
    replace(path, content[: int(len(content) * fraction)])


def garbled(path: Path, seed: int) -> None:
    chosen, content = random.Random(seed), bytearray(path.read_bytes())
    for _ in range(chosen.choice((1, 1, 5, 50)) if content else 0):
        content[chosen.randrange(len(content))] = chosen.randrange(256)
    replace(path, bytes(content))


MUCH = 1 << 30  # bytes


def copied(path: Path, name: str) -> None:
    new = path.parent / name
    if not os.path.lexists(new):
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, new, symlinks=True)  # an earlier break may have put a link to / into it
        elif path.is_symlink() or path.stat().st_size < MUCH:  # a copy of a hole would fill the disk
            shutil.copy(path, new, follow_symlinks=False)


def renamed(path: Path, name: str) -> None:
    if not os.path.lexists(path.parent / name):
        path.rename(path.parent / name)


def pipe(path: Path, _: object) -> None:
    link(path, "x")
    path.unlink()
    os.mkfifo(path)


def only(path: Path, count: int) -> None:
    """A folder with its first files alone."""
    for each in sorted(path.iterdir())[count:]:
        shutil.rmtree(each) if each.is_dir() else each.unlink()


def as_folder(path: Path, _: object) -> None:
    link(path, "x")
    path.unlink()
    path.mkdir()


# text, JSON, checkpoints, archives


def lines(path: Path, argument: tuple[int, str]) -> None:
    place, line = argument
    old = path.read_text().split("\n")
    old.insert(place, line)
    replace(path, "\n".join(old))


def values(path: Path, seed: int) -> None:
    """Change, remove or add an entry somewhere in a JSON file."""
    chosen = random.Random(seed)
    content = json.loads(path.read_text())
    node, places = content, []

    def walk(node: Any) -> None:
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], (dict, list)):
                walk(node[key])

    walk(content)
    if not places:
        return replace(path, json.dumps(chosen.choice(VALUES)))
    node, key = chosen.choice(places)
    match chosen.randrange(5):
        case 0:
            del node[key]
        case 1 if isinstance(node, dict):
            node[str(chosen.choice(VALUES))[:300]] = node[key]
        case 1:
            node.append(node[key])
        case _:
            node[key] = chosen.choice(VALUES)
    return replace(path, json.dumps(content))


def many(path: Path, kind: str) -> None:
    """JSON of a million entries, or 100,000 levels."""
    texts = {
        "list": "[" + "0," * 999_999 + "0]",
        "objects": "{" + ",".join(f'"{i}":{{}}' for i in range(1_000_000)) + "}",
        "videos": '{"videos":{' + ",".join(f'"{i}":{{}}' for i in range(1_000_000)) + "}}",
        "deep": "[" * 100_000,
        "deep objects": '{"videos":' * 100_000 + "1" + "}" * 100_000,
    }
    replace(path, texts[kind])


class Code:
    """A pickle of this would run a command."""

    def __reduce__(self) -> tuple:
        return os.system, ("touch escaped",)


def weights(path: Path, seed: int) -> None:
    """Change one entry of a checkpoint."""
    chosen = random.Random(seed)
    content = torch.load(path, weights_only=True)
    part = chosen.choice(("network", "network", "config", "top"))
    table = content if part == "top" else content.get(part, content)  # a scribble network has no config
    name = chosen.choice(sorted(table))
    old = table[name]
    if isinstance(old, torch.Tensor):
        changes = (
            *(lambda t: t * torch.nan, lambda t: t + torch.inf, torch.Tensor.half, torch.Tensor.double, torch.Tensor.long),
            *(
                lambda t: t[None],
                lambda t: t.flatten(),
                lambda t: t.new_zeros(0),
                lambda t: t.to_sparse(),
                torch.Tensor.tolist,
            ),
            *(lambda t: torch.zeros(1).expand(t.shape), lambda t: t.requires_grad_() if t.is_floating_point() else t),
            *(lambda t: torch.zeros(1).expand(10**12), lambda t: torch.nested.nested_tensor([t.flatten(), t.flatten()[:1]])),
            lambda t: torch.quantize_per_tensor(t.float(), 0.1, 0, torch.qint8),
            *(lambda t: t.reshape(-1)[:1], lambda t: t.bfloat16(), lambda t: t.t() if t.ndim == 2 else t.transpose(0, -1)),
        )
        table[name] = chosen.choice(changes)(old)
    elif chosen.random() < 0.3:
        del table[name]
    else:
        table[name] = chosen.choice((*VALUES, torch.tensor(1), torch.tensor([1, 2]), 2.0, (1,), b"x"))
    file = BytesIO()
    torch.save(content, file)
    replace(path, file.getvalue())


def code(path: Path, kind: str) -> None:
    file = BytesIO()
    if kind == "pickle":
        pickle.dump(Code(), file)
    else:
        torch.save({"format": "STCN", "network": Code()}, file, _use_new_zipfile_serialization=kind == "zip")
    replace(path, file.getvalue())


def member(path: Path, argument: tuple[str, str]) -> None:
    """Add a hostile member to an archive."""
    name, kind = argument
    content = bytes(40_000_000) if kind == "bomb" else path.read_bytes() if kind == "nested" else b"evil"
    if zipfile.is_zipfile(path):
        replace(path, path.read_bytes())
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = {"link": 0o120777 << 16, "device": 0o020666 << 16}.get(kind, 0o644 << 16)
            archive.writestr(info, b"/etc/passwd" if kind == "link" else content)
        return
    data, packed = path.read_bytes(), path.suffix == ".gz"
    replace(path, gzip.decompress(data) if packed else data)
    with tarfile.open(path, "a:") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        info.type = {"link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE, "device": tarfile.CHRTYPE}.get(kind, tarfile.REGTYPE)
        if info.type != tarfile.REGTYPE:
            info.size, info.linkname = 0, "/etc/passwd"
        archive.addfile(info, BytesIO(content))
    if packed:
        replace(path, gzip.compress(path.read_bytes()))


def raw_names(path: Path, name: bytes) -> None:
    """Names in an archive that are no text in UTF-8; the archive's structure stays."""
    content = path.read_bytes()
    replace(path, content.replace(b"00001", name))


def headers(path: Path, argument: tuple[str, str]) -> None:
    """A tar, as small as `tar.gz` makes it, whose first member has an odd header for its extended attributes."""
    key, value = argument
    file = BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("DAVIS/JPEGImages/480p/ant/00000.jpg")
        info.size, info.pax_headers = 4, {key: value * (300 << 20) if value == " " and key == "comment" else value}
        if key.startswith("GNU.sparse.map"):
            info.pax_headers["GNU.sparse.size"] = "9"
        archive.addfile(info, BytesIO(b"evil"))
    replace(path, file.getvalue())


def twice(path: Path, name: str) -> None:
    """A second file of the same name and size, but another content; or of a name that becomes the same one."""
    if zipfile.is_zipfile(path):
        replace(path, path.read_bytes())
        with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            first = next(each for each in archive.namelist() if each.endswith((".jpg", ".png")))
            archive.writestr(_like(first, name), _other(archive.read(first)))
        return
    data = path.read_bytes()
    replace(path, gzip.decompress(data) if path.suffix == ".gz" else data)
    with tarfile.open(path) as archive:
        first = next(each for each in archive if each.name.endswith((".jpg", ".png")))
        content = _other(archive.extractfile(first).read())  # type: ignore[union-attr]
    with tarfile.open(path, "a:") as archive:
        first.name = _like(first.name, name)
        archive.addfile(first, BytesIO(content))
    if path.suffix == ".gz":
        replace(path, gzip.compress(path.read_bytes()))


def _like(name: str, kind: str) -> str:
    changes = {"same": name, "upper": name[:-4] + ".JPG", "jpeg": name[:-4] + ".jpeg", "dots": f"./{name}"}
    return changes.get(kind, name.replace("/", "\\"))


def _other(content: bytes) -> bytes:
    return content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]


def dates(path: Path, date: int) -> None:
    os.utime(path, (date, date))


# folders as they are on other machines; all stays readable, so a run must end as if nothing had happened


def litter(path: Path, name: str) -> None:
    place = path / name
    if os.path.lexists(place):
        return
    if name.endswith("/"):
        place.mkdir()
        (place / "00000.jpg").write_bytes(b"no picture")
        (place / "x@SynoEAStream").touch()
    else:
        place.write_bytes(b"no picture")


def behind_a_link(path: Path, kind: str) -> None:
    """The file or folder lies elsewhere, and a link in its place; or links lie in a folder in its place."""
    place = Path("elsewhere", *path.parts[:-1])
    if os.path.lexists(place / path.name):
        return
    place.mkdir(parents=True, exist_ok=True)
    target = Path(os.path.relpath(place / path.name, path.parent.resolve()))
    path.rename(place / path.name)
    if kind == "each file" and (place / path.name).is_dir():
        path.mkdir()
        for each in (place / path.name).iterdir():
            (path / each.name).symlink_to(Path("..", target, each.name))
    else:
        path.symlink_to(place.resolve() / path.name if kind == "absolute" else target)


def large(path: Path, size: int) -> None:
    """The file goes on with nothing, which takes no room on the disk, but would in memory."""
    replace(path, path.read_bytes())
    os.truncate(path, size)


def second_name(path: Path, _: object) -> None:
    """The file is one of the user's, under a second name: who writes into it writes into that."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.hardlink_to("notes.txt")


def array(path: Path, header: str) -> None:
    """An array of NumPy's with this header."""
    data = header.replace("DICT", "'descr': '|u1', 'fortran_order': False, 'shape'").encode()
    replace(path, b"\x93NUMPY\1\0" + len(data).to_bytes(2, "little") + data + bytes(48 * 64))


def shapes(path: Path, kind: str) -> None:
    """Masks in JSON with numbers that no picture has."""
    replace(path, json.dumps(SHAPES[kind]))


def film(path: Path, frames: int) -> None:
    replace(path, b"")
    write_film(path, [noise(t, (48, 64)) for t in range(frames)])


# the folder for the results


def disk(path: Path, size: str) -> None:
    """A separate disk of this size there, or a read-only one.  It goes away with the sandbox."""
    path.mkdir(exist_ok=True)
    options = "ro" if size == "ro" else f"size={size},nr_inodes={40 if size == '1m' else 0}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], check=True)


def _polygon(*points: tuple[float, float], height: int = 48, width: int = 64) -> dict[str, Any]:
    return {"imageHeight": height, "imageWidth": width, "shapes": [{"label": "a", "points": points}]}


SHAPES: dict[str, Any] = {
    "sum that wraps": {"size": [48, 64], "counts": [1 << 62, 1 << 62, 1 << 62, (1 << 62) + 48 * 64]},
    "no end": {"size": [48, 64], "counts": "o" * 4_000_000},
    "one column": _polygon((0, 0), (1, 0), (1, 1 << 28), height=1 << 28, width=1),
    "far away": _polygon((-1e308, 0), (1e308, 0), (9, 9)),
    "not finite": _polygon((float("nan"), 0), (float("inf"), 0), (9, 9)),
    "many large": {
        "images": [{"id": i, "file_name": f"{i}.png", "height": 1 << 14, "width": 1 << 14} for i in range(30)],
        "annotations": [{"image_id": i, "segmentation": [[1, 1, 90, 1, 90, 90]]} for i in range(30)],
    },
}
HEADERS = (
    *("{DICT: (48, 64", "((((", "{DICT: (1000000, 100000000)}", f"{{DICT: ({2**63 - 1}, {2**63 - 1})}}", "{DICT: (-1, 64)}"),
    *("{DICT: (48, 64)}", "{DICT: 7}", "{}", "", "\0", "{DICT: (True, 3072)}"),
)
PICTURES: dict[str, tuple[Callable[[Path, Any], None], tuple]] = {
    "16 bits": (sixteen, (None,)),
    "grey": (mode("L", "PNG"), (None,)),
    "RGBA": (mode("RGBA", "PNG"), (None,)),
    "grey and alpha": (mode("LA", "PNG"), (None,)),
    "1 bit": (mode("1", "PNG"), (None,)),
    "palette": (mode("P", "PNG"), (None,)),
    "see-through palette": (see_through, (None,)),
    "CMYK": (mode("CMYK", "JPEG"), (None,)),
    "32 bits": (mode("I", "TIFF"), (None,)),
    "float": (mode("F", "TIFF"), (None,)),
    "YCbCr": (mode("YCbCr", "TIFF"), (None,)),
    "PPM": (mode("RGB", "PPM"), (None,)),
    "another format": (in_disguise, ("PNG", "JPEG", "BMP", "GIF", "WEBP")),
    "another size": (lambda path, size: converted(path, lambda i: i.resize(size, 0), Image.open(path).format), SIZES),
    "turned": (turned, (3, 6, 9)),
    "alpha only": (alpha_only, (None,)),
    "deep colours": (deep, (1, 16, 257)),
    "in disguise": (in_disguise, ("EPS", "SVG", "PDF", "XPM", "TIFF", "ICO", "PCX", "TGA", "ICNS", "SGI")),
    "a bomb": (bomb, (50_000, 50_000, 12_000)),
}
MASKS = {"ids": (ids, IDS)}
FILES = {
    "one bit": (bit, tuple(range(100))),
    "behind a link": (behind_a_link, ("relative", "absolute")),
    "dates": (dates, (0, -(10**9), 2**31, 7_258_118_400)),
    "cut": (cut, (0.0, 0.1, 0.5, 0.9, 0.99)),
    "garbled": (garbled, tuple(range(50))),
    "text": (lambda path, _: replace(path, "hello\n"), (None,)),
    "removed": (lambda path, _: path.unlink(), (None,)),
    "as a folder": (as_folder, (None,)),
    "large": (large, (1 << 40,)),
    "copied": (copied, NAMES),
    "renamed": (renamed, NAMES),
    "pipe": (pipe, (None,)),
    "link": (link, ("nowhere", ".", "/dev/zero", "/dev/null", "/etc/passwd", "/dev/full", "/proc/self/mem", "/")),
}
FOLDERS = {
    "litter": (
        litter,
        ("@eaDir/", "lost+found/", "__MACOSX/", ".git/", ".DS_Store", "Thumbs.db", "desktop.ini", "._00000.jpg", ".nfs0001"),
    ),
    "linked folder": (behind_a_link, ("relative", "absolute", "each file")),
    "no folder": (lambda path, _: shutil.rmtree(path), (None,)),
    "a file": (lambda path, _: replace(path, "x"), (None,)),
    "copied": (copied, NAMES),
    "renamed": (renamed, NAMES),
    "only": (only, (0, 1, 2)),
    "link": (link, ("nowhere", ".", "..", "/dev/null", "/", "/proc")),
    "pipe": (pipe, (None,)),
}
TEXTS = {
    "lines": (lines, tuple((place, line) for line in LINES for place in (0, 1))),
    "CRLF": (lambda path, _: replace(path, path.read_bytes().replace(b"\n", b"\r\n")), (None,)),
    "encoded": (
        lambda path, name: replace(path, (path.read_text() + "größe\n").encode(name)),
        ("utf-16", "latin-1", "utf-8-sig"),
    ),
    "long": (lambda path, count: replace(path, path.read_text() * count), (2, 3000)),
}
JSONS = {
    "values": (values, tuple(range(400))),
    "many": (many, ("list", "objects", "videos", "deep", "deep objects")),
    "encoded": TEXTS["encoded"],
    "twins": (lambda path, _: replace(path, path.read_text().replace('": ', '": 1, "videos": ', 1)), (None,)),
}
CHECKPOINTS = {"weights": (weights, tuple(range(400))), "code": (code, ("pickle", "zip", "old"))}
ARCHIVES = {
    "one bit": (bit, tuple(range(200))),
    "twice": (twice, ("same", "upper", "jpeg", "dots", "backslashes")),
    "raw names": (raw_names, (b"\xff\xfe\xfd01", b"0\xf6\xdf01", b"\xc3(001")),
    "headers": (
        headers,
        (
            *(("size", value) for value in ("abc", "-5", "9" * 30, "1e3", "7")),
            *(("GNU.sparse.map", value) for value in ("0,1,x", "0", "0,1", "0," + "9" * 20)),
            *(("path", value) for value in ("../evil", "x" * 5000, "\n")),
            *(("comment", " "), ("mtime", "nan"), ("GNU.sparse.major", "1"), ("linkpath", "/etc/passwd")),
        ),
    ),
    "member": (
        member,
        tuple((name, kind) for name in MEMBERS for kind in ("file", "link", "hard", "device", "bomb", "nested")),
    ),
}
FILMS = {"film": (film, (1, 2, 3)), "odd film": (films, ("equal", "late")), "list": (film_list, tuple(LISTS))}
HEALTHY = {"behind a link", "linked folder", "litter", "dates"}
OUTPUTS: dict[str, tuple[Callable[[Path, Any], None], tuple]] = {
    "output: a file": (lambda path, _: replace(path, "precious"), (None,)),
    "output: a link": (link, ("nowhere", ".", "out", "frames", "DAVIS", "/dev/null", "/proc")),
    "output: a pipe": (pipe, (None,)),
    "output: foreign": (
        lambda path, name: replace(path / name, "precious"),
        ("ant", "ant/0.png", "masks/x.png", "thesis.txt", "x_s3/a"),
    ),
    "output: foreign record": (
        lambda path, argument: replace(path / argument[0], argument[1]),
        tuple(
            (name, text)
            for name in ("run.json", "session.json", "segment_video.json", "unfinished/segment_video.json", ".stcn.lock")
            for text in ("", "{}", "[]", "null", '{"format": "STCN results", "version": 1}', "[" * 100_000, "\xff", "1e999")
        ),
    ),
    "output: a second name": (
        lambda path, name: second_name(path / name, None),
        ("unfinished/overlay.mp4", "unfinished/masks/00001.png", "scores.json", "x_s3.pth", "x_s3/log", "f.png", "run.json"),
    ),
    "output: a disk": (disk, ("4k", "16k", "64k", "1m", "ro")),
}
ARRAYS = {"array": (array, HEADERS)}
DRAWN = {"shapes": (shapes, tuple(SHAPES))}
TABLES = (PICTURES, MASKS, FILES, FOLDERS, TEXTS, JSONS, CHECKPOINTS, ARCHIVES, FILMS, ARRAYS, DRAWN, OUTPUTS)
KINDS = {}
for table in TABLES:
    for kind, (do, _) in table.items():
        assert KINDS.setdefault(kind, do) is do, kind


def tables_for(path: str, *, folder: bool) -> list[dict]:
    """The tables of breaks that suit a file or folder."""
    if folder:
        return [FOLDERS]
    own = {".jpg": [PICTURES], ".png": [PICTURES, MASKS], ".txt": [TEXTS], ".json": [JSONS, JSONS], ".pth": [CHECKPOINTS] * 3}
    own |= {".npy": [ARRAYS] * 3}
    if Path(path).name == "mask.json":
        return [FILES, JSONS, DRAWN, DRAWN]
    own |= {".zip": [ARCHIVES] * 2, ".tar": [ARCHIVES] * 2, ".gz": [ARCHIVES] * 2, ".mp4": [FILMS] * 2}
    return [FILES, *own.get(Path(path).suffix, [])]
