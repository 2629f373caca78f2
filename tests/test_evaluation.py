"""The two benchmark scripts as their users run them: what they write, skip, refuse and survive."""

import json
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import build_light_network, content, write_davis, write_video
from forks import ForkedScript
from PIL import Image

import eval_davis
import eval_youtube
from evaluation.run import share
from model import STCN, VideoSegmenter, save_network
from util.label_map import read_label_map, write_label_map

HEIGHT, WIDTH = 32, 48
LENGTHS = {"ant": 3, "bee": 5, "cow": 4}


def square(number: int, left: int) -> np.ndarray:
    labels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    labels[8:24, left : left + 14] = number
    return labels


@pytest.fixture
def davis(tmp_path) -> Path:
    both = np.maximum(square(1, 4), square(2, 24))
    return write_davis(tmp_path / "DAVIS", {name: [both] * length for name, length in LENGTHS.items()})


@pytest.fixture
def segment(davis, light_file, script, tmp_path):
    """`eval_davis.py` on the three videos; returns the exit status."""

    def run(*flags: object, output: Path = tmp_path / "out") -> int:
        flags = ("--davis_path", davis, "--output", output, "--device", "cpu", *flags)
        return script("eval_davis", "--model", light_file, *flags)

    return run


def all_frames() -> set[str]:
    return {f"{name}/{t:05d}.png" for name, length in LENGTHS.items() for t in range(length)}


def test_masks_and_scores_are_written(segment, tmp_path, capsys):
    assert segment() == 0
    out = tmp_path / "out"
    assert set(content(out, "*.png")) == all_frames()
    assert {path.name for path in out.iterdir() if path.is_file()} == {
        "run.json",
        "scores.json",
        "global_results-val.csv",
        "per-object_results-val.csv",
        "per-sequence_results-val.csv",
    }
    text = capsys.readouterr().out
    for part in ("frames per second of processing", "from end to end", "peak resident memory", "J&F-Mean"):
        assert part in text
    assert np.array_equal(read_label_map(out / "ant/00000.png").labels, np.maximum(square(1, 4), square(2, 24)))


def test_frames_without_a_result_count_in_the_speed(demo_data, light_file, script, tmp_path, capsys):
    flags = ("--yv_path", demo_data / "YouTube", "--videos", "yt-valid0", "--size", 64, "--output", tmp_path / "out")
    assert script("eval_youtube", "--model", light_file, *flags) == 0
    frames, results = re.search(r"(\d+) frames, (\d+) results: \S+ frames per", capsys.readouterr().out).groups()
    assert int(results) == len(content(tmp_path / "out", "*.png")) < int(frames)


@pytest.mark.parametrize(
    "options",
    [
        {"memory_every": 2, "top_k": 7, "include_last": True},
        {"memory_every": 1, "top_k": None, "max_memory_frames": 1},
    ],
    ids=str,
)
def test_results_are_those_of_the_segmenter(options, segment, davis, light_network, tmp_path):
    flags = ["--mem_every", options["memory_every"], "--top", options["top_k"] or "all", "--threads", 1]
    flags += ["--include_last"] if "include_last" in options else ["--max_memory_frames", 1]
    assert segment(*flags, "--videos", "bee", "--amp", "off", "--tune", "off") == 0
    segmenter = VideoSegmenter(light_network, **options)
    for t, path in enumerate(sorted((davis / "JPEGImages/480p/bee").iterdir())):
        mask = read_label_map(davis / "Annotations/480p/bee/00000.png").labels if t == 0 else None
        expected = segmenter.to_labels(segmenter.step(np.array(Image.open(path)), mask)).numpy()
        assert np.array_equal(read_label_map(tmp_path / f"out/bee/{t:05d}.png").labels, expected)


