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
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from evaluation.tables import Row, markdown, mean, write_figure
from scripts.experiments.common import ROOT
from util.errors import InputError, one_line_errors
from util.files import read_json, read_text, write_json, write_text
from util.flags import DefaultsFormatter, Parser, first_line

DOCUMENT, DOCUMENTED = ROOT / "docs/experiments.md", ROOT / "docs/experiments/results.json"
START, END = "<!-- made by scripts.experiments.claims -->\n", "<!-- end -->\n"
PERCENT = ("J&F", "Gini", "below 1 %", "below 10 %")  # others are times and speeds
RECIPE = ("iterations", "crop", "batch_size", "optimizer", "lr", "encoder_lr", "schedule", "mix", "no_pretrained")
SEEDS_NEEDED, FAR = 3, 5.0
RULE = (
    f"A claim is supported if its two figures differ, in its direction, by more than twice their pooled standard deviation "
    f"over at least {SEEDS_NEEDED} seeds, and with fewer by more than {FAR:.0f} points, which decides no time or speed; not "
    f"supported if they differ so much in the other. A claim that less is enough is also supported if {SEEDS_NEEDED} seeds "
    f"would have shown a loss of {FAR:.0f} points, and did not. All else cannot be decided here."
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
    program = "python -m scripts.experiments.claims"
    result = Parser(program, description=first_line(__doc__), formatter_class=DefaultsFormatter)
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
        document(results)
    if arguments.folder:
        write_json(Path(arguments.folder) / "results.json", results)
        for section in dict.fromkeys(claim["section"] for claim in results["claims"]):
            found = [claim for claim in results["claims"] if claim["section"] == section and values_of(claim)]
            if found:
                write_figure(picture_of(Path(arguments.folder), section), draw(found))
    print(markdown(table(results)))


def document(results: dict[str, Any]) -> None:
    """Write `results`, joined with those that are there, and the table of claims into docs/."""
    results = joined(read_json(DOCUMENTED), results)
    write_json(DOCUMENTED, results)
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
    claims = []
    for before, claim in zip(old["claims"], new["claims"], strict=True):
        if before["id"] == claim["id"] and claim["column"] in PERCENT:
            pairs = zip(before["sides"], claim["sides"], strict=True)
            claim = claim | {
                "sides": [side | {name: was[name] | side[name] for name in ("ours", "files")} for was, side in pairs]
            }
        claims.append(claim)
    processors = sorted({*old["processor"].split("; "), *new["processor"].split("; ")})
    return new | {"processor": "; ".join(processors), "claims": claims}


def documented(results: dict[str, Any]) -> str:
    """What the page says of the claims: a table of those that were run, and how many others each section has."""
    rows = table(results)
    run = [row for row in rows if row["ours"] != "not run"]
    others = Counter(row[""] for row in rows if row["ours"] == "not run")
    text = f"{markdown(run)}\n" if run else ""
    told = ", ".join(f"{count} of {section}" for section, count in others.items())
    return f"{text}\nClaims that were not run: {told}.\n" if others else text


def collect(folder: Path) -> dict[str, Any]:
    """What is in the folder by now, as results.json holds it."""
    grade = read_json(folder / "grade.json")
    claims = []
    for name, claim in paper_claims().items():
        sides = [
            {"name": side.name, "paper": side.paper, **found(folder, side, claim, grade)}
            for side in (claim.better, claim.other)
        ]
        tables = list(dict.fromkeys((claim.better.table, claim.other.table)))
        commands = {table: grade["commands"].get(table, []) for table in tables}
        how = {"column": claim.column, "less": claim.less, "enough": claim.enough}
        claims.append({"id": name, "section": claim.section, "claim": claim.text, **how, "sides": sides, "commands": commands})
    return {**grade["settings"], "claims": claims}


def found(folder: Path, side: Side, claim: Claim, grade: dict[str, Any]) -> dict[str, Any]:
    """Our values by run, each a mean over the data sets that are scored, and the networks' files."""
    ours, files = {}, {}
    for paths in grade["tables"].get(side.table, []):  # of one run
        rows = [row for path in paths if (folder / path).is_file() for row in read_json(folder / path)["rows"]]
        rows = [row for row in rows if side.row.items() <= row.items() and claim.column in row]
        if rows and len(rows) == len(paths):
            ours[Path(paths[0]).parts[0]] = mean(row[claim.column] for row in rows)
            files |= {row["file"]: row["sha256"] for row in rows if "file" in row}
    return {"ours": ours, "files": files}


def values_of(claim: dict[str, Any]) -> list[float]:
    return [value for side in claim["sides"] for value in side["ours"].values()]


def verdict(claim: dict[str, Any]) -> str:
    """`RULE`, applied."""
    better, other = ([*side["ours"].values()] for side in claim["sides"])
    if not better or not other:
        return "not run"
    gain = mean(better) - mean(other)
    gain = -gain if claim["less"] else gain
    runs = min(len(better), len(other))
    said = f"cannot be decided here ({runs} run{'s' * (runs > 1)}: gains {gain:.1f}, must exceed"
    if runs >= SEEDS_NEEDED:
        limit = 2 * mean(map(statistics.variance, (better, other))) ** 0.5
    elif claim["column"] in PERCENT:
        limit = FAR
    else:
        return f"{said} the spread of {SEEDS_NEEDED})"
    if gain > limit or (claim["enough"] and runs >= SEEDS_NEEDED and -gain <= limit < FAR):
        return "supported"
    return "not supported" if -gain > limit else f"{said} {limit:.1f})"


def table(results: dict[str, Any]) -> list[Row]:
    """A row for each claim."""
    return [
        {
            "": claim["section"],
            "claim": claim["claim"],
            "figure": claim["column"],
            "paper": " / ".join("-" if side["paper"] is None else str(side["paper"]) for side in claim["sides"]),
            "ours": " / ".join(spread([*side["ours"].values()]) for side in claim["sides"]) if values_of(claim) else "not run",
            "verdict": verdict(claim) if results["grade"] == "real" else "means nothing",
            "command": ", ".join(dict.fromkeys(f"`{name.split('_')[-1]}`" for name in claim["commands"])),
        }
        for claim in results["claims"]
    ]


def spread(values: Sequence[float]) -> str:
    """Mean, standard deviation and number."""
    if len(values) < 2:
        return f"{values[0]:.1f}" if values else "-"
    return f"{mean(values):.1f} ± {statistics.stdev(values):.1f} ({len(values)})"


def picture_of(folder: Path, section: str) -> Path:
    return folder / f"claims_{section.lower().replace(', ', '_').replace(' ', '_')}.png"


def draw(claims: Sequence[dict[str, Any]]) -> Figure:
    """For each kind of figure a plot: ours with the spread over seeds, and the paper's."""
    columns = list(dict.fromkeys(claim["column"] for claim in claims))
    sides = {
        column: {side["name"]: side for claim in claims if claim["column"] == column for side in claim["sides"]}
        for column in columns
    }
    figure = Figure(figsize=(7, 1.2 * len(columns) + 0.35 * sum(map(len, sides.values()))), layout="constrained")
    plots = figure.subplots(len(columns), squeeze=False, height_ratios=[len(sides[column]) + 1 for column in columns])
    for axes, column in zip(plots[:, 0], columns, strict=True):
        named = list(sides[column].values())[::-1]
        for height, side in enumerate(named):
            if ours := [*side["ours"].values()]:
                error = statistics.stdev(ours) if len(ours) > 1 else None
                axes.errorbar(mean(ours), height, xerr=error, fmt="o", color="black", capsize=4)
            if side["paper"] is not None:
                axes.plot(side["paper"], height, "D", color="black", markerfacecolor="white")
        axes.set_yticks(range(len(named)), [side["name"] for side in named])
        axes.set(
            ylim=(-0.5, len(named) - 0.5), xlabel=f"{column} (filled: ours, with the spread over seeds; open: the paper's)"
        )
        axes.grid(alpha=0.3)
    return figure


if __name__ == "__main__":
    sys.exit(main())
