"""The report page: its content, its behaviour in a browser, and the input that it refuses."""

import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import report
from conftest import make_larger, run_script, write_davis
from PIL import Image

from dataset.davis import davis_videos
from evaluation.metrics import score_masks
from evaluation.score_tables import davis_scores
from evaluation.scores import davis_jobs, score_videos
from util.image import read_image
from util.label_map import write_label_map

VOID = {"meta", "img"}


class Page(HTMLParser):
    """Collects the rows of each table and the attributes of each element, and checks that every tag is closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.headings: list[str] = []
        self._open: list[str] = []
        self.feed(path.read_text())
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "h2":
            self.headings.append("")

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & {*self._open}:
            self.tables[-1][-1][-1] += data
        elif self._open and self._open[-1] == "h2":
            self.headings[-1] += data.strip()

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def copied(short_davis, script, tmp_path) -> Path:
    assert script("copy_first_mask", "--davis_path", short_davis, "--output", tmp_path / "copied") == 0
    return tmp_path / "copied"


@pytest.fixture
def moved(short_davis, tmp_path) -> Path:
    """The truth, moved by some pixels."""
    for video in davis_videos(short_davis):
        for name, path in video.truth.items():
            video.write_mask(tmp_path / "moved" / video.name / f"{name}.png", np.roll(video.read_mask(path), 3, axis=1))
    return tmp_path / "moved"


@pytest.fixture(scope="module")
def page_of_copied(short_davis, tmp_path_factory) -> tuple[Path, dict]:
    """A report with six frames of each video, and the scores that it is about."""
    folder = tmp_path_factory.mktemp("report")
    copied, page = folder / "copied", folder / "out/page.html"
    assert run_script("copy_first_mask", "--davis_path", short_davis, "--output", copied) == 0
    flags = ("--davis_path", short_davis, "--frames", 6, "--processes", 1, "--output", page)
    assert run_script("report", copied, *flags) == 0
    return page, scores_of(copied, short_davis)


def scores_of(results: Path, davis: Path) -> dict:
    return davis_scores(score_videos(davis_jobs(davis_videos(davis), results), processes=1, shown=False))


def figures(entry: dict) -> list[float]:
    values = [100 * entry[measure][key] for measure in "JF" for key in ("mean", "recall", "decay")]
    return [(values[0] + values[3]) / 2, *values]


def test_the_table_has_the_scores_of_each_object_the_worst_first(page_of_copied):
    page, scores = page_of_copied
    found = Page(page)
    header, *rows, total = found.tables[0]
    assert header == ["Sequence", "Object", "J&F", "J mean", "J recall", "J decay", "F mean", "F recall", "F decay"]
    expected = {
        (name, number): [f"{value:.1f}" for value in figures(entry)]
        for name, sequence in scores["sequences"].items()
        for number, entry in sequence["objects"].items()
    }
    assert {(name, number): values for name, number, *values in rows} == expected
    assert [float(row[2]) for row in rows] == sorted(float(row[2]) for row in rows)
    assert total == ["Mean over objects", *(f"{value:.1f}" for value in figures(scores["global"]))]
    worst_first = sorted(scores["sequences"], key=lambda name: scores["sequences"][name]["J&F"])
    assert found.headings == worst_first
    targets = [element["id"] for element in found.of("section")]
    links = {link["href"] for link in found.of("a")}
    assert links == {"#scores", *(f"#{target}" for target in targets)}


def test_plots_and_strips_show_the_frames_that_the_scores_say(page_of_copied):
    page, scores = page_of_copied
    found, scores = Page(page), scores["sequences"]
    names = sorted(scores, key=lambda name: scores[name]["J&F"])
    curves = [curve["points"].split() for curve in found.of("polyline")]
    for name, strip in zip(names, found.tables[1:], strict=True):
        objects = scores[name]["objects"]
        for measure in "JF":
            for entry in objects.values():
                points = np.array([point.split(",") for point in curves.pop(0)], dtype=float)
                top, bottom = 28, 168  # of the axis from 100 to 0 %
                heights = (bottom - points[:, 1]) / (bottom - top)
                np.testing.assert_allclose(heights, entry[f"{measure}_frames"], atol=0.0006)
                assert (np.diff(points[:, 0]) > 0).all()
        means = np.mean([entry[f"{measure}_frames"] for entry in objects.values() for measure in "JF"], axis=0)
        groups, (_, *frames), (_, *shown), (_, *truth) = strip
        assert groups == ["", "Worst frames first", "Over time"]
        indices = [int(frame) - 1 for frame in frames]  # the first frame is not scored
        assert len(set(indices)) == len(indices)
        assert shown == [f"J&F {100 * means[t]:.1f}" for t in indices]
        assert truth == [""] * len(frames)
        assert indices[0] == means.argmin()
        assert means[indices[:3]].tolist() == sorted(means[indices[:3]])
        assert indices[3:] == sorted(indices[3:])
    assert curves == []
    pictures = found.of("img")
    assert len(pictures) == sum(2 * len(strip[1][1:]) for strip in found.tables[1:])
    assert all(picture["alt"] and picture["src"].startswith("data:image/jpeg;base64,") for picture in pictures)


def test_worst_frames_are_low_and_not_all_of_one_stretch():
    scores = np.ones(80)
    scores[20:24] = 0.1, 0.0, 0.1, 0.1
    scores[60] = 0.5
    assert report.worst_frames(scores, 2) == [21, 60]
    assert report.worst_frames(np.array([0.3, 0.1, 0.2]), 4) == [1, 2, 0]


def test_two_results_stand_side_by_side(copied, moved, short_davis, script, tmp_path):
    page = tmp_path / "page.html"
    assert script("report", copied, "--against", moved, "--davis_path", short_davis, "--output", page) == 0
    found = Page(page)
    ours, other = scores_of(copied, short_davis), scores_of(moved, short_davis)
    header, *rows, total = found.tables[0]
    assert header[-2:] == ["J&F against", "Difference"]
    for name, number, *values in rows:
        ours_is, other_is = (figures(tree["sequences"][name]["objects"][number])[0] for tree in (ours, other))
        assert values[0] == f"{ours_is:.1f}"
        assert values[-2:] == [f"{other_is:.1f}", f"{ours_is - other_is:+.1f}"]
    means = [figures(tree["global"])[0] for tree in (ours, other)]
    assert total[-2:] == [f"{means[1]:.1f}", f"{means[0] - means[1]:+.1f}"]
    assert means[0] < means[1]
    for strip in found.tables[1:]:
        assert [row[0] for row in strip[2:]] == [str(copied), str(moved), "truth"]
    solid, dashed = ([c for c in found.of("polyline") if c["class"] == f"of-{i}"] for i in range(2))
    assert len(solid) == len(dashed) == 2 * len(rows)
    assert {curve["style"] for curve in solid} == {curve["style"] for curve in dashed}


def test_the_page_needs_nothing_from_elsewhere(page_of_copied):
    page, _ = page_of_copied
    found = Page(page)
    assert not {tag for tag, _ in found.elements} & {"link", "iframe", "object", "embed", "base", "form"}
    for _, attributes in found.elements:
        assert attributes.get("src", "data:").startswith("data:")
        assert attributes.get("href", "#").startswith("#")
        assert "srcset" not in attributes
    text = re.sub(r"data:image/jpeg;base64,[\w+/=]+", "", page.read_text())
    assert not re.search(r"https?:|//\w|@import|url\(|fetch\(|XMLHttpRequest|\bimport\b", text)
    assert "default-src 'none'" in text


ODD = """<i>&amp;"o'dd$title"""


