#!/usr/bin/env bash
# Train the paper's model with BL30K on two 11 GB GPUs: static images, BL30K, then YouTube-VOS and DAVIS for longer (section
# F.4).  If interrupted, run it again: finished stages are skipped and an unfinished one resumes.  Takes the flags of train.py,
# such as --id, --save_dir and data folders, and gives them to every stage, which leaves out the others' data.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
flags=(--id s012 --also_stages 0 1 2 "$@")
train() { torchrun --standalone --nproc_per_node=2 train.py "${flags[@]}" "$@"; }
for stage in 0 1 2; do  # so that data that is missing is told now, and not after days
    python train.py "${flags[@]}" --stage $stage --check
done
train --stage 0
train --stage 1 --after 0
train --stage 2 --after 1
