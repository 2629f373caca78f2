"""Compare the paper's claims with what the experiments found: results.json, the table of claims, and a plot for each section.

python -m scripts.experiments.claims out/experiments           # after all.sh
python -m scripts.experiments.claims out/experiments --docs    # also docs/experiments/results.json and the table of the page
python -m scripts.experiments.claims --docs                    # the table again, from docs/experiments/results.json

A claim is a comparison of two figures, each a list with a value for each seed.  `verdict` is the rule.
"""

import argparse
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
    paper: float | None = None


class Claim(NamedTuple):
    section: str
    text: str
    better: Side
    other: Side
    column: str = "J&F"
    less: bool = False  # less is better
    enough: bool = False  # the claim is that the first is no worse


def network(name: str, paper: float | None = None, *, last: bool = False, words: str = "") -> Side:
    row = {"network": name, "every": 5, "last": last}
    return Side(words or f"{name}{' + last' if last else ''}", "schedules", row, paper)


def nodes(name: str, paper: float) -> Side:
    return Side(name, "affinity", {"network": name, "reads": "top 20"}, paper)


def variant(name: str, paper: float | None = None) -> Side:
    return Side(name, "light_variants", {"variant": name}, paper)


def every(frames: int, paper: float | None = None) -> Side:
    return Side(f"every {frames}", "light_schedules", {"every": frames, "last": False}, paper)


def part(name: str) -> Side:
    return Side(name, "timing", {"network": name})


