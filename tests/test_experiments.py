"""The experiments of docs/experiments.md, on little data; their figures against slow, obvious versions and the paper's."""

import json
import shutil
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import build_light_network, run_script
from naive import naive_similarity
from PIL import Image
from scipy import stats

from evaluation import tables
from model import save_network
from model.checkpoint import digest
from scripts.experiments import affinity, claims, common, correspondences, networks, regions, timing
from scripts.experiments import all as everything
from scripts.experiments.variants import VARIANTS
from training.flags import training_parser

TINY = ("--size", 48, "--device", "cpu")


def experiment(name: str, *flags: object) -> int:
    return run_script(f"scripts.experiments.{name}", *flags)


def found_in(folder, name: str) -> list[dict]:
    return json.loads((folder / f"{name}.json").read_text())["rows"]


# Table 2


def test_operations_and_sizes_are_those_of_the_papers_table_2(tmp_path):
    assert experiment("costs", "--output", tmp_path) == 0
    rows = found_in(tmp_path, "costs")
    assert [(row["similarity"], row["Ck"]) for row in rows] == [(k, n) for n in (128, 64) for k in ("dot", "cosine", "l2")]
    paper = [(6.26, 8.70), (6.26, 8.70), (6.33, 8.70), (3.13, 4.35), (3.13, 4.35), (3.20, 4.35)]
    for row, (giga, mega) in zip(rows, paper, strict=True):
        assert row["GFLOP, the paper's count"] == pytest.approx(giga, abs=0.005)
        assert row["keys, MB"] == pytest.approx(mega, abs=0.005)
        width = row["Ck"] + (row["similarity"] == "l2")  # of the one matrix product
        assert row["GFLOP here"] == pytest.approx(2 * 10 * 1620**2 * width / 2**30)


# Tables 1, 8 and 9


def test_sizes_are_compared(tiny_davis, light_file, tmp_path):
    flags = ("--davis_path", tiny_davis, "--output", tmp_path, "--device", "cpu")
    assert experiment("sizes", "--model", light_file, "--sizes", 48, 32, *flags) == 0
    assert [row["size"] for row in found_in(tmp_path, "sizes")] == [32, 48]
    assert Image.open(tmp_path / "sizes.png").width > 300


@pytest.mark.slow  # others of these scripts are among the quick tests
def test_networks_and_schedules_are_compared(tiny_davis, light_file, stm_file, tmp_path):
    flags = ["--davis_path", tiny_davis, *TINY, "--every", 2, 3, "--output", tmp_path]
    assert experiment("schedules", "--model", stm_file, light_file, *flags) == 0
    rows = found_in(tmp_path, "schedules")
    runs = [(2, True), (2, False), (3, True), (3, False)]
    expected = [(name, *run) for name in ("stm", "light") for run in runs]
    assert [(row["network"], row["every"], row["last"]) for row in rows] == expected
    assert all(0 <= row["J&F"] <= 100 and row["frames/s"] > 0 for row in rows)
    assert rows[0]["J&F"] == pytest.approx((rows[0]["J"] + rows[0]["F"]) / 2)
    assert rows[0]["sha256"] == digest(stm_file) != rows[-1]["sha256"]
    record = json.loads((tmp_path / "stm/every_3_last/run.json").read_text())["settings"]
    assert (record["memory_every"], record["include_last"]) == (3, True)
    assert Image.open(tmp_path / "schedules.png").width > 300
    assert experiment("schedules", "--model", stm_file, light_file, *flags) == 0  # finished before
    assert found_in(tmp_path, "schedules") == rows


@pytest.mark.slow
def test_a_network_is_read_in_several_ways_and_several_together(tiny_davis, light_file, tmp_path):
    flags = ["--davis_path", tiny_davis, *TINY]
    assert experiment("variants", "--model", light_file, *flags, "--output", tmp_path / "a") == 0
    assert {row["variant"] for row in found_in(tmp_path / "a", "variants")} == {*VARIANTS}

    def settings(name: str) -> dict:
        return json.loads((tmp_path / name / "run.json").read_text())["settings"]

    everything_on = settings("a/sizes_flip_kernel")
    assert (everything_on["sizes"], everything_on["flip"], everything_on["kernel"]) == ([48, 60], True, "all")
    assert [settings(f"a/{name}")["top_k"] for name in ("top_10", "all")] == [10, None]
    other = tmp_path / "other.pth"
    save_network(build_light_network(), other)
    assert experiment("variants", "--model", light_file, other, *flags, "--output", tmp_path / "b") == 0
    (row,) = found_in(tmp_path / "b", "variants")
    assert row["variant"] == "ensemble of 2"
    assert settings("b/ensemble_of_2")["model"] == row["sha256"] == f"{digest(light_file)} {digest(other)}"