def test_videos_without_truth_are_segmented_and_not_scored(segment, davis, tmp_path, capsys):
    root = davis.parent / "test-dev"
    shutil.copytree(davis, root / "test-dev")
    (root / "test-dev/ImageSets/2017/val.txt").rename(root / "test-dev/ImageSets/2017/test-dev.txt")
    for path in (root / "test-dev/Annotations").rglob("*.png"):
        if path.stem != "00000":
            path.unlink()
    assert segment("--davis_path", root, "--split", "testdev", "--videos", "ant") == 0
    out = tmp_path / "out"
    assert set(content(out, "*.png")) == {f"ant/{t:05d}.png" for t in range(LENGTHS["ant"])}
    assert {path.name for path in out.iterdir() if path.is_file()} == {"run.json"}
    assert "not scored" in capsys.readouterr().out


def test_the_network_works_at_the_size_asked_for(segment, tmp_path, monkeypatch):
    sizes = set()
    encode_key = STCN.encode_key

    def looking(network, image):
        sizes.add(tuple(image.shape[2:]))
        return encode_key(network, image)

    monkeypatch.setattr(STCN, "encode_key", looking)
    assert segment("--size", 24, "--videos", "ant") == 0
    assert sizes == {(32, 48)}  # 24x36, padded to multiples of 16
    labels = read_label_map(tmp_path / "out/ant/00001.png").labels
    assert labels.shape == square(1, 4).shape


def test_finished_videos_are_kept_and_others_made_again(segment, tmp_path, capsys):
    assert segment() == 0
    out = tmp_path / "out"
    first = content(out, "*.png")
    (out / "bee/00004.png").unlink()
    for name in ("ant", "cow"):
        (out / name / "00001.png").write_bytes(b"not made again")
    segment("--num_workers", 0)  # such flags do not change the results
    assert "2 videos were already finished" in capsys.readouterr().out
    again = content(out, "*.png")
    assert {name for name in first if first[name] != again.get(name)} == {"ant/00001.png", "cow/00001.png"}


def test_a_run_that_is_cut_off_goes_on_to_the_same_results(segment, davis, tmp_path, monkeypatch):
    steps = []

    class CutOff(VideoSegmenter):
        def step(self, *arguments):
            steps.append(1)
            if len(steps) == LENGTHS["bee"] + 3:  # in the second longest video
                raise KeyboardInterrupt
            return super().step(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("evaluation.run.VideoSegmenter", CutOff)
        assert segment() == 130
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir() if path.is_dir() and not path.name.startswith(".")} == {"bee"}
    assert segment() == 0
    assert segment(output=tmp_path / "at_once") == 0
    assert content(out, "*.png") == content(tmp_path / "at_once", "*.png")
    assert not list(out.glob(".*"))


def test_other_flags_and_another_checkpoint_are_refused_with_what_differs(segment, light_file, tmp_path, capsys):
    assert segment() == 0
    before = content(tmp_path / "out", "*.png")
    save_network(build_light_network(seed=1), tmp_path / "other.pth")
    for flags, told in ((("--top", 5), "top_k was 20, is 5"), (("--model", tmp_path / "other.pth"), "model was ")):
        assert segment(*flags) == 2
        error = capsys.readouterr().err
        assert told in error
        assert "--overwrite" in error
        assert content(tmp_path / "out", "*.png") == before
        assert json.loads((tmp_path / "out/run.json").read_text())["settings"]["top_k"] == 20
    assert segment("--top", 5, "--overwrite") == 0
    assert json.loads((tmp_path / "out/run.json").read_text())["settings"]["top_k"] == 5
    assert content(tmp_path / "out", "*.png") != before


def test_results_of_other_videos_are_not_taken_for_this_networks(segment, davis, tmp_path, capsys):
    (davis / "ImageSets/2017/val.txt").write_text("ant")
    assert segment() == 0
    (davis / "ImageSets/2017/val.txt").write_text("bee")
    assert segment("--top", 5) == 2
    assert "top_k was 20, is 5" in capsys.readouterr().err
    assert segment("--top", 5, "--overwrite", "--zip") == 0
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()} == {"bee"}
    (davis / "ImageSets/2017/val.txt").write_text("cow")
    assert segment("--top", 5) == 0
    assert set(json.loads((tmp_path / "out/run.json").read_text())["videos"]) == {"bee", "cow"}
    (davis / "JPEGImages/480p/cow/00002.jpg").write_bytes(b"")
    assert segment("--overwrite") == 1
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"run.json"}