L2, DOT = network("l2_64_s3", 85.4), network("dot_128_s3", 84.1)
STM_DOT, STM_L2 = "STM, dot product", "STM, L2"
CLAIMS: dict[str, Claim] = {
    "l2-dot-64": Claim("Table 2", "L2 is better than the dot product, Ck = 64", L2, network("dot_64_s3", 83.2)),
    "l2-dot-128": Claim("Table 2", "the same, Ck = 128", network("l2_128_s3", 85.0), DOT),
    "l2-cosine-64": Claim(
        "Table 2", "L2 is better than cosine similarity (temperature), Ck = 64", L2, network("cosine_64_s3", 83.4)
    ),
    "l2-cosine-128": Claim("Table 2", "the same, Ck = 128", network("l2_128_s3", 85.0), network("cosine_128_s3", 82.6)),
    "l2-scaled-64": Claim(
        "Table 2", "the same, cosine divided by sqrt(Ck) too, Ck = 64", L2, network("cosine_scaled_64_s3", 83.4)
    ),
    "l2-scaled-128": Claim("Table 2", "the same, Ck = 128", network("l2_128_s3", 85.0), network("cosine_scaled_128_s3", 82.6)),
    "ck-l2": Claim("Table 2", "64 key channels are enough for L2, 128 no better", L2, network("l2_128_s3", 85.0), enough=True),
    "ck-cosine": Claim(
        "Table 2",
        "the same for cosine similarity",
        network("cosine_64_s3", 83.4),
        network("cosine_128_s3", 82.6),
        enough=True,
    ),
    "ck-dot": Claim("Table 2", "the dot product gains by 128 over 64", DOT, network("dot_64_s3", 83.2)),
    **{
        f"nodes-{column.replace(' ', '').replace('%', '')}-{ck}": Claim(
            "Figure 4",
            f"{words} (L2 Ck = 64, dot product {ck})",
            nodes("l2_64_s3", l2),
            nodes(f"dot_{ck}_s3", dot),
            column,
            True,
        )
        for ck in (64, 128)
        for column, words, l2, dot in (
            ("below 1 %", "under L2 fewer memory nodes never give 1 %", 0.06, 3.0),
            ("below 10 %", "under L2 fewer never give 10 %", 7.0, 31.0),
            ("Gini", "under L2 nodes are used more equally, by the Gini coefficient", 31.8, 44.0),
        )
    },
    **{
        f"last-{name.removesuffix('_s3')}": Claim(
            "Tables 1, 8",
            f"{words} needs the last frame in memory",
            network(name, with_last, last=True),
            network(name, without),
        )
        for name, words, with_last, without in (
            ("stm_dot_64_s3", "STM (dot product, Ck = 64)", 83.3, 81.3),
            ("stm_dot_128_s3", "STM (dot product, Ck = 128)", 83.3, 81.3),
            ("stm_l2_64_s3", "STM (L2)", 82.7, 81.0),
        )
    },
    "last-dot_128": Claim(
        "Tables 1, 8", "STCN (dot product) needs no last frame", DOT, network("dot_128_s3", 84.3, last=True), enough=True
    ),
    "last-l2_64": Claim("Tables 1, 8", "STCN (L2) is better without", L2, network("l2_64_s3", 83.1, last=True)),
    "stcn-stm-l2": Claim(
        "Tables 1, 8", "STCN without is better than STM with, both L2", L2, network("stm_l2_64_s3", 82.7, last=True)
    ),
    "stcn-stm-dot": Claim(
        "Tables 1, 8", "the same, both dot product (Ck = 128)", DOT, network("stm_dot_128_s3", 83.3, last=True)
    ),
    **{
        f"speed-{name}": Claim("Tables 1, 8", words, network("l2_64_s3", 20.2), network(other, paper, last=last), "frames/s")
        for name, words, other, paper, last in (
            ("last", "STCN is faster without the last frame", "l2_64_s3", 15.4, True),
            ("stm", "STCN without is faster than STM with", "stm_l2_64_s3", 12.3, True),
            ("stm-without", "the same, both without", "stm_l2_64_s3", 16.7, False),
        )
    },
    **{
        f"time-{name}{'' if last == 'with last' else '-without'}": Claim(
            "Figure 5",
            f"STCN's {words} takes less time than STM's, STM {last}",
            part("stcn, without"),
            part(f"stm, {last}"),
            column,
            True,
        )
        for last in ("with last", "without")
        for name, words, column in (
            ("matching", "affinity matching", "affinity matching and readout"),
            ("encoder", "value encoder", "memory / value encoder"),
        )
    },
    "both-stage0": Claim("Table 7", "both stages are better than pre-training alone", L2, network("l2_64_s0", 75.8)),
    "both-stage3": Claim("Table 7", "both are better than main training alone", L2, network("main_s3", 82.5)),
    "no-cbam": Claim("Footnote 3", "CBAM is not essential", network("no_cbam_s3"), network("l2_64_s3"), enough=True),
    "every-3-5": Claim("Table 9", "memory every 3rd frame is better than every 5th", every(3, 76.5), every(5, 76.1)),
    "every-5-10": Claim("Table 9", "every 5th is better than every 10th", every(5), every(10)),
    "multi-scale": Claim(
        "Table 10",
        "multi-scale testing (two sizes, flips, kernel) helps",
        variant("sizes, flip, kernel", 85.2),
        variant("top 20", 84.2),
    ),
    **{
        f"multi-scale-{name}": Claim("Table 10", f"{words} alone", variant(name), variant("top 20"))
        for name, words in (("sizes", "two sizes"), ("flip", "flips"), ("kernel", "the kernel"))
    },
    "ensemble": Claim(
        "Table 10",
        "an ensemble of three (here seeds) helps",
        Side("ensemble of 3", "ensemble_variants", {"variant": "ensemble of 3"}, 86.7),
        network("l2_64_s3", 85.2),
    ),
    "top-20": Claim("Section 5", "k = 20 is better than all of the memory", variant("top 20"), variant("all")),
    "top-50": Claim("Section 5", "k = 20 is better than 50", variant("top 20"), variant("top 50")),
    "top-10": Claim("Section 5", "k = 20 is better than 10", variant("top 20"), variant("top 10")),
    "top-speed": Claim("Section 5", "top-k reading is faster", variant("top 20"), variant("all"), "frames/s"),
}


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
    """Write `results` and the table of claims into docs/."""
    write_json(DOCUMENTED, results)
    before, rest = read_text(DOCUMENT).split(START)
    write_text(DOCUMENT, f"{before}{START}{documented(results)}{END}{rest.split(END, 1)[1]}")


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
    for name, claim in CLAIMS.items():
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
    """Our values, one for each seed, each a mean over the data sets that are scored, and the networks' files."""
    ours, files = [], {}
    for paths in grade["tables"].get(side.table, []):  # of one seed
        rows = [row for path in paths if (folder / path).is_file() for row in read_json(folder / path)["rows"]]
        rows = [row for row in rows if side.row.items() <= row.items() and claim.column in row]
        if rows and len(rows) == len(paths):
            ours.append(mean(row[claim.column] for row in rows))
            files |= {row["file"]: row["sha256"] for row in rows if "file" in row}
    return {"ours": ours, "files": files}


def values_of(claim: dict[str, Any]) -> list[float]:
    return [value for side in claim["sides"] for value in side["ours"]]


def verdict(claim: dict[str, Any]) -> str:
    """`RULE`, applied."""
    better, other = (side["ours"] for side in claim["sides"])
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
            "ours": " / ".join(spread(side["ours"]) for side in claim["sides"]) if values_of(claim) else "not run",
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
            if side["ours"]:
                error = statistics.stdev(side["ours"]) if len(side["ours"]) > 1 else None
                axes.errorbar(mean(side["ours"]), height, xerr=error, fmt="o", color="black", capsize=4)
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