# Figure 4


@pytest.mark.parametrize("kind", ["l2", "dot"])
def test_the_largest_weights_equal_loops_over_frames(kind):
    rng = np.random.default_rng(0)
    frames = rng.standard_normal((4, 5, 2, 3))
    bank = affinity.WatchedBank(similarity=kind, top_k=3)
    expected = {3: np.zeros(0), None: np.zeros(0)}
    memory: list[np.ndarray] = []
    for frame in frames:
        key = torch.from_numpy(frame).float()
        if memory:
            bank.read(key)
            for query in frame.reshape(5, -1).T:
                similarities = np.array([naive_similarity(row, query, kind) for row in memory])
                for k, largest in expected.items():
                    kept = np.argsort(-similarities)[:k]
                    weights = np.exp(similarities[kept] - similarities[kept].max())
                    largest[kept] = np.maximum(largest[kept], weights / weights.sum())
        bank.add(key, torch.zeros(1, 2, 2, 3))
        memory += list(frame.reshape(5, -1).T)
        expected = {k: np.concatenate([largest, np.zeros(6)]) for k, largest in expected.items()}
    np.testing.assert_allclose(bank.largest["top"], expected[3], atol=1e-5)
    np.testing.assert_allclose(bank.largest["all"], expected[None], atol=1e-5)


def test_figures_of_a_histogram_are_those_of_its_values():
    values = np.random.default_rng(0).beta(0.5, 2, 400)
    counts = np.bincount((values * affinity.BINS).astype(int), minlength=affinity.BINS + 1)
    differences = np.abs(values[:, None] - values).mean()
    assert affinity.gini(counts) == pytest.approx(differences / (2 * values.mean()), abs=1e-3)
    found = affinity.figures(counts)
    assert found["below 1 %"] == pytest.approx(100 * (values < 0.01).mean())
    assert found["below 10 %"] == pytest.approx(100 * (values < 0.1).mean())
    assert affinity.gini(np.bincount([5000] * 7, minlength=affinity.BINS + 1)) == pytest.approx(0)


def test_affinities_are_counted_over_a_data_set_and_a_stopped_run_goes_on(tiny_davis, light_file, stm_file, tmp_path, capsys):
    flags = ["--davis_path", tiny_davis, *TINY, "--mem_every", 2, "--top", 4, "--output", tmp_path]
    assert experiment("affinity", "--model", light_file, stm_file, *flags) == 0
    rows = found_in(tmp_path, "affinity")
    assert [(row["network"], row["reads"]) for row in rows] == [(n, r) for n in ("light", "stm") for r in ("top 4", "all")]
    positions = rows[0]["nodes"] // 4  # frames 0, 2, 4 and 6, of which the last is memory for one read
    assert rows[0]["nodes"] == 4 * positions
    objects = rows[2]["nodes"] // rows[0]["nodes"]
    assert rows[2]["nodes"] == objects * rows[0]["nodes"]  # STM has nodes for each object
    assert Image.open(tmp_path / "affinity.png").width > 300
    before = (tmp_path / "nodes_light.json").stat().st_mtime_ns
    assert experiment("affinity", "--model", light_file, *flags) == 0
    assert (tmp_path / "nodes_light.json").stat().st_mtime_ns == before
    assert experiment("affinity", "--model", light_file, *flags, "--top", 5) == 2
    assert "was made with other settings or by an earlier version, or edited" in capsys.readouterr().err
    assert experiment("affinity", "--model", light_file, *flags, "--top", 5, "--overwrite") == 0


# Figures 2 and 3


def test_with_dot_products_few_points_own_a_region_and_with_l2_all_do(tmp_path):
    assert experiment("regions", "--output", tmp_path) == 0
    points = regions.clusters()
    for kind in ("dot", "l2", "cosine"):
        owner = regions.owners_of(points, kind)
        for y, x in ((0, 0), (399, 399), (20, 350), (311, 77)):
            query = (np.array([x, y]) + 0.5) * regions.SIDE / regions.PIXELS
            found = [naive_similarity(point, query, kind) for point in points.double().numpy()]
            assert found[owner[y, x]] == pytest.approx(max(found), rel=1e-4)
        weights = regions.weights_of(torch.tensor(regions.THREE), kind)
        torch.testing.assert_close(weights.sum(dim=0), torch.ones(regions.PIXELS, regions.PIXELS))
    rows = {row["similarity"]: row["ever most similar"] for row in found_in(tmp_path, "figure2")}
    assert rows["dot product"] < rows["L2"] == len(points)
    assert Image.open(tmp_path / "figure2.png").width > Image.open(tmp_path / "figure3.png").width > 300


