"""Compare the paper's claims with what the experiments found: results.json, the table of claims, and a plot for each section.

python -m scripts.experiments.claims out/experiments           # after all.sh
python -m scripts.experiments.claims out/experiments --docs    # also docs/experiments/results.json and the table of the page
python -m scripts.experiments.claims --docs                    # the table again, from docs/experiments/results.json

A claim (claims.csv) is a comparison of two figures, each with a value for each run: a seed, or one network.  `verdict` is
the rule.  `--docs` keeps scores of other runs by the same recipe, so that seeds can come from several machines.
"""

import argparse
import csv
import json
import math
import re
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from scipy import stats

from evaluation.tables import Row, markdown, write_figure
from scripts.experiments.common import ROOT
from util.errors import InputError, one_line_errors, shorten
from util.files import read_json, read_text, write_json, write_text
from util.flags import Parser

DOCUMENT, DOCUMENTED = ROOT / "docs/experiments.md", ROOT / "docs/experiments/results.json"
START, END = "<!-- made by scripts.experiments.claims -->\n", "<!-- end -->\n"
PERCENT = ("J&F", "Gini", "below 1 %", "below 10 %")  # others are times and speeds
RECIPE = (  # without the folders of a machine
    *("iterations", "crop", "batch_size", "optimizer", "lr", "encoder_lr", "schedule", "mix"),
    *("no_pretrained", "no_amp", "amp_dtype"),
)
BY_VIDEO = ("light_schedules", "light_variants")  # tables of one network, whose runs are the videos
SEEDS_NEEDED, FAR = 3, 5.0
RULE = (
    "A claim is supported if the whole 95 % confidence interval of the gain of its first figure over its second is above 0, "
    "not supported if it is below, and cannot be decided here otherwise. A claim that less is enough is supported if the "
    f"interval is above -{FAR:.0f} points and not below 0. Intervals are those of Welch's t-test over at least {SEEDS_NEEDED} "
    "runs, paired where both figures are of the same networks, or times of the same runs. Runs are seeds or, where one "
    "network is compared with itself, videos."
)


class Side(NamedTuple):
    """A figure of the paper, and where ours is found: the first row of a table that has these values."""

    name: str
    table: str
    row: Row
    paper: float | None


class Claim(NamedTuple):
    section: str
    text: str
    column: str
    less: bool  # less is better
    enough: bool  # the claim is that the first is no worse
    better: Side
    other: Side


def paper_claims() -> dict[str, Claim]:
    """The claims in claims.csv, by their ids."""
    lines = read_text(Path(__file__).with_name("claims.csv")).splitlines()
    return {
        line["id"]: Claim(
            line["section"],
            line["claim"],
            line["figure"],
            less=line["how"] == "less",
            enough=line["how"] == "enough",
            better=side_of(line["better"], line["paper"]),
            other=side_of(line["other"], line["paper of other"]),
        )
        for line in csv.DictReader(lines)
    }


def side_of(text: str, paper: str) -> Side:
    """From `TABLE; COLUMN=VALUE; ...`, whose values are texts, `every` and `last` JSON."""
    table, *values = text.split("; ")
    row: Row = dict(value.split("=", 1) for value in values)
    row |= {name: json.loads(row[name]) for name in ("every", "last") if name in row}
    name = row.get("network") or row.get("variant") or f"every {row['every']}"
    return Side(name + (" + last" if row.get("last") else ""), table, row, float(paper) if paper else None)


def parser() -> argparse.ArgumentParser:
    result = Parser(__doc__, prog="python -m scripts.experiments.claims")
    result.add_argument("folder", nargs="?", metavar="DIR", help="folder of scripts.experiments.all; results.json goes there")
    result.add_argument("--docs", action="store_true", help=f"also write {DOCUMENTED.relative_to(ROOT)} and the page's table")
    return result


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    if arguments.folder is None and not arguments.docs:
        raise InputError("expected DIR, --docs or both")
    results = collect(Path(arguments.folder)) if arguments.folder else read_json(DOCUMENTED)
    if arguments.docs:
        if results["grade"] != "real":
            raise InputError(
                f"--docs: expected results of the real grade, found the {results['grade']} one, which show nothing"
            )
        document(joined(read_json(DOCUMENTED), results) if arguments.folder else results)
    if arguments.folder:
        write_json(Path(arguments.folder) / "results.json", results)
        draw_sections(results, Path(arguments.folder))
    print(markdown(table(results)))


