#!/usr/bin/env bash
# Train the paper's main model on two 11 GB GPUs: static images, then YouTube-VOS and DAVIS (section F.4).  If interrupted,
# run it again: finished stages are skipped and an unfinished one resumes.  Arguments (data folders and the like) go to every
# stage, which leaves out the others' data.  ID names the run; SAVES is the folder for its networks.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
ID=${ID:-s03} SAVES=${SAVES:-saves}
train() { torchrun --standalone --nproc_per_node=2 train.py --id "$ID" --save_dir "$SAVES" --also_stages 0 3 "$@"; }
for stage in 0 3; do  # so that data that is missing is told now, and not after days
    python train.py --id "$ID" --save_dir "$SAVES" --stage $stage --also_stages 0 3 --check "$@"
done
train --stage 0 "$@"
train --stage 3 --load_network "$SAVES/$ID"_s0.pth "$@"