# Figure 5


def test_parts_of_a_frame_add_up_and_the_network_is_left_as_it_was(tiny_davis, light_file, stm_file, tmp_path):
    flags = ["--davis_path", tiny_davis, *TINY, "--output", tmp_path]
    assert experiment("timing", "--model", stm_file, light_file, *flags) == 0
    rows = found_in(tmp_path, "timing")
    assert [row["arch"] for row in rows] == ["stm", "stm", "stcn", "stcn"]
    assert [row["network"] for row in rows[:2]] == ["stm, with last", "stm, without"]
    for row in rows:
        parts = [row[name] for name in (*timing.PARTS.values(), timing.REST)]
        assert min(parts) > 0
        assert sum(parts) == pytest.approx(row["sum"])
    assert Image.open(tmp_path / "timing.png").height > 300
    network = build_light_network()
    (video,) = common.videos_of(timing.parser().parse_args(["--davis_path", str(tiny_davis)]))
    timing.seconds_of(network, {"size": 48}, video, lambda: None)
    assert not set(timing.PARTS) & set(vars(network))


# Figure 6


def test_a_point_of_an_unmoved_frame_is_found_where_it_was():
    key = 10 * torch.randn(8, 4, 5, generator=torch.Generator().manual_seed(0))
    weights = correspondences.weights_of(build_light_network(), key, key)
    for row in range(4):
        for column in range(5):
            assert correspondences.peaks_of(weights[row * 5 + column], 0.5) == [(row, column)]
    flat = correspondences.weights_of(build_light_network(), torch.zeros_like(key), key)
    assert all(correspondences.peaks_of(weight, 0.1) == [] for weight in flat)


def test_the_source_frame_and_later_ones_of_any_size_are_drawn_for_each_video(tiny_davis, light_file, tmp_path):
    davis = Path(shutil.copytree(tiny_davis, tmp_path / "DAVIS"))
    Image.new("RGB", (300, 20)).save(max(davis.glob("JPEGImages/480p/*/*.jpg")))
    for flags in ([], ["--points", "30,20", "5,5", "--frames", 2]):
        flags += ["--davis_path", davis, *TINY, "--model", light_file, "--output", tmp_path]
        assert experiment("correspondences", *flags) == 0
        (picture,) = tmp_path.glob("correspondences_light_*.png")
        assert Image.open(picture).width > 240 * 2


def test_what_has_no_correspondence_is_told(tiny_davis, light_file, stm_file, tmp_path, capsys):
    flags = ["--davis_path", tiny_davis, *TINY, "--output", tmp_path]
    for more, message in (
        (["--model", stm_file], "STM's memory keys depend on masks"),
        (["--model", light_file, "--points", "9999,1"], "--points 9999,1:"),
        (["--model", light_file, "--points", "a"], "expected X,Y in pixels"),
        (["--model", light_file, "--source", 7], "--source 7:"),
        (["--model", light_file, "--videos", "none"], "--videos: expected some of"),
        (["--model", light_file, light_file], "--model: expected different files"),
    ):
        assert experiment("correspondences", *flags, *more) == 2
        assert message in capsys.readouterr().err


# The rest


def test_pages_show_every_table_and_picture(tmp_path, capsys):
    tables.report(tmp_path / "a", "one", "Table <1>", [{"x": 1.25, "y": None}, {"x": 20.0, "z": "&"}])
    Image.new("RGB", (40, 30)).save(tmp_path / "figure.png")
    assert "| 1.25 | - | - |" in capsys.readouterr().out
    assert experiment("page", tmp_path) == 0
    text = (tmp_path / "index.html").read_text()
    assert "Table &lt;1&gt;" in text
    assert "<td>20.0</td><td>-</td><td>&amp;</td>" in text
    assert 'src="figure.png"' in text
    assert experiment("page", tmp_path / "absent") == 2


