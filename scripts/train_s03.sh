#!/usr/bin/env bash
# The paper's main model on two 11 GB GPUs: static images, then YouTube-VOS and DAVIS (section F.4).  Run it again after a
# stop: a finished stage is skipped and an unfinished one goes on.  Arguments go to every stage (data folders, --id).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
torchrun --standalone --nproc_per_node=2 train.py --id s03 --stage 0 "$@"
torchrun --standalone --nproc_per_node=2 train.py --id s03 --stage 3 --load_network saves/s03_s0.pth "$@"
