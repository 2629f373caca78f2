"""Thousands of broken data trees for every script: each run must end well, whatever it is given.

    PYTHONPATH=.:tests bash tests/robustness/sandbox.sh FOLDER python tests/robustness/generated.py FOLDER --cases 200

A case is a script's command, up to three breaks (`breaks.py`) and perhaps an odd number for a flag.  What must hold is in
`Trial.problems`.  `--soak` runs 10,000 cases; `--again CASE` runs one that was printed.  Run it only in the sandbox.
"""

import argparse
import ast
import contextlib
import importlib
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import good
import trials
from breaks import HEALTHY, OUTPUTS, Break, tables_for
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from trials import COMMANDS, Command, Trial, call, stop

MEMORY = 3 << 30  # bytes that a case may take
CASES, SOAK = 200, 10_000
NUMBERS = ("0", "-1", "nan", "inf", "-inf", "", "x", "1e400", "1e-400", "9" * 5000, "-9" + "9" * 30, "0x10", "٣", "1_0", " 1")
LARGE = ("1", "3", "2147483648", "9223372036854775808", "1" + "0" * 30)  # for flags that do not make a run long
HARMLESS = ("top", "mem_every", "max_memory_frames", "seed", "keep", "frames", "save_every", "log_every", "fps", "shown")


class Case(NamedTuple):
    """What is tried; `repr` and `Case.read` go back and forth."""

    command: str
    breaks: tuple[Break, ...] = ()
    flag: tuple[str, ...] = ()
    prior: bool = False  # whether the results of the unbroken command are there already

    @staticmethod
    def read(text: str) -> "Case":
        name, breaks, flag, prior = ast.literal_eval(text)
        return Case(name, tuple(Break(*each) for each in breaks), flag, prior)

    def plain(self) -> str:
        return ascii((self.command, tuple(map(tuple, self.breaks)), self.flag, self.prior))


def number_flags(script: str) -> list[tuple[str, ...]]:
    """The numeric flags of a script, each with an odd value."""
    module = importlib.import_module(script)
    result = []
    for action in module.parser()._actions:
        if action.type in (None, str) or not action.option_strings:
            continue
        values = (*NUMBERS, *LARGE) if action.dest in HARMLESS else NUMBERS
        result += [(f"{action.option_strings[-1]}={value}",) for value in values]
    return result


def cases(root: Path, commands: dict[str, Command]) -> st.SearchStrategy[Case]:
    """Cases over some commands, as often as their weights say."""
    names = [name for name, command in commands.items() for _ in range(command.weight)]
    return st.sampled_from(names).flatmap(lambda name: cases_of(name, root))


def cases_of(name: str, root: Path) -> st.SearchStrategy[Case]:
    command = COMMANDS[name]
    if name not in _FOUND:
        inputs = [path for top in command.reads for path in (root / "good" / top, *(root / "good" / top).rglob("*"))]
        _FOUND[name] = ([_entry(path, root / "good") for path in sorted(inputs)], number_flags(command.words[0]))
        out = root / "baseline" / name
        _FOUND[f"{name} prior"] = ([_entry(path, out) for path in sorted(out.rglob("out/*"))], [])
    (inputs, flags), (results, _) = _FOUND[name], _FOUND[f"{name} prior"]
    kinds = [("out", kind, arguments) for kind, (_, arguments) in sorted(OUTPUTS.items())]
    outputs = st.sampled_from(kinds).flatmap(_with_argument)
    breaks = st.sampled_from(inputs).flatmap(_break_of) if inputs else outputs
    of_results = st.sampled_from(results).flatmap(_break_of) if results else breaks
    flag = st.sampled_from(flags) if flags else st.just(())
    some = st.one_of(
        *[st.tuples(st.tuples(breaks), st.just(()), st.just(False))] * 4,
        st.tuples(st.tuples(breaks, breaks), st.just(()), st.just(False)),
        st.tuples(st.tuples(breaks, breaks, breaks), st.just(()), st.just(False)),
        st.tuples(st.tuples(outputs), st.just(()), st.just(False)),
        st.tuples(st.tuples(of_results), st.just(()), st.just(True)),
        st.tuples(st.tuples(of_results, breaks), st.just(()), st.just(True)),
        st.tuples(st.just(()), flag, st.just(False)),
    )
    return some.map(lambda parts: Case(name, *parts))


_FOUND: dict[str, tuple[list[tuple[str, bool]], list]] = {}


def _entry(path: Path, root: Path) -> tuple[str, bool]:
    return str(path.relative_to(root)), path.is_dir()


def _break_of(entry: tuple[str, bool]) -> st.SearchStrategy[Break]:
    path, is_folder = entry
    tables = tables_for(path, folder=is_folder)
    choices = [(path, kind, arguments) for table in tables for kind, (_, arguments) in table.items()]
    return st.sampled_from(choices).flatmap(_with_argument)


def _with_argument(choice: tuple[str, str, tuple]) -> st.SearchStrategy[Break]:
    path, kind, arguments = choice
    return st.builds(Break, st.just(kind), st.just(path), st.sampled_from(arguments))