def test_networks_of_one_name_are_told_apart(tmp_path):
    assert list(common.labels_of(["a/x.pth", "b/x.pth"]).values()) == ["a_x", "b_x"]
    assert list(common.labels_of(["a/x.pth", "b/y.pth"]).values()) == ["x", "y"]


# The claims


def claim(better: list[float], other: list[float], files: tuple[str, str] = ("a", "b"), **how: bool) -> dict:
    found = zip(files, (better, other), strict=True)
    sides = [{"name": file, "paper": None, "ours": dict(enumerate(ours)), "files": {file: "0"}} for file, ours in found]
    return {"column": "J&F", "less": False, "enough": False, "sides": sides, **how}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (claim([], [50]), "not run"),
        (claim([70], [50]), "cannot be decided here"),
        (claim([70, 71], [50, 51, 52]), "cannot be decided here"),
        (claim([52, 53, 54], [49, 50, 51]), "supported"),  # 3 ± 2.3
        (claim([51, 52, 53], [49, 50, 51]), "cannot be decided here"),  # 2 ± 2.3
        (claim([49, 50, 51], [52, 53, 54]), "not supported"),
        (claim([49, 50, 51], [52, 53, 54], less=True), "supported"),
        (claim([51, 61, 71], [50, 60, 70]), "cannot be decided here"),
        (claim([51, 61, 71], [50, 60, 70], ("a", "a")), "supported"),  # the same networks: each gains 1
        (claim([49, 50, 51], [50, 51, 52], enough=True), "supported"),  # -1 ± 2.3: a loss of five would have been seen
        (claim([45, 50, 55], [50, 51, 52], enough=True), "cannot be decided here"),
        (claim([70, 71], [50, 51], enough=True), "cannot be decided here"),
        (claim([49, 50, 51], [52, 53, 54], enough=True), "not supported"),  # -3 ± 2.3: less than five, but a loss
    ],
)
@pytest.mark.filterwarnings("ignore:Precision loss")  # three equal figures
def test_a_verdict_follows_from_the_gain_and_its_interval(found, expected):
    assert claims.verdict(found) == expected


@pytest.mark.parametrize(("file", "test"), [("a", stats.ttest_rel), ("b", partial(stats.ttest_ind, equal_var=False))])
def test_intervals_are_those_of_the_t_tests(file, test):
    better, other = [61.0, 58.5, 64.0, 60.2], [57.0, 58.0, 59.5, 50.1]
    gain, half = claims.gain_of(claim(better, other, ("a", file)))
    expected = test(better, other).confidence_interval(0.95)
    assert (gain - half, gain + half) == pytest.approx((expected.low, expected.high))


def test_a_plot_has_a_mark_for_each_gain_and_for_the_papers():
    many, few = claim([52, 53, 54], [49, 50, 51]), claim([20], [10], column="frames/s")
    for side, paper in zip(many["sides"], (85.4, 83.2), strict=True):
        side["paper"] = paper
    points, speeds = claims.draw([many, few]).axes
    marks = [float(x) for line in points.lines if line.get_marker() in ("o", "D") for x in line.get_xdata()]
    assert sorted(marks) == pytest.approx([2.2, 3.0])
    assert [label.get_text() for label in speeds.get_yticklabels()] == ["a against b"]
    assert "frames/s" in speeds.get_xlabel()


def test_the_documented_claims_are_those_of_the_code_and_their_table_is_made_from_the_results():
    results = json.loads(claims.DOCUMENTED.read_text())
    coded_claims = claims.paper_claims()
    assert [one["id"] for one in results["claims"]] == list(coded_claims)
    for one, (name, coded) in zip(results["claims"], coded_claims.items(), strict=True):
        assert [side["paper"] for side in one["sides"]] == [coded.better.paper, coded.other.paper], name
        assert one["claim"] == coded.text
    text = claims.DOCUMENT.read_text().split(claims.START)[1].split(claims.END)[0]
    assert text == claims.documented(results)
    one["sides"] = [{**side, "ours": {"light": 60.0}} for side in one["sides"]]  # the last claim, as if it had been run
    assert (
        "| Section 5 | top-k reading is faster | frames/s | - / - | 60.0 / 60.0 | +0.0 | cannot be decided here |"
        in claims.documented(results)
    )


