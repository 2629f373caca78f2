"""Shared fixtures: synthetic weights, demo data, small networks, and scripts as functions."""

import functools
import importlib
import json
import multiprocessing.util
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from guard import GUARD
from PIL import Image

import train
import util.progress  # noqa: F401 (progressbar keeps the standard error at import, which must not be a test's)
from model import STCN, NetworkConfig, load_network, make_network, save_network
from util.label_map import colour_map, write_label_map

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "golden"
REAL_DATA = Path(os.environ.get("STCN_DATA", ROOT.parent / "shared" / "data"))
PALETTE = colour_map()
LONG = ("test_train.py", "test_onnx.py", "test_annotate_page.py", "test_golden.py", "test_cases.py", "test_segment_video.py")
sys.path.insert(0, str(GOLDEN))
sys.path[:0] = [str(ROOT / place) for place in ("scripts", "scripts/data", "scripts/dev")]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first, so that no process works long after the other has ended."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.fixture(scope="session", autouse=True)
def nothing_outside(tmp_path_factory) -> Iterator[None]:
    """Makes sure that no test writes or removes anything outside pytest's temporary folder."""
    sockets = Path(multiprocessing.util.get_temp_dir())  # outside: Python removes it at exit, when pytest has removed its own
    base = tmp_path_factory.getbasetemp().resolve()
    (base / "tmp").mkdir(exist_ok=True)
    jupyter = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
    for name in ("TMPDIR", "XDG_CACHE_HOME", "MPLCONFIGDIR", *jupyter):
        os.environ[name] = str(base / "tmp")
    tempfile.tempdir = str(base / "tmp")
    GUARD.allowed = [base, _shared(tmp_path_factory), sockets]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)  # it waits for the disk, and no test takes the power away
        yield
    GUARD.allowed = []
    assert not GUARD.escaped


def _shared(tmp_path_factory) -> Path:
    """A folder that all processes of pytest have in common."""
    base = tmp_path_factory.getbasetemp().resolve()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


def calibrate_briefly() -> None:
    """Without ImageNet weights, `train.py` sets batch norm by 96 frames, which here would take longer than training."""
    train.CALIBRATION_BATCHES, train.CALIBRATION_BATCH = 1, 2


@pytest.fixture(scope="session", autouse=True)
def brief_calibration() -> None:
    calibrate_briefly()


@pytest.fixture(scope="session")
def released_state() -> dict[str, torch.Tensor]:
    """A state dict in the format of the paper's release, with the synthetic weights of the golden results."""
    from weights import fill

    shapes = json.loads((GOLDEN / "checkpoint_keys.json").read_text())
    return {
        name: torch.from_numpy(fill(name, shape)) if shape else torch.tensor(0, dtype=torch.int64)
        for name, shape in shapes.items()
    }