def document(results: dict[str, Any]) -> None:
    """Write `results`, the table of claims and its plots into docs/."""
    recipe = {name: value for name, value in results["recipe"].items() if not name.endswith("_root")}
    write_json(DOCUMENTED, results | {"recipe": recipe})
    draw_sections(results, DOCUMENTED.parent)
    before, rest = read_text(DOCUMENT).split(START)
    write_text(DOCUMENT, f"{before}{START}{documented(results)}{END}{rest.split(END, 1)[1]}")


def joined(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The new results with the scores of runs that only the old ones have, if recipe, size and videos are the same.

    Times and speeds are of one machine.
    """
    same = [[each.get(name) for name in ("size", "videos")] for each in (old, new)]
    recipes = [[each.get("recipe", {}).get(name) for name in RECIPE] for each in (old, new)]
    if same[0] != same[1] or recipes[0] != recipes[1]:
        return new
    claims, before = [], {claim["id"]: claim for claim in old["claims"]}
    for claim in new["claims"]:
        if claim["id"] in before and claim["column"] in PERCENT:
            pairs = zip(before[claim["id"]]["sides"], claim["sides"], strict=True)
            claim = claim | {
                "sides": [side | {name: was[name] | side[name] for name in ("ours", "files")} for was, side in pairs]
            }
        claims.append(claim)
    processors = sorted({*old["processor"].split("; "), *new["processor"].split("; ")})
    commands = {
        name: list({output_of(each): each for each in [*old["commands"].get(name, []), *found]}.values())
        for name, found in new["commands"].items()
    }
    return new | {"processor": "; ".join(processors), "commands": commands, "claims": claims}


def output_of(command: str) -> str:
    """The folder of a command, whose later form takes the place of the former."""
    found = re.search(r" --output (\S+)", command)
    return found[1] if found else command


def documented(results: dict[str, Any]) -> str:
    """What the page says of the claims: a table of those that were run, plots, and how many others each section has."""
    rows = table(results)
    run = [row for row in rows if row["ours"] != "not run"]
    others = Counter(row[""] for row in rows if row["ours"] == "not run")
    folder = Path(DOCUMENTED.parent.name)
    pictures = [f"![Gains of {section}]({picture_of(folder, section)})" for section in dict.fromkeys(row[""] for row in run)]
    text = "\n".join([markdown(run), "", *pictures, ""]) if run else ""
    told = ", ".join(f"{count} of {section}" for section, count in others.items())
    return f"{text}\nClaims not run, and so without a verdict: {told}.\n" if others else text


def read_grade(folder: Path) -> dict[str, Any]:
    """The list of tables that scripts.experiments.all keeps; raises `InputError` for another file."""
    found = read_json(path := folder / "grade.json")
    if not (isinstance(found, dict) and all(isinstance(found.get(name), dict) for name in ("settings", "tables", "commands"))):
        raise InputError(f"{path}: expected settings, tables and commands of scripts.experiments.all, found {shorten(found)}")
    return found


def collect(folder: Path) -> dict[str, Any]:
    """What is in the folder by now, as results.json holds it."""
    grade = read_grade(folder)
    claims = []
    for name, claim in paper_claims().items():
        sides = [
            {"name": side.name, "paper": side.paper, **found(folder, side, claim, grade)}
            for side in (claim.better, claim.other)
        ]
        tables = list(dict.fromkeys((claim.better.table, claim.other.table)))
        how = {"column": claim.column, "less": claim.less, "enough": claim.enough}
        claims.append({"id": name, "section": claim.section, "claim": claim.text, **how, "sides": sides, "tables": tables})
    return {**grade["settings"], "commands": grade["commands"], "claims": claims}


def found(folder: Path, side: Side, claim: Claim, grade: dict[str, Any]) -> dict[str, Any]:
    """Our values by run, each a mean over the data sets that are scored, and the networks' files."""
    ours, files = {}, {}
    for paths in grade["tables"].get(side.table, []):  # of one run
        rows = [row for path in paths if (folder / path).is_file() for row in read_json(folder / path)["rows"]]
        rows = [row for row in rows if side.row.items() <= row.items() and claim.column in row]
        if rows and len(rows) == len(paths):
            places = [Path(path).parts for path in paths]  # run, data set, ...
            if side.table in BY_VIDEO and claim.column == "J&F":
                values = zip(places, rows, strict=True)
                ours |= {f"{place[1]}/{name}": value for place, row in values for name, value in row["videos"].items()}
            else:
                ours[places[0][0]] = statistics.fmean(row[claim.column] for row in rows)
            files |= {network_name(row["file"]): row["sha256"] for row in rows if "file" in row}
    return {"ours": ours, "files": files}


def network_name(files: str) -> str:
    """Of one network, or several, without the folders of a machine."""
    return " ".join("/".join(Path(file).parts[-2:]) for file in files.split())


def ran(claim: dict[str, Any]) -> bool:
    return all(side["ours"] for side in claim["sides"])


def gain_of(claim: dict[str, Any]) -> tuple[float, float]:
    """The gain of the first figure over the second, and half the width of its interval: infinity with too few runs."""
    better, other = claim["sides"]
    first, second = ([*side["ours"].values()] for side in (better, other))
    gain = (statistics.fmean(first) - statistics.fmean(second)) * (-1 if claim["less"] else 1)
    if min(len(first), len(second)) < SEEDS_NEEDED:
        return gain, math.inf
    if better["files"] == other["files"] and better["ours"].keys() == other["ours"].keys():
        low, high = stats.ttest_rel(first, [other["ours"][run] for run in better["ours"]]).confidence_interval()
    else:
        low, high = stats.ttest_ind(first, second, equal_var=False).confidence_interval()  # Welch's
    return gain, float(high - low) / 2


def verdict(claim: dict[str, Any]) -> str:
    """`RULE`, applied."""
    if not ran(claim):
        return "not run"
    gain, half = gain_of(claim)
    if gain + half < 0:
        return "not supported"
    return "supported" if gain - half > (-FAR if claim["enough"] else 0) else "cannot be decided here"


def table(results: dict[str, Any]) -> list[Row]:
    """A row for each claim."""
    return [
        {
            "": claim["section"],
            "claim": claim["claim"],
            "figure": claim["column"],
            "paper": " / ".join("-" if side["paper"] is None else str(side["paper"]) for side in claim["sides"]),
            "ours": " / ".join(spread([*side["ours"].values()]) for side in claim["sides"]) if ran(claim) else "not run",
            "gain": interval(*gain_of(claim)) if ran(claim) else None,
            "verdict": verdict(claim) if results["grade"] == "real" else "means nothing",
            "command": ", ".join(dict.fromkeys(f"`{name.split('_')[-1]}`" for name in claim["tables"])),
        }
        for claim in results["claims"]
    ]


def interval(gain: float, half: float) -> str:
    return f"{gain:+.1f}" + (f" [{gain - half:.1f}, {gain + half:.1f}]" if half < math.inf else "")


def spread(values: Sequence[float]) -> str:
    """Mean, standard deviation and number."""
    digits = 1 if abs(statistics.fmean(values)) >= 1 else 2
    if len(values) < 2:
        return f"{values[0]:.{digits}f}"
    return f"{statistics.fmean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f} ({len(values)})"


def draw_sections(results: dict[str, Any], folder: Path) -> None:
    """Write a plot for each section of which a claim was run."""
    for section in dict.fromkeys(claim["section"] for claim in results["claims"]):
        found = [claim for claim in results["claims"] if claim["section"] == section and ran(claim)]
        if found:
            write_figure(picture_of(folder, section), draw(found))


def picture_of(folder: Path, section: str) -> Path:
    return folder / f"claims_{section.lower().replace(', ', '_').replace(' ', '_')}.png"


def draw(claims: Sequence[dict[str, Any]]) -> Figure:
    """For each kind of figure a plot of the gains: ours with their intervals, and the paper's."""
    columns = list(dict.fromkeys(claim["column"] for claim in claims))
    groups = [[claim for claim in claims if claim["column"] == column][::-1] for column in columns]
    figure = Figure(figsize=(8, 1.1 * len(columns) + 0.35 * len(claims)), layout="constrained")
    plots = figure.subplots(len(columns), squeeze=False, height_ratios=[len(group) + 1 for group in groups])
    for axes, column, group in zip(plots[:, 0], columns, groups, strict=True):
        for height, claim in enumerate(group):
            gain, half = gain_of(claim)
            error = half if half < math.inf else None
            axes.errorbar(gain, height, xerr=error, fmt="o", color="black", capsize=4)
            papers = [side["paper"] for side in claim["sides"]]
            if column in PERCENT and None not in papers:  # speeds of other processors do not compare
                axes.plot((papers[0] - papers[1]) * (-1 if claim["less"] else 1), height, "D", color="black", mfc="white")
        paper = "; open: the paper's" if column in PERCENT else ""
        change = "less" if group[0]["less"] else "gain in"
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_yticks(range(len(group)), [" against ".join(side["name"] for side in claim["sides"]) for claim in group])
        unit = "" if column in (*PERCENT, "frames/s") else ", ms"
        axes.set(ylim=(-0.5, len(group) - 0.5), xlabel=f"{change} {column}{unit} (filled: ours, 95 % interval{paper})")
        axes.grid(alpha=0.3)
    return figure


if __name__ == "__main__":
    sys.exit(main())