@pytest.fixture
def odd_davis(tmp_path) -> Path:
    """One video of three frames, the fewest that can be scored, with HTML's special characters in its name."""
    labels = np.zeros((40, 60), dtype=np.uint8)
    labels[10:30, 10:30], labels[5:9, 40:50] = 1, 2
    return write_davis(tmp_path / "odd", {ODD: [labels] * 3})


def test_names_are_text_and_never_markup(odd_davis, script, tmp_path):
    results = Path(shutil.copytree(odd_davis / "Annotations/480p", tmp_path / "results"))
    flags = ["--against", results, "--davis_path", odd_davis, "--output", tmp_path / "page.html"]
    assert script("report", results, *flags) == 0
    found = Page(tmp_path / "page.html")
    assert [row[:3] for row in found.tables[0][1:3]] == [[ODD, "1", "100.0"], [ODD, "2", "100.0"]]
    assert found.headings == [ODD]
    assert "<i>" not in (tmp_path / "page.html").read_text()
    assert all(picture["alt"].startswith(f"{ODD}, frame 00001, ") for picture in found.of("img"))


def truth_as_results(path: Path) -> None:
    shutil.rmtree(path)
    path.symlink_to(path.with_name("davis") / "trainval/Annotations/480p")


DAMAGE = {
    "the truth is the result": ("copied", truth_as_results, "{path}: expected results, found the ground truth"),
    "no results": ("copied", shutil.rmtree, "{path}: expected a folder with results, found none"),
    "a mask is broken": ("copied/val2/00007.png", lambda path: path.write_bytes(b"PNG"), "{path}: cannot read this image"),
    "the truth is missing": ("davis/trainval/Annotations/480p/val1/00005.png", Path.unlink, "val1/00005: no ground truth"),
    "a frame is larger": ("davis/trainval/JPEGImages/480p/val1/00001.jpg", make_larger, "00001.jpg is 200x300"),
    "the output is a folder": ("page.html", Path.mkdir, "--output {path}: expected a file to write, found a folder"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_what_cannot_be_shown_is_told_in_one_line_and_nothing_is_written(what, copied, short_davis, script, tmp_path, capsys):
    shutil.copytree(short_davis, tmp_path / "davis")
    place, damage, message = DAMAGE[what]
    damage(tmp_path / place)
    before = sorted(tmp_path.iterdir())
    assert script("report", copied, "--davis_path", tmp_path / "davis", "--output", tmp_path / "page.html") == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert message.format(path=tmp_path / place) in line
    assert sorted(tmp_path.iterdir()) == before


def test_other_results_that_lack_a_mask_are_told_before_any_is_scored(copied, moved, short_davis, script, tmp_path, capsys):
    (moved / "val3" / "00004.png").unlink()
    flags = ["--against", moved, "--davis_path", short_davis, "--output", tmp_path / "page.html"]
    assert script("report", copied, *flags) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {moved / 'val3' / '00004.png'}: no such result")


PRESS = """<script>
const shown = () => [...document.querySelectorAll("#scores tbody tr")].map((row) =>
  [...row.cells].map((cell) => cell.textContent).join("|")).join(";") + "/" +
  heads.map((head) => head.getAttribute("aria-sort") ?? "").join("|");
const orders = [shown()];
for (const column of [6, 6, 5, 0, 2]) {
  const button = heads[column].querySelector("button");
  button.focus();
  if (document.activeElement !== button) throw new Error("cannot be reached with the keyboard");
  button.click();
  orders.push(shown());
}
document.body.dataset.orders = orders.join("#");
</script>"""


@pytest.fixture
def browser(tmp_path):
    """Opens a page in headless Chromium and returns its output."""
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip(f"no {', '.join(names)} to open the page in")
    quiet = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"

    home = {**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")}  # crash reports go there

    def run(page: Path, *flags: str) -> str:
        command = [program, "--headless", "--no-sandbox", "--disable-gpu", *quiet, profile, *flags, page.as_uri()]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=home).stdout

    return run


def test_a_browser_shows_the_page_and_sorts_its_table(browser, copied, moved, short_davis, script, tmp_path):
    page, pressed, picture = (tmp_path / name for name in ("page.html", "pressed.html", "page.png"))
    assert script("report", moved, "--against", copied, "--davis_path", short_davis, "--output", page) == 0
    browser(page, f"--screenshot={picture}", "--window-size=900,700")
    assert read_image(picture).shape == (700, 900, 3)
    assert len(np.unique(read_image(picture).reshape(-1, 3), axis=0)) > 1000  # text, lines and photographs

    pressed.write_text(page.read_text().replace("</body>", f"{PRESS}</body>"))
    (body,) = (attributes for tag, attributes in _dumped(browser(pressed, "--dump-dom"), tmp_path) if tag == "body")
    orders = body["data-orders"].split("#")
    rows = Page(page).tables[0][1:-1]
    assert {row[5][0] == "-" for row in rows} == {True, False}  # sorting these as text would give another order
    presses = [(2, 1), (6, 1), (6, -1), (5, 1), (0, 1), (2, 1)]  # the first is how the page opens
    for found, (column, sign) in zip(orders, presses, strict=True):
        table, directions = found.split("/")
        rows = sorted(rows, key=lambda row: row[0] if column == 0 else sign * float(row[column]))
        assert [row.split("|") for row in table.split(";")] == rows
        direction = "ascending" if sign == 1 else "descending"
        assert directions.split("|") == [direction if i == column else "" for i in range(len(rows[0]))]


def _dumped(text: str, folder: Path) -> list[tuple[str, dict[str, str]]]:
    (folder / "dumped.html").write_text(text)
    return Page(folder / "dumped.html").elements


def test_frames_that_are_not_padded_with_zeros_are_shown_under_their_own_scores(tmp_path, script):
    """Sorted as text, 10 to 12 come before 2, and the wrong frames are left out and shown."""
    root, labels = tmp_path / "data", np.zeros((40, 60), np.uint8)
    labels[10:30, 10:30] = 1
    (root / "ImageSets/2017").mkdir(parents=True)
    (root / "ImageSets/2017/val.txt").write_text("cat\n")
    (root / "JPEGImages/480p/cat").mkdir(parents=True)
    for t in range(1, 13):
        Image.new("RGB", (60, 40)).save(root / f"JPEGImages/480p/cat/{t}.jpg")
        write_label_map(root / f"Annotations/480p/cat/{t}.png", labels, None)
        write_label_map(tmp_path / f"results/cat/{t}.png", np.roll(labels, t, axis=1), None)
    page = tmp_path / "page.html"
    assert script("report", tmp_path / "results", "--davis_path", root, "--frames", 4, "--output", page) == 0
    _, (_, *frames), (_, *shown), _ = Page(page).tables[1]
    assert frames[0] == "11"  # 12 is the last and is not scored
    for frame, text in zip(frames, shown, strict=True):
        j, f = score_masks(labels == 1, np.roll(labels, int(frame), axis=1) == 1)
        assert text == f"J&F {50 * (j + f):.1f}"