def test_a_file_where_the_output_should_go_is_told(segment, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for output in (tmp_path / "file", tmp_path / "file/below"):
        assert segment(output=output) == 2
        assert "expected a folder, found a file" in capsys.readouterr().err


def test_a_broken_image_fails_its_video_alone(segment, davis, tmp_path, capsys):
    broken = davis / "JPEGImages/480p/bee/00003.jpg"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:300])
    assert segment() == 1
    out = tmp_path / "out"
    assert set(content(out, "*.png")) == {name for name in all_frames() if not name.startswith("bee")}
    assert f"failed: bee: {broken}: cannot read this image" in capsys.readouterr().out
    assert not (out / "scores.json").exists()
    broken.write_bytes(whole)
    assert segment() == 0
    assert set(content(out, "*.png")) == all_frames()
    assert (out / "scores.json").exists()


def test_the_archive_holds_the_masks_that_two_processes_and_threads_that_read_ahead_make_as_well(
    segment, davis, light_file, tmp_path
):
    assert segment("--zip", "--num_workers", 0) == 0
    expected = content(tmp_path / "out", "*.png")
    with zipfile.ZipFile(tmp_path / "out/results.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == expected
    flags = ["--model", light_file, "--davis_path", davis, "--output", tmp_path / "two", "--device", "cpu"]
    told = ForkedScript(tmp_path / "log", "eval_davis", *flags, processes=2).finish()
    assert told.count(f"{sum(LENGTHS.values())} frames: ") == 1
    assert content(tmp_path / "two", "*.png") == expected
    assert (tmp_path / "two/scores.json").read_text() == (tmp_path / "out/scores.json").read_text()


def test_videos_are_shared_longest_first():
    class Video(list):
        def __init__(self, name: str, length: int) -> None:
            super().__init__([0] * length)
            self.name = name

    videos = [Video(name, length) for name, length in zip("abcde", (10, 60, 30, 20, 30), strict=True)]
    assert [[video.name for video in part] for part in share(videos, 2)] == [["b", "d"], ["c", "e", "a"]]


@pytest.fixture
def youtube(tmp_path) -> Path:
    root = tmp_path / "YouTube"
    masks = [None] * 7
    masks[0], masks[3] = square(5, 4), square(9, 24)
    write_video(root / "all_frames/valid_all_frames/JPEGImages/late", root / "valid/Annotations/late", masks)
    objects = {"5": ["00000", "00003", "00006"], "9": ["00003", "00006"]}
    meta = {"late": {"objects": {i: {"category": "cat", "frames": frames} for i, frames in objects.items()}}}
    (root / "valid/meta.json").write_text(json.dumps({"videos": meta}))
    return root


def test_youtube_results_have_the_size_frames_and_ids_of_the_data_set(youtube, light_file, script, tmp_path):
    flags = ("--model", light_file, "--yv_path", youtube, "--output", tmp_path / "out", "--size", 48)
    assert script("eval_youtube", *flags, "--zip") == 0
    folder = tmp_path / "out/Annotations/late"
    found = {path.stem: read_label_map(path).labels for path in sorted(folder.iterdir())}
    assert list(found) == ["00000", "00003", "00006"]
    assert {labels.shape for labels in found.values()} == {(HEIGHT, WIDTH)}
    assert set(np.unique(found["00000"])) == {0, 5}
    assert 9 in found["00003"]
    with zipfile.ZipFile(tmp_path / "out/results.zip") as archive:
        assert archive.namelist() == [f"Annotations/late/{name}.png" for name in found]
    assert script("eval_youtube", *flags, "--output_all", "--overwrite") == 0
    every = {path.stem: read_label_map(path).labels for path in sorted(folder.iterdir())}
    assert len(every) == 7
    assert all(np.array_equal(every[name], labels) for name, labels in found.items())
    assert not any(9 in labels for name, labels in every.items() if name < "00003")


@pytest.mark.parametrize(
    ("flags", "able", "is_papers", "expected"),
    [
        ((), True, False, True),
        ((), False, False, False),
        ((), True, True, False),  # its results are compared with published ones
        (("--amp",), False, True, True),
        (("--amp", "off"), True, False, False),
    ],
)
def test_half_precision_is_for_hardware_that_has_it(flags, able, is_papers, expected, segment, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": able}, raising=False)
    if is_papers:
        monkeypatch.setattr("evaluation.run.NetworkConfig", lambda: build_light_network().config)
    monkeypatch.setattr("evaluation.run.evaluate", lambda *arguments, **options: None)
    segment(*flags)
    assert json.loads((tmp_path / "out/run.json").read_text())["settings"]["amp"] == expected


def test_youtube_without_the_frames_between_is_warned_of(youtube, light_file, script, tmp_path, capsys):
    for folder in ("all_frames/valid_all_frames/JPEGImages", "valid/JPEGImages"):
        (youtube / folder).parent.mkdir(parents=True, exist_ok=True)
    flags = ("--model", light_file, "--yv_path", youtube, "--size", 32, "--output")
    assert script("eval_youtube", *flags, tmp_path / "full") == 0
    assert "warning" not in capsys.readouterr().err
    assert json.loads((tmp_path / "full/run.json").read_text())["settings"]["sparse"] is False
    (youtube / "all_frames/valid_all_frames/JPEGImages").rename(youtube / "valid/JPEGImages")
    shutil.rmtree(youtube / "all_frames")
    assert script("eval_youtube", *flags, tmp_path / "sparse") == 0
    assert capsys.readouterr().err.count("warning: ") == 1
    assert json.loads((tmp_path / "sparse/run.json").read_text())["settings"]["sparse"] is True


@pytest.mark.parametrize("module", [eval_davis, eval_youtube])
def test_bad_input_ends_before_the_network_is_built(module, light_file, script, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("evaluation.run.load_network", lambda *arguments: pytest.fail("the network was built"))
    path = "--davis_path" if module is eval_davis else "--yv_path"
    assert script(module.__name__, "--model", light_file, path, tmp_path / "none", "--output", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path}/none")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "none.pth"], "none.pth: no such checkpoint"),
        (["--device", "abacus"], "--device 'abacus' is not a device"),
        (["--top", "0"], "--top: expected an integer of at least 1, found '0'"),
        pytest.param(
            ["--device", "cuda"],
            "PyTorch sees no CUDA device",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device"),
        ),
    ],
)
def test_bad_flags_are_told_in_one_line(flags, message, segment, tmp_path, capsys):
    assert segment(*flags) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("year", [2016, 2017])
def test_real_davis_sequences_run_through(year, real_data, script, tmp_path):
    save_network(build_light_network(), tmp_path / "light.pth")
    root = real_data / "DAVIS" / str(year)
    flags = ("--model", tmp_path / "light.pth", "--davis_path", root, "--output", tmp_path / "out", "--year", year)
    assert script("eval_davis", *flags) == 0
    for line in json.loads((tmp_path / "out/scores.json").read_text())["sequences"].values():
        assert 0 < line["J&F"] < 1


@pytest.mark.slow
def test_the_real_youtube_video_runs_through(real_data, script, tmp_path):
    save_network(build_light_network(), tmp_path / "light.pth")
    flags = ("--model", tmp_path / "light.pth", "--yv_path", real_data / "YouTube", "--output", tmp_path / "out")
    assert script("eval_youtube", *flags) == 0
    meta = json.loads((real_data / "YouTube/valid/meta.json").read_text())["videos"]
    for name, entry in meta.items():
        wanted = {frame for scored in entry["objects"].values() for frame in scored["frames"]}
        assert {path.stem for path in (tmp_path / "out/Annotations" / name).iterdir()} == wanted


def test_a_data_set_of_ones_own_is_segmented_and_scored(davis, light_file, script, tmp_path, capsys):
    own = tmp_path / "own"
    for name in ("JPEGImages", "Annotations"):
        shutil.copytree(davis / name / "480p", own / name)
    flags = ("--yv_path", own, "--output", tmp_path / "out", "--size", HEIGHT)
    assert script("eval_youtube", "--model", light_file, *flags) == 0
    names = [path.relative_to(own / "JPEGImages").with_suffix("") for path in sorted((own / "JPEGImages").rglob("*.jpg"))]
    found = sorted((tmp_path / "out/Annotations").rglob("*.png"))
    assert [path.relative_to(tmp_path / "out/Annotations").with_suffix("") for path in found] == names
    assert script("eval_youtube", "--model", light_file, *flags, "--all_masks") == 2  # its results differ
    assert script("eval_youtube", "--model", light_file, *flags, "--all_masks", "--overwrite") == 0
    capsys.readouterr()
    assert script("score", "--results", tmp_path / "out", "--yv_path", own) == 0
    assert "approximate" not in capsys.readouterr().out
    scores = json.loads((tmp_path / "out/scores.json").read_text())
    assert scores["global"]["J"]["mean"] == pytest.approx(1)  # every mask was given


def draw_in(folder: Path, value: int) -> None:
    """Make one object of all in the masks, with this value."""
    for path in folder.rglob("*.png"):
        write_label_map(path, (read_label_map(path).labels != 0) * np.uint8(value), None)


@pytest.mark.parametrize("layout", ["own", "DAVIS"])
def test_white_on_black_is_segmented_and_scored_as_object_1(layout, davis, light_file, script, tmp_path):
    """Results are identical, to the byte, to those from the same masks with 1 instead of 255."""
    written = []
    for value in (1, 255):
        root, out = tmp_path / f"data{value}", tmp_path / f"out{value}"
        shutil.copytree(davis, root)
        draw_in(root / "Annotations", value)
        if layout == "own":
            for name in ("JPEGImages", "Annotations"):
                shutil.copytree(root / name / "480p", tmp_path / f"own{value}" / name)
            flags = ("--yv_path", tmp_path / f"own{value}", "--videos", "ant")
            assert script("eval_youtube", "--model", light_file, *flags, "--output", out) == 0
            assert script("score", "--results", out, *flags) == 0
        else:
            flags = ("--davis_path", root, "--videos", "ant")
            assert script("eval_davis", "--model", light_file, *flags, "--output", out) == 0
        written.append((content(out, "*.png"), (out / "scores.json").read_text()))
    assert written[0] == written[1]
    masks = [read_label_map(path).labels for path in (tmp_path / "out255").rglob("*.png")]
    assert {number for mask in masks for number in np.unique(mask).tolist()} == {0, 1}


def test_results_that_are_white_on_black_are_scored_as_object_1(davis, script, tmp_path):
    """Ours number it 1; others, and the truth itself, may have 255."""
    draw_in(davis / "Annotations", 255)
    scores = []
    for value in (1, 255):
        out = tmp_path / f"results{value}"
        for path in (davis / "Annotations/480p").rglob("*.png"):
            write_label_map(out / path.parent.name / path.name, np.roll(read_label_map(path).labels, 3), None)
        draw_in(out, value)
        assert script("score", "--results", out, "--davis_path", davis) == 0
        scores.append(json.loads((out / "scores.json").read_text()))
    assert scores[0] == scores[1]
    assert 0 < scores[0]["global"]["J&F"] < 1


def test_truth_of_which_only_ignored_pixels_are_left_is_empty_truth(davis, script, tmp_path):
    """In a video that numbers its objects, 255 is ignored in every frame, even in masks of only 0 and 255."""
    masks = davis / "Annotations/480p/bee"
    results = tmp_path / "results"
    for value in (0, 255):
        for t in (2, 3):
            write_label_map(masks / f"0000{t}.png", square(value, 10), None)
        shutil.copytree(davis / "Annotations/480p", results / str(value))
        for t in (2, 3):
            write_label_map(results / str(value) / f"bee/0000{t}.png", square(0, 0), None)
        assert script("score", "--results", results / str(value), "--davis_path", davis) == 0
        scores = json.loads((results / str(value) / "scores.json").read_text())
        assert scores["global"]["J&F"] == 1
