#!/usr/bin/env bash
# Every experiment of docs/experiments.md, and a page with all tables and pictures: index.html in OUT.  If stopped, run it
# again to continue.  Installs into .venv.
#
#   bash scripts/experiments/all.sh --quick            # minutes, made-up data: shows that everything runs
#   bash scripts/experiments/all.sh --seeds 0 1 2      # hours; says how many before it starts
#
# The second needs the data of scripts/train_small.sh, and DAVIS_2016 and DAVIS_2017 to score on ("none": without).
# Further flags are those of scripts/experiments/all.py.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../venv.sh"
if [ "${1:-}" = --quick ]; then
    python scripts/data/make_demo_data.py demo/data --overwrite
    python -m scripts.experiments.all "${OUT:-demo/experiments}" --static_root demo/data/static --davis_root demo/data/DAVIS/2017 \
        --davis_2017 demo/data/DAVIS/2017 --iterations 30 30 --crop 96 --no_pretrained "$@"
    exit
fi
OUT=${OUT:-out/experiments} CLIPS=${CLIPS:-out/clips}
source scripts/small_data.sh
DAVIS_2016=${DAVIS_2016:-../DAVIS/2016} DAVIS_2017=${DAVIS_2017:-../DAVIS/2017}
scored=()
[ "$DAVIS_2016" = none ] || scored+=(--davis_2016 "$DAVIS_2016")
[ "$DAVIS_2017" = none ] || scored+=(--davis_2017 "$DAVIS_2017")
python -m scripts.experiments.all "$OUT" --static_root "$STATIC_ROOT" --davis_root "$DAVIS_ROOT" --yv_root "$YV_ROOT" \
    --own_root "${videos[@]}" --mix "${mix[@]}" "${scored[@]}" --size 192 --amp off "$@"
