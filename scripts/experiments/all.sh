#!/usr/bin/env bash
# Every experiment of docs/experiments.md that runs on the demo data: installs into .venv, makes the data, and leaves a page
# with all tables and pictures in demo/experiments/index.html.  Under ten minutes on two cores; run again after a stop, it
# goes on.
#
#   bash scripts/experiments/all.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../venv.sh"
python scripts/data/make_demo_data.py demo/data --overwrite
python -m scripts.experiments.all demo/experiments --data demo/data "$@"