def test_values_are_means_over_data_sets_and_one_for_each_seed(tmp_path):
    tables_of = []
    for seed in (0, 1):
        paths = [f"seed{seed}/{year}.json" for year in (2016, 2017)]
        for path, add in zip(paths, (0, 10), strict=True):
            rows = [
                {"network": name, "every": 5, "last": False, "J&F": base + add + seed, "file": name, "sha256": "0"}
                for name, base in (("l2_64_s3", 60.0), ("dot_64_s3", 40.0))
            ]
            if (seed, add) != (1, 10):
                tables.write_json(tmp_path / path, {"rows": rows})
        tables_of.append(paths)
    grade = {"settings": {"grade": "real"}, "tables": {"schedules": tables_of}, "commands": {"schedules": ["python x"]}}
    tables.write_json(tmp_path / "grade.json", grade)
    results = claims.collect(tmp_path)
    first = results["claims"][0]
    assert [side["ours"] for side in first["sides"]] == [{"seed0": 65.0}, {"seed0": 45.0}]  # the other seed lacks a data set
    assert first["sides"][0]["files"] == {"l2_64_s3": "0"}
    assert (first["tables"], results["commands"]) == (["schedules"], {"schedules": ["python x"]})
    tables.write_json(tmp_path / "seed1/2017.json", {"rows": rows})
    first = claims.collect(tmp_path)["claims"][0]
    assert first["sides"][0]["ours"] == {"seed0": 65.0, "seed1": 66.0}
    tables.write_json(tmp_path / "grade.json", grade | {"settings": {"grade": "quick"}})
    assert experiment("claims", tmp_path, "--docs") == 2  # such results show nothing
    tables.write_json(tmp_path / "grade.json", {"settings": 3})
    assert experiment("claims", tmp_path) == 2


def test_documented_scores_of_other_seeds_stay_if_the_recipe_is_the_same():
    def results(processor: str, iterations: int = 500, **ours: float) -> dict:
        sides = [{"name": "a", "ours": ours, "files": {f"{run}.pth": "0" for run in ours}}]
        found = [{"id": column, "column": column, "sides": sides} for column in ("J&F", "frames/s")]
        commands = {"schedules": [f"python x --output $OUT/{run} --model {processor}" for run in ours]}
        settings = {"size": 240, "videos": {}, "recipe": {"iterations": iterations}, "processor": processor}
        return {**settings, "commands": commands, "claims": found}

    old, new = results("EPYC", seed0=1.0, seed1=2.0), results("Xeon", seed1=3.0, seed2=4.0)
    found = claims.joined(old, new)
    scores, speeds = (one["sides"][0] for one in found["claims"])
    assert scores["ours"] == {"seed0": 1.0, "seed1": 3.0, "seed2": 4.0}
    assert set(scores["files"]) == {"seed0.pth", "seed1.pth", "seed2.pth"}
    assert speeds["ours"] == {"seed1": 3.0, "seed2": 4.0}
    assert found["processor"] == "EPYC; Xeon"
    told = [f"python x --output $OUT/seed{seed} --model {found_on}" for seed, found_on in enumerate(("EPYC", "Xeon", "Xeon"))]
    assert found["commands"] == {"schedules": told}
    assert claims.joined(results("EPYC", 30, seed0=1.0), new) == new
    assert claims.joined(old | {"claims": []}, new)["claims"] == new["claims"]  # there are more of them now


@pytest.fixture
def little_data(tiny_davis, demo_data) -> list[object]:
    """Flags for one video that is trained on and scored."""
    roots = ["--static_root", demo_data / "static", "--davis_root", tiny_davis, "--davis_2017", tiny_davis]
    small = ["--iterations", 1, 1, "--crop", 48, "--batch_size", 1, "--size", 48]
    return [*roots, *small, "--device", "cpu", "--no_pretrained"]


