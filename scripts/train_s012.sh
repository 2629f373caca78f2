#!/usr/bin/env bash
# Train the paper's model with BL30K on two 11 GB GPUs: static images, BL30K, then YouTube-VOS and DAVIS for longer (section
# F.4).  If interrupted, run it again: finished stages are skipped and an unfinished one resumes.  Arguments (data folders
# and the like) go to every stage, which leaves out the others' data.  ID names the run; SAVES is the folder for its networks.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
ID=${ID:-s012} SAVES=${SAVES:-saves}
train() { torchrun --standalone --nproc_per_node=2 train.py --id "$ID" --save_dir "$SAVES" --also_stages 0 1 2 "$@"; }
for stage in 0 1 2; do  # so that data that is missing is told now, and not after days
    python train.py --id "$ID" --save_dir "$SAVES" --stage $stage --also_stages 0 1 2 --check "$@"
done
train --stage 0 "$@"
train --stage 1 --load_network "$SAVES/$ID"_s0.pth "$@"
train --stage 2 --load_network "$SAVES/$ID"_s1.pth "$@"
