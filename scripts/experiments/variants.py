"""Table 10 and sections 5 and 6.2: one network read with several k, a kernel, at two sizes and flipped; and an ensemble.

python -m scripts.experiments.variants --size 480 --davis_path ../DAVIS/2017
python -m scripts.experiments.variants --model a.pth b.pth c.pth --davis_path ../DAVIS/2017    # the ensemble of three

The second size is a quarter larger, as the paper's 600 is than 480.  The kernel is used at both, since 480 is the paper's
limit for networks that are trained for it.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from evaluation.tables import report
from scripts.experiments.common import experiment_parser, file_of, score, videos_of
from util.errors import one_line_errors

USUAL = "top 20"
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # options of the segmenter, and views
    "top 10": ({"top_k": 10}, {}),
    USUAL: ({}, {}),
    "top 50": ({"top_k": 50}, {}),
    "all": ({"top_k": None}, {}),
    "flip": ({}, {"flip": True}),
    "sizes": ({}, {"sizes": True}),
    "kernel": ({}, {"kernel": "all"}),
    "sizes, flip, kernel": ({}, {"sizes": True, "flip": True, "kernel": "all"}),
}


def parser() -> argparse.ArgumentParser:
    return experiment_parser("variants", __doc__)


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    videos, folder, size = videos_of(arguments), Path(arguments.output), arguments.size or 480
    chosen = VARIANTS if len(arguments.model) == 1 else {f"ensemble of {len(arguments.model)}": ({}, {})}
    files = [file_of(model) for model in arguments.model]
    which = {name: " ".join(file[name] for file in files) for name in ("file", "sha256")}
    rows = []
    for name, (options, views) in chosen.items():
        if "sizes" in views:
            views = views | {"sizes": [size, size * 5 // 4]}
        place = folder / name.replace(", ", "_").replace(" ", "_")
        rows.append({"variant": name, **score(arguments.model, videos, place, arguments, views=views, **options), **which})
    report(folder, "variants", "Table 10, and k: one network, read in several ways", rows)


if __name__ == "__main__":
    sys.exit(main())