def run(case: Case, root: Path) -> tuple[Trial, list[str]]:
    """Run a case in a fresh copy of the good tree; returns what is wrong with its end."""
    command, here = COMMANDS[case.command], root / "here"
    fresh(root)
    os.chdir(here)
    if case.prior and (root / "baseline" / case.command / "out").exists():
        shutil.copytree(root / "baseline" / case.command / "out", here / "out", symlinks=True)
    for number, each in enumerate(case.breaks):
        with contextlib.suppress(*[Exception] * (number > 0)):  # an earlier break may have left nothing to break
            each.apply()
    before, results = good.snapshot(here), good.snapshot(here, inside="out") if case.prior else {}
    trial = call(command, case.flag)
    broken = [each.path for each in case.breaks if each.kind not in HEALTHY or each.path.startswith("out")]
    problems = trial.problems(root / "baseline" / case.command, broken, case.flag)
    if case.breaks and not broken and not case.flag and not case.prior and trial.status != command.good_status:
        problems.append(f"refused what is healthy: {trial.last[:300]}")
    changed = {name for name, _ in good.snapshot(here).items() ^ before.items() if not trials.may_change(name)}
    # the folder for the results may be a link, and so may the parts of a data set in it
    parts = ("link", "linked folder") if command.words[0].startswith("prepare_") else ()
    if changed and not any(each.kind in ("output: a link", *parts) and each.path.startswith("out") for each in case.breaks):
        problems.append(f"touched outside: {sorted(changed)[:3]}")
    if (
        case.prior
        and trial.status == 2
        and "have changed since" not in trial.out
        and (lost := results.keys() - good.snapshot(here, inside="out").keys())
    ):
        problems += [] if all(trials.may_change(name) for name in lost) else [f"lost results: {sorted(lost)[:3]}"]
    clean = not case.prior and not any(each.path.startswith("out") for each in case.breaks)
    if not problems and command.resumes and broken and trial.status and not case.flag and clean:
        problems += mended(case, root)
    os.chdir(root)
    return trial, problems


def mended(case: Case, root: Path) -> list[str]:
    """Repair the data and run the same command again into what is left: it must complete the undisturbed result."""
    os.chdir(root)
    if (root / "here/out").exists():
        (root / "here/out").rename(root / "kept")
    fresh(root)
    if (root / "kept").exists():
        (root / "kept").rename(root / "here/out")
    os.chdir(root / "here")
    trial = call(COMMANDS[case.command])
    if re.search(r"holds an unfinished run \(|holds results of another run \(model was", trial.last):  # of the broken data
        trial = call(COMMANDS[case.command], ("--overwrite",))
    if trial.status != 0:
        return [f"the mended data give status {trial.status}: {trial.trouble or trial.last}"]
    return [f"after mending: {problem}" for problem in trial.problems(root / "baseline" / case.command, [], ())]


def fresh(root: Path) -> None:
    here = root / "here"
    if here.exists():
        lines = Path("/proc/self/mounts").read_text().splitlines()
        mounts = [line.split()[1].encode().decode("unicode_escape") for line in lines]
        for mount in reversed([mount for mount in mounts if Path(mount).is_relative_to(here)]):  # also behind links
            subprocess.run(["umount", "-l", mount], check=True)
        shutil.rmtree(here)
    # links for the large files, which breaks replace and no script writes
    shutil.copytree(root / "good", here, copy_function=lambda a, b: os.link(a, b) if a.endswith(".pth") else shutil.copy(a, b))


def prepare(root: Path, commands: dict[str, Command]) -> None:
    """The good tree, and what each command makes of it."""
    (root / "good").mkdir()
    good.build(root / "good")
    trials.build_more(root / "good")
    for name, command in commands.items():
        fresh(root)
        os.chdir(root / "here")
        trial = call(command)
        assert trial.status == command.good_status, f"{name}: {trial.status} {trial.trouble} {trial.err[-500:]}"
        command.complete()
        if (root / "here/out").exists():
            shutil.copytree(root / "here/out", root / "baseline" / name / "out", symlinks=True)
    os.chdir(root)


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    result.add_argument("folder", type=Path, help="the sandbox's folder")
    result.add_argument("--cases", type=int, help=f"number of cases (default: {CASES}, with --soak {SOAK})")
    result.add_argument("--soak", action="store_true", help="many cases, also of slow commands")
    result.add_argument("--seed", type=int, default=0, help="of the cases")
    result.add_argument("--only", nargs="+", metavar="NAME", help="cases of these commands alone")
    result.add_argument("--again", metavar="CASE", help="run one case, as printed")
    return result


def main(words: Sequence[str] | None = None) -> int:
    good.stay_in_the_sandbox()
    arguments = parser().parse_args(words)
    root = arguments.folder.resolve()
    signal.signal(signal.SIGALRM, stop)
    with trials.patched():
        wanted = arguments.only if arguments.only else [Case.read(arguments.again).command] if arguments.again else COMMANDS
        commands = {
            name: COMMANDS[name] for name in wanted if arguments.soak or wanted is not COMMANDS or not COMMANDS[name].soak
        }
        prepare(root, commands)
        taken = int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[1]) << 10
        resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, resource.RLIM_INFINITY))
        counts: Counter[str] = Counter()

        def attempt(case: Case) -> None:
            trial, problems = run(case, root)
            counts[f"status {trial.status}"] += 1
            counts[f"command {case.command}"] += 1
            for each in case.breaks:
                counts[f"kind {each.kind}"] += 1
            counts["seconds"] += trial.seconds
            for problem in problems:
                counts[problem.split(":")[0]] += 1
            counts["cases"] += 1
            if counts["cases"] % 500 == 0:
                print(told(counts), flush=True)
            if problems:
                print(f"FAILED {case.plain()}", *problems, sep="\n          ", flush=True)

        if arguments.again:
            case = Case.read(arguments.again)
            attempt(case)
            print(run(case, root)[0])
        else:
            number = arguments.cases or (SOAK if arguments.soak else CASES)
            chosen = cases(root, commands)
            quiet = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
            silent = settings(max_examples=number, phases=[Phase.generate], **quiet)
            seed(arguments.seed)(silent(given(chosen)(attempt)))()
    print(told(counts))
    return int(any(not name.startswith(("cases", "status", "command", "kind", "seconds")) for name in counts))


def told(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {round(count)}" for name, count in sorted(counts.items()))


if __name__ == "__main__":
    sys.exit(main())