def test_the_real_grade_says_how_long_it_takes_and_goes_on_where_it_was(little_data, tmp_path, monkeypatch, capsys):
    ran = []

    def run(words: list[str]) -> None:
        name = words[1] if words[0] == "-m" else Path(words[0]).stem
        ran.append(name.removeprefix("scripts.experiments."))
        assert run_script(name, *words[2 if words[0] == "-m" else 1 :]) in (0, None)

    for module in (networks, everything):
        monkeypatch.setattr(module, "run_python", run)
    monkeypatch.setattr(networks, "MEASURED", 1)
    monkeypatch.setitem(networks.SHORT, "num_workers", 0)
    out = tmp_path / "out"
    flags = [out, *little_data, "--only", "main", "--parts", "networks", "schedules"]
    assert experiment("all", *flags) == 0
    assert ran == ["train"] * (2 + 1) + ["schedules", "claims", "page"]  # two trials, and a network
    assert "training: 1 runs left, about" in capsys.readouterr().out
    (file,) = out.glob("networks/seed0/*.pth")
    (found,) = (one for one in json.loads((out / "results.json").read_text())["claims"] if one["id"] == "both-stage3")
    both, main = found["sides"]
    assert (both["ours"], both["files"]) == ({}, {})
    assert 0 <= main["ours"]["seed0"] <= 100
    assert file == out / "networks/seed0/main_s3.pth"
    assert list(main["files"]) == ["seed0/main_s3.pth"]
    text = (out / "index.html").read_text()
    assert "trained for 1 iterations on photographs" in text
    assert "numbers mean nothing" not in text
    ran.clear()
    assert experiment("all", *flags, "--parts", "networks") == 0
    assert ran == ["claims", "page"]  # all networks are there
    assert experiment("all", *flags, "--crop", 64) == 2
    assert "other recipe" in capsys.readouterr().err
    assert experiment("networks", "--output", out / "networks", "--crop", 64) == 2
    assert experiment("all", out) == 2  # nothing to score on


def test_every_network_has_flags_that_the_trainer_knows(tmp_path):
    arguments = networks.parser().parse_args(["--mix", "DAVIS=2", "--own_root", "mine", "--device", "cpu"])
    tasks = networks.tasks_of(arguments, tmp_path, [0, 1])
    assert len(tasks) == 2 * (2 * len(networks.NETWORKS) - 1)
    configs = set()
    for task in tasks:
        found = training_parser("").parse_args(networks.command(arguments, task, tmp_path)[1:])
        assert (found.stage, found.seed, found.iterations) == (task.stage, task.seed, {0: 200, 3: 240}[task.stage])
        assert bool(found.own_root) == bool(found.mix) == (task.stage == 3)
        assert (found.load_network is not None) == (task.stage == 3 and task.network != "main")
        configs.add((found.arch, found.similarity, found.key_dim, found.attention))
    assert len(configs) == len(networks.NETWORKS)  # `main` has the paper's defaults, which `l2_64` names


def test_several_networks_are_trained_at_a_time_but_the_stages_of_each_in_order(tmp_path, monkeypatch):
    ran, together = [], threading.Barrier(3, timeout=60)

    def run(words: list[str]) -> None:
        flags = dict(zip(words[1::2], words[2::2], strict=False))
        if flags["--stage"] == "0":
            together.wait()  # until three have begun
        ran.append((flags["--id"], flags["--stage"]))

    monkeypatch.setattr(networks, "run_python", run)
    only = ["l2_64", "dot_64", "stm_l2_64", "main"]
    arguments = networks.parser().parse_args(["--device", "cpu", "--jobs", "4", "--only", *only])
    networks.train(arguments, tmp_path, 0)
    assert sorted(ran) == sorted([(name, stage) for name in only for stage in "03" if stage == "3" or name != "main"])
    assert all(ran.index((name, "0")) < ran.index((name, "3")) for name in only[:3])


@pytest.mark.slow
def test_everything_runs_on_little_data_and_leaves_a_page(little_data, tmp_path, capfd):
    flags = ["--quick", *little_data, "--only", "l2_64", "--seeds", 0, 1, 2]
    assert experiment("all", tmp_path / "out", *flags) == 0, capfd.readouterr().err
    text = (tmp_path / "out/index.html").read_text()
    assert "numbers mean nothing" in text
    for table in ("schedules", "variants", "affinity", "correspondences", "timing", "regions", "costs", "rounds", "figure_7"):
        assert table in text
    results = json.loads((tmp_path / "out/results.json").read_text())
    runs = {one["id"]: [len(side["ours"]) for side in one["sides"]] for one in results["claims"]}
    assert runs["last-l2_64"] == runs["both-stage0"] == runs["time-matching"] == [3, 3]
    assert runs["multi-scale"] == runs["every-3-5"] == [1, 1]  # its runs are the videos: there is one
    assert (runs["ensemble"], runs["no-cbam"]) == ([1, 3], [0, 3])


@pytest.mark.parametrize("rows", [3, [3]])
def test_a_page_of_odd_rows_is_one_line(rows, tmp_path, capsys):
    (tmp_path / "a.json").write_text(json.dumps({"title": 7, "rows": rows}))
    assert experiment("page", tmp_path) == 2
    assert f"{tmp_path / 'a.json'}: expected rows" in capsys.readouterr().err
