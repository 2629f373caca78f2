"""Scripts in bash, with a Python that only prints: demo.sh reads its arguments first, training checks all data first."""

import itertools
import os
import shutil
import subprocess
from pathlib import Path

import convert_weights
import make_clips
import make_demo_data
import pytest
from conftest import ROOT

import eval_davis
import train
from scripts.experiments import all as all_experiments


@pytest.fixture
def project(tmp_path) -> Path:
    """A project that holds only demo.sh, with a Python that prints its arguments; an installation leaves `installed`."""
    project = tmp_path / "project"
    (project / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts/demo.sh", project / "scripts")
    (project / "bin").mkdir()
    (project / "bin/python").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (project / "bin/python").chmod(0o755)
    install = 'cd "$(dirname "${BASH_SOURCE[0]}")/.."\ntouch installed\nexport PATH="$PWD/bin:$PATH"\n'
    (project / "scripts/venv.sh").write_text(install)
    return project


def demo(project: Path, *arguments: str) -> subprocess.CompletedProcess:
    (project.parent / "elsewhere").mkdir(exist_ok=True)
    command = ["bash", str(project / "scripts/demo.sh"), *arguments]
    return subprocess.run(command, cwd=project.parent / "elsewhere", env=os.environ, capture_output=True, text=True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("film.mp4",),
        ("film.mp4", "first.png", "second.png"),
        ("film.mp4", "--overwrite"),
        ("--overwrite",),
        ("--overwrite", "film.mp4"),
        ("--train", "film.mp4"),
        ("",),
    ],
)
def test_wrong_arguments_are_one_line_before_anything_is_installed(arguments, project):
    result = demo(project, *arguments)
    assert result.returncode == 2
    assert result.stderr == "usage: bash scripts/demo.sh [--train | VIDEO MASK [FLAGS OF segment_video.py]]\n"
    assert result.stdout == ""
    assert not (project / "installed").exists()


def test_a_video_and_a_mask_are_segmented_with_further_flags(project):
    result = demo(project, "my film.mp4", "12:first.png", "--overwrite", "--size", "320")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        f"{project}/scripts/segment_video.py",
        "my film.mp4",
        "--mask",
        "12:first.png",
        "--model",
        f"{project}/saves/stcn_light.pth",
        "--output",
        f"{project}/demo/own",
        "--overwrite",
        "--size",
        "320",
    ]


def test_without_arguments_it_is_the_demo(project):
    result = demo(project)
    lines = result.stdout.splitlines()
    assert lines[0] == "scripts/data/make_demo_data.py"
    assert "eval_davis.py" in lines
    assert "train.py" not in lines
    assert lines[-1].endswith("demo.sh --train")
    assert "train.py" in demo(project, "--train").stdout.splitlines()


@pytest.mark.parametrize(("name", "stages"), [("s03", (0, 3)), ("s012", (0, 1, 2))])
def test_all_stages_are_checked_before_the_first_begins_and_get_all_flags(name, stages, project):
    shutil.copy(ROOT / f"scripts/train_{name}.sh", project / "scripts")
    for command in ("python", "torchrun"):
        (project / "bin" / command).write_text('#!/bin/sh\necho "$(basename "$0") $@"\n[ "$UNUSABLE" != "$*" ]\n')
        (project / "bin" / command).chmod(0o755)
    flags = "--id mine --save_dir out -i 7"
    also = " ".join(map(str, stages))

    def run(**variables: str) -> list[str]:
        environment = os.environ | {"PATH": f"{project}/bin:{os.environ['PATH']}", **variables}
        command = ["bash", str(project / f"scripts/train_{name}.sh"), *flags.split()]
        return subprocess.run(command, env=environment, capture_output=True, text=True).stdout.splitlines()

    common = f"train.py --id {name} --also_stages {also} {flags} --stage"
    checks = [f"python {common} {stage} --check" for stage in stages]
    begin = f"torchrun --standalone --nproc_per_node=2 {common}"
    later = [f"{begin} {stage} --after {before}" for before, stage in itertools.pairwise(stages)]
    assert run() == [*checks, f"{begin} {stages[0]}", *later]
    assert run(UNUSABLE=checks[-1].removeprefix("python ")) == checks


def test_every_command_of_the_long_scripts_is_one_that_its_program_reads(project):
    for name in ("train_small.sh", "small_data.sh", "experiments/all.sh"):
        (project / "scripts/experiments").mkdir(exist_ok=True)
        shutil.copy(ROOT / "scripts" / name, project / "scripts" / name)
    (project / "bin/python").write_text('#!/bin/sh\necho "$@"\n')
    for name in ("static", "DAVIS", "mine"):
        (project / name).mkdir()
    roots = {"STATIC_ROOT": "static", "DAVIS_ROOT": "DAVIS", "OWN_ROOT": "mine", "DAVIS_2016": "val", "AMP": "bfloat16"}
    environment = os.environ | roots
    commands = []
    for name, *flags in (["train_small.sh"], ["experiments/all.sh", "--seeds", "0", "1"], ["experiments/all.sh", "--quick"]):
        command = ["bash", str(project / "scripts" / name), *flags]
        commands += subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    parsers = {
        "train.py": train.parser,
        "eval_davis.py": eval_davis.parser,
        "-m": all_experiments.parser,
        "scripts/convert_weights.py": convert_weights.parser,
        "scripts/data/make_clips.py": make_clips.parser,
        "scripts/data/make_demo_data.py": make_demo_data.parser,
    }
    for program, *words in (line.split() for line in commands):
        parsers[program]().parse_args(words[program == "-m" :])
    assert [sum(line.startswith(program) for line in commands) for program in parsers] == [4, 1, 2, 1, 2, 1]