@pytest.fixture(scope="session")
def released_file(released_state, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("released") / "stcn.pth"
    torch.save(released_state, path)
    return path


@pytest.fixture(scope="session")
def golden_network(released_file) -> STCN:
    return load_network(released_file)


def build_light_network(seed: int = 0, **config) -> STCN:
    torch.manual_seed(seed)
    config = {"key_backbone": "resnet18", "key_dim": 8, "value_dim": 32, **config}
    return make_network(NetworkConfig(**config)).eval()


@pytest.fixture(scope="session")
def light_network() -> STCN:
    return build_light_network()


@pytest.fixture(scope="session")
def light_file(light_network, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("light") / "light.pth"
    save_network(light_network, path)
    return path


@pytest.fixture(scope="session")
def stm_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("stm") / "stm.pth"
    save_network(build_light_network(arch="stm"), path)
    return path


@pytest.fixture(scope="session")
def demo_data(tmp_path_factory) -> Path:
    """Made once for all processes of pytest, by the first one that needs it."""
    folder = _shared(tmp_path_factory) / "demo"
    with FileLock(folder.with_name("demo.lock")):
        assert run_script("make_demo_data", folder) == 0
    return folder


@pytest.fixture(scope="session")
def tiny_davis(demo_data, tmp_path_factory):
    """The demo data with one video of eight frames, for training and validation."""
    root = tmp_path_factory.mktemp("tiny") / "DAVIS"
    source = demo_data / "DAVIS/2017/trainval"
    name = (source / "ImageSets/2017/val.txt").read_text().split()[0]
    for part in ("JPEGImages", "Annotations"):
        (root / part / "480p" / name).mkdir(parents=True)
        for path in sorted((source / part / "480p" / name).iterdir())[:8]:
            shutil.copy(path, root / part / "480p" / name)
    (root / "ImageSets/2017").mkdir(parents=True)
    for part in ("train", "val"):
        (root / f"ImageSets/2017/{part}.txt").write_text(f"{name}\n")
    return root


@pytest.fixture(scope="session")
def short_davis(demo_data, tmp_path_factory) -> Path:
    """DAVIS 2017 of the demo data, of each video the first ten frames."""

    def later(_: str, names: list[str]) -> list[str]:
        return [name for name in names if name.endswith((".jpg", ".png")) and name >= "00010"]

    return Path(shutil.copytree(demo_data / "DAVIS/2017", tmp_path_factory.mktemp("short") / "DAVIS", ignore=later))


@pytest.fixture
def real_data() -> Path:
    if not REAL_DATA.is_dir():
        pytest.skip(f"no real data at {REAL_DATA}; set STCN_DATA to where it lies")
    return REAL_DATA


def write_video(images: Path, masks: Path, labels: list[np.ndarray | None], *, palette: bytes | None = PALETTE) -> None:
    """Write a video of noise: `<images>/NNNNN.jpg` for each entry of `labels`, `<masks>/NNNNN.png` unless it is `None`."""
    rng = np.random.default_rng(len(images.name))
    size = next(entry.shape for entry in labels if entry is not None)
    images.mkdir(parents=True)
    for t, entry in enumerate(labels):
        picture = Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8))
        picture.save(images / f"{t:05d}.jpg", quality=95)
        if entry is not None:
            write_label_map(masks / f"{t:05d}.png", entry, palette)


def write_davis(root: Path, videos: dict[str, list[np.ndarray | None]]) -> Path:
    """Write DAVIS 2017 whose validation videos have these labels."""
    for name, labels in videos.items():
        write_video(root / "JPEGImages/480p" / name, root / "Annotations/480p" / name, labels)
    (root / "ImageSets/2017").mkdir(parents=True)
    (root / "ImageSets/2017/val.txt").write_text("\n".join(videos))
    return root


@pytest.fixture
def moving_davis(tmp_path) -> Path:
    """One video of four frames of 48x64 pixels, in which two squares move."""
    masks = [np.zeros((48, 64), np.uint8) for _ in range(4)]
    for t, labels in enumerate(masks):
        labels[8:24, 4 + 3 * t : 20 + 3 * t], labels[28:44, 40 - t : 60 - t] = 1, 2
    return write_davis(tmp_path / "DAVIS", {"cat": masks})


def make_larger(path: Path) -> None:
    with Image.open(path) as image:
        image.resize((300, 200)).save(path)


def content(folder: Path, pattern: str = "*") -> dict[str, bytes]:
    """What is in a folder's files, by their names in it."""
    files = (path for path in sorted(folder.rglob(pattern)) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def run_script(name: str, *arguments: object) -> int:
    """Run a script's `main` in this process, as from the command line; returns the exit status."""
    module = importlib.import_module(name)
    argv, sys.argv = sys.argv, [name, *map(str, arguments)]
    try:
        return module.main()
    except SystemExit as leaving:  # argparse
        return int(leaving.code or 0)
    finally:
        sys.argv = argv


@pytest.fixture(autouse=True)
def load_once(monkeypatch) -> None:
    """Lets evaluations share a network whose file has not changed."""

    def load(path: str | Path, device: torch.device) -> STCN:
        if not os.path.isfile(path):
            return load_network(path, device)
        found = os.stat(path)
        return _load(str(path), device, (found.st_ino, found.st_mtime_ns, found.st_size))

    monkeypatch.setattr("evaluation.run.load_network", load)


@functools.lru_cache(maxsize=4)
def _load(path: str, device: torch.device, _: tuple) -> STCN:
    return load_network(path, device)


@pytest.fixture
def script() -> Callable[..., int]:
    return run_script
