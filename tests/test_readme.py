"""Every command in the documents is parsed by its script's own parser, and run if its data is small."""

import importlib
import re
import shlex
import shutil
from pathlib import Path

import pytest
from conftest import ROOT, build_light_network, run_script
from PIL import Image

from model import save_network

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SMALL_NETWORK = {"--key_backbone": "resnet18", "--value_backbone": "resnet18", "--key_dim": "8", "--value_dim": "32"}
LONG = ("train", "scripts.benchmark.__main__")  # only parsed here; their own tests run them


def commands() -> list[tuple[str, str]]:
    """(document, command) for each line of each bash block."""
    found = []
    for document in DOCUMENTS:
        for block in re.findall(r"```bash\n(.*?)```", document.read_text(), flags=re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                if command := line.split(" #")[0].strip():
                    found.append((document.name, command))
    return found


def python_of(command: str) -> tuple[str, list[str]] | None:
    """The module and the arguments of a command that runs one of our scripts; else `None`."""
    words = [word for word in shlex.split(command) if not re.fullmatch(r"[A-Z_0-9]+=.*", word)]
    if words[:2] == ["python", "-m"]:
        package = (ROOT / words[2].replace(".", "/")).is_dir()
        return f"{words[2]}{'.__main__' if package else ''}", words[3:]
    if words[0] in ("python", "torchrun"):
        place = next(i for i, word in enumerate(words) if word.endswith(".py"))
        path = ROOT / words[place]
        assert path.is_file(), command
        return path.stem, words[place + 1 :]
    return None


def test_each_command_is_one_that_exists():
    for document, command in commands():
        script = python_of(command)
        if script is None:
            words = shlex.split(command)
            named = [word for word in words if word.endswith((".sh", ".txt", ".py"))]
            assert named or words[0] in ("pip", "tensorboard", "cd", "git"), f"{document}: {command}"
            for word in named:
                assert (ROOT / word.split("::")[0]).is_file(), f"{document}: {command}"
            continue
        name, arguments = script
        try:
            importlib.import_module(name).parser().parse_args(arguments)
        except SystemExit:
            pytest.fail(f"{document}: {command}")


def test_the_snippet_of_the_readme_reads_frames_in_order_and_segments_them(tmp_path, monkeypatch):
    (snippet,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    (tmp_path / "frames").mkdir()
    (tmp_path / "saves").mkdir()
    shutil.copy(ROOT / "saves/stcn_light.pth", tmp_path / "saves")
    for t in (1, 2, 10):
        Image.new("L", (64, 48), 20 * t).save(tmp_path / f"frames/{t}.jpg")
    mask = Image.new("L", (64, 48))
    mask.paste(255, (10, 10, 40, 40))
    mask.save(tmp_path / "first.png")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(snippet, names)
    assert [round(frame.mean() / 20) for frame in names["frames"]] == [1, 2, 10]
    assert len(names["labels"]) == 3
    assert set(names["labels"][0].unique().tolist()) == {0, 1}


@pytest.fixture
def beside_data(demo_data, tmp_path) -> Path:
    """A project folder with the demo data next to it, laid out as in the README, and a network in `saves`."""
    root = tmp_path / "readme"
    root.mkdir()
    for name in ("static", "BL30K", "YouTube", "DAVIS"):
        (root / name).symlink_to(demo_data / name)
    project = root / "project"
    (project / "saves").mkdir(parents=True)
    for name in ("stcn_light.pth", "stcn_scribble.pth"):
        (project / "saves" / name).symlink_to(ROOT / "saves" / name)
    frames = sorted((demo_data / "DAVIS/2017/trainval/JPEGImages/480p").iterdir())[-1]
    (project / "frames").symlink_to(frames)
    masks = demo_data / "DAVIS/2017/trainval/Annotations/480p" / frames.name
    (project / "first.png").symlink_to(masks / "00000.png")
    (project / "second.png").symlink_to(masks / "00012.png")
    (project / "mine").mkdir()
    for part in ("JPEGImages", "Annotations"):
        (project / "mine" / part).symlink_to(demo_data / "DAVIS/2017/trainval" / part / "480p")
    return project


@pytest.fixture
def beside_little_data(beside_data, tiny_davis) -> Path:
    """The same with one short video in place of several."""
    davis, mine = beside_data.parent / "DAVIS", beside_data / "mine"
    for path in (davis, mine / "JPEGImages", mine / "Annotations"):
        path.unlink()
    davis.mkdir()
    (davis / "2017").symlink_to(tiny_davis)
    for part in ("JPEGImages", "Annotations"):
        (mine / part).symlink_to(tiny_davis / part / "480p")
    return beside_data


def test_the_commands_of_the_readme_run_one_after_the_other(beside_little_data, monkeypatch, capsys):
    monkeypatch.chdir(beside_little_data)
    ran = []
    for document, command in commands():
        script = python_of(command)
        if document != "README.md" or script is None or script[0] in LONG or command.startswith("torchrun"):
            continue
        name, arguments = script
        files = [word for word in arguments if "/" in word or "." in word]
        absent = [word for word in files if word.startswith("../") and not Path(word).exists()]
        not_here = {"saves/stcn.pth", "released.pth", "holiday.mp4"} & set(arguments)
        if absent or not_here or name.startswith("prepare_"):
            continue  # needs the official data or the paper's network
        if name in ("eval_davis", "eval_youtube", "segment_video"):
            arguments += ["--size", "64"]  # for speed
        assert run_script(name, *arguments) in (0, None), f"{command}\n{capsys.readouterr().err}"
        ran.append(name)
    assert {"eval_davis", "eval_youtube", "score", "segment_video", "report"} <= set(ran)


@pytest.mark.slow
def test_the_commands_of_the_experiments_run_one_after_the_other(beside_little_data, demo_data, monkeypatch, capfd):
    monkeypatch.chdir(beside_little_data)
    beside = beside_little_data.parent
    (beside / "YouTube2018").symlink_to("YouTube")
    (beside / "DAVIS/2016").symlink_to(demo_data / "DAVIS/2016")
    tiny = {
        "train": ["--crop", "48", "-i", "1", "-b", "1", "--num_workers", "0", "--no_pretrained", "--device", "cpu"],
        "scripts.experiments.networks": ["--crop", "48", "--iterations", "1", "1", "--batch_size", "1", "--no_pretrained"]
        + ["--only", "l2_64", "--seeds", "0"],
        "scripts.experiments.regions": [],
        "scripts.experiments.costs": [],
        "show_results": [],
    }
    ran = []
    for document, command in commands():
        script = python_of(command)
        if document != "experiments.md" or script is None:
            continue
        name, arguments = script
        if name == "scripts.experiments.claims":
            continue  # it would change the page
        if name == "train":
            for flag, value in SMALL_NETWORK.items():
                arguments += [] if flag in arguments else [flag, value]
        for path in [Path(word) for word in arguments if word.endswith(".pth")]:  # stand-ins for what is not trained here
            if not path.exists():
                save_network(build_light_network(arch="stm" if "stm" in path.name else "stcn"), path)
        arguments = [
            word.replace("423,81", "42,8").replace("452,250", "45,25").replace("blackswan", "val0") for word in arguments
        ]
        arguments += tiny.get(name, ["--size", "48", "--device", "cpu"])
        assert run_script(name, *arguments) in (0, None), f"{command}\n{capfd.readouterr().err}"
        ran.append(name)
    assert {"eval_davis", "eval_youtube", "train", "scripts.experiments.timing", "show_results"} <= {*ran}
