#!/usr/bin/env bash
# From a fresh clone to scores: installs into .venv, makes the demo data, segments its validation videos with the network that
# comes with the project, and scores that beside copying the first mask to every frame.  If interrupted, run it again to
# continue.  All output goes to demo/.
#
#   bash scripts/demo.sh                        # synthetic videos
#   bash scripts/demo.sh --train                # then trains a small network through all stages too: ten minutes on two cores
#   bash scripts/demo.sh holiday.mp4 first.png  # your own video and its first mask instead, without training; further flags
#                                               # (--overwrite, --size 320, ...) go to scripts/segment_video.py
set -euo pipefail
if [ "$*" != --train ] && [ $# -gt 0 ] && [[ $# -lt 2 || $1 == -* || $2 == -* || ${3:--} != -* ]]; then
    echo "usage: bash scripts/demo.sh [--train | VIDEO MASK [FLAGS OF segment_video.py]]" >&2
    exit 2
fi
here=$PWD
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh"
if [ $# -gt 1 ]; then
    project=$PWD
    cd "$here"  # the paths are relative to it
    exec python "$project/scripts/segment_video.py" "$1" --mask "$2" --model "$project/saves/stcn_light.pth" \
        --output "$project/demo/own" "${@:3}"
fi
python scripts/data/make_demo_data.py demo/data --overwrite

davis=demo/data/DAVIS/2017
echo "--- copying the first mask to every frame"
python scripts/copy_first_mask.py --davis_path $davis --output demo/copied
python scripts/score.py --results demo/copied --davis_path $davis
echo "--- the network that comes with the project (trained on photographs and real videos, not on these)"
python eval_davis.py --davis_path $davis --output demo/light --overwrite
python scripts/show_results.py --results demo/light --davis_path $davis --output demo/light.png
if [ $# = 0 ]; then
    echo "Next: look at demo/light.png; segment a video of your own, given a mask of its first frame:"
    echo "    bash scripts/demo.sh holiday.mp4 first.png"
    echo "or train a small network on the synthetic data: bash scripts/demo.sh --train"
    exit
fi

# Short training from random weights needs settings other than the paper's: a larger learning rate that decays smoothly, and
# hard pixels from the start.
train() {
    python train.py --id light --save_dir demo/saves --no_pretrained --key_backbone resnet18 --key_dim 32 --value_dim 64 \
        --static_root demo/data/static --bl_root demo/data/BL30K --yv_root demo/data/YouTube --davis_root demo/data/DAVIS/2017 \
        --crop 96 -b 4 --optimizer adamw --lr 5e-4 --encoder_lr 1.5e-4 --schedule cosine --clip_grad 5 \
        --bootstrap_start 0 --bootstrap_end 100 --num_workers 1 "$@"
}
train --stage 0 -i 250
train --stage 1 -i 100 --after 0
train --stage 2 -i 200 --after 1
train --stage 3 -i 450 --after 2

echo "--- the network just trained, on synthetic data only"
python eval_davis.py --model demo/saves/light_s3.pth --davis_path $davis --output demo/results --overwrite
python scripts/show_results.py --results demo/results --davis_path $davis --output demo/results.png
