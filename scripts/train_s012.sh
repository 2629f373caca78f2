#!/usr/bin/env bash
# The paper's model with BL30K on two 11 GB GPUs: static images, BL30K, then YouTube-VOS and DAVIS for longer (section F.4).
# Run it again after a stop: a finished stage is skipped and an unfinished one goes on.  Arguments go to every stage (data
# folders and the like); ID and SAVES name the run and where its networks go.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
ID=${ID:-s012} SAVES=${SAVES:-saves}
torchrun --standalone --nproc_per_node=2 train.py --id "$ID" --save_dir "$SAVES" --stage 0 "$@"
torchrun --standalone --nproc_per_node=2 train.py --id "$ID" --save_dir "$SAVES" --stage 1 --load_network "$SAVES/$ID"_s0.pth "$@"
torchrun --standalone --nproc_per_node=2 train.py --id "$ID" --save_dir "$SAVES" --stage 2 --load_network "$SAVES/$ID"_s1.pth "$@"
