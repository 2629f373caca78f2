"""How a CPU convolves is measured once and recorded: whatever goes on with results does as the run before."""

import json
from collections.abc import Callable

import pytest
from conftest import ROOT, run_script
from films import square, write_folder
from test_ranks import finish, torchrun
from test_segment_video import stop_at
from torch import nn

import model.fast
from model import winograd
from util.label_map import colour_map, write_label_map

NARROW_TOO = """
import model.fast
import model.winograd
from torch import nn
model.winograd.is_wide = lambda module: (
    isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3) and module.stride == (1, 1) and module.in_channels >= 16
)
"""


class Machine:
    """A CPU on which Winograd's algorithm pays or not, and what networks have chosen on it."""

    def __init__(self, monkeypatch) -> None:
        self.pays = True
        self.chosen: list[bool | None] = []
        prepare = model.fast.for_inference

        def for_inference(*arguments, **options):
            network = prepare(*arguments, **options)
            self.chosen.append(network.winograd)
            return network

        monkeypatch.setattr("model.fast.for_inference", for_inference)
        monkeypatch.setattr("model.fast.winograd_pays", lambda: self.pays)

    def runs(self, pays: bool, run: Callable[[], int]) -> tuple[int, bool | None]:
        """The exit status of a run while the algorithm pays or does not, and what its network chose."""
        self.pays = pays
        return run(), self.chosen[-1]


@pytest.fixture
def machine(monkeypatch) -> Machine:
    def is_wide(module: nn.Module) -> bool:
        return isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3) and module.in_channels >= 16

    monkeypatch.setattr("model.winograd.is_wide", is_wide)
    return Machine(monkeypatch)


@pytest.fixture
def flags(light_file) -> list[object]:
    return ["--model", light_file, "--size", 48, "--device", "cpu", "--amp", "off"]


@pytest.mark.parametrize("pays", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_an_evaluation_goes_on_as_it_began(pays, machine, flags, tiny_davis, tmp_path, capsys):
    def run(*more: object) -> int:
        return run_script("eval_davis", "--davis_path", tiny_davis, "--output", tmp_path / "out", *flags, *more)

    assert machine.runs(pays, run) == (0, pays)
    assert json.loads((tmp_path / "out/run.json").read_text())["settings"]["winograd"] is pays
    assert machine.runs(not pays, run) == (0, pays)
    assert machine.runs(not pays, lambda: run("--overwrite")) == (0, not pays)  # measured anew
    status, _ = machine.runs(pays, lambda: run("--tune", "off"))
    assert (status == 0) == (not pays)
    assert ("winograd was False, is True" in capsys.readouterr().err) == pays


@pytest.mark.parametrize(("pays", "stop"), [(True, 2), (False, None)], ids=["stopped", "finished"])
def test_the_video_of_a_user_goes_on_as_it_began(pays, stop, machine, flags, tmp_path, monkeypatch, capsys):
    write_label_map(tmp_path / "a.png", square((4, 4)), colour_map())
    frames = write_folder(tmp_path / "frames", 4)

    def run() -> int:
        mask = f"2:{tmp_path / 'a.png'}"
        return run_script("segment_video", frames, "--mask", mask, "--output", tmp_path / "out", *flags)

    with monkeypatch.context() as patch:
        if stop is not None:
            stop_at(patch, stop)
        assert machine.runs(pays, run)[1] is pays
    assert machine.runs(not pays, run) == (0, pays)
    assert ("already finished" in capsys.readouterr().out) == (stop is None)


@pytest.mark.parametrize("pays", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_rounds_of_corrections_go_on_as_they_began(pays, machine, flags, tiny_davis, tmp_path, monkeypatch):
    def run() -> int:
        common = ("--davis_path", tiny_davis, "--rounds", 1, "--output", tmp_path / "out")
        return run_script("eval_rounds", *common, *flags)

    assert machine.runs(pays, run) == (0, pays)
    assert machine.runs(not pays, run) == (0, pays)


@pytest.mark.parametrize("pays", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_an_annotation_goes_on_as_it_began(pays, machine, flags, tmp_path, monkeypatch):
    uvicorn = pytest.importorskip("uvicorn", reason="the extra `web` is not installed")
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: None)
    frames = write_folder(tmp_path / "frames", 2)

    def run() -> int:
        return run_script("annotate", frames, "--output", tmp_path / "out", "--port", 0, "--scribble_model", "none", *flags)

    for now in (pays, not pays):
        assert machine.runs(now, run) == (0, pays)
        assert json.loads((tmp_path / "out/session.json").read_text())["settings"]["winograd"] is pays


@pytest.mark.slow
def test_all_ranks_convolve_as_rank_0_found_best(flags, tiny_davis, tmp_path):
    """Each rank would find another way best."""
    wrapper = tmp_path / "ranks.py"
    wrapper.write_text(
        f"import os, sys\nsys.path.insert(0, {str(ROOT)!r})\nimport util\n{NARROW_TOO}"
        "rank = os.environ['RANK']\nmodel.fast.winograd_pays = lambda: rank == '1'\n"
        "import eval_davis, evaluation.run as run\nmake = run.segmenter_of\n"
        "def segmenter_of(networks, *arguments, **options):\n"
        f"    open({str(tmp_path)!r} + '/rank' + rank, 'w').write(str(networks[0].winograd))\n"
        "    return make(networks, *arguments, **options)\n"
        "run.segmenter_of = segmenter_of\nsys.exit(eval_davis.main())\n"
    )
    finish(torchrun(wrapper, "--davis_path", tiny_davis, "--output", tmp_path / "out", *flags))
    assert [(tmp_path / f"rank{rank}").read_text() for rank in (0, 1)] == ["False", "False"]


@pytest.mark.parametrize("damage", [None, "{", "[]", "7", '{"a": 1}'])
def test_what_was_measured_is_remembered_for_this_machine_and_number_of_threads(damage, tmp_path, monkeypatch):
    measured = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("model.winograd._is_faster", lambda: measured.append(1) or len(measured) == 1)
    pays = winograd.winograd_pays.__wrapped__  # in a new process
    if damage is not None:
        (tmp_path / "stcn").mkdir()
        (tmp_path / "stcn/winograd.json").write_text(damage)
    assert [pays(), pays()] == [True, True]
    monkeypatch.setattr("torch.get_num_threads", lambda: 99)
    assert [pays(), pays()] == [False, False]
    assert len(measured) == 2
    assert set(json.loads((tmp_path / "stcn/winograd.json").read_text()).values()) == {True, False}


def test_where_nothing_can_be_remembered_it_is_measured_each_time(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("model.winograd._is_faster", lambda: True)
    assert winograd.winograd_pays.__wrapped__()
