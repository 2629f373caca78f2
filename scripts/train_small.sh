#!/usr/bin/env bash
# Train and score the light network on two CPU cores (docs/results.md).  If interrupted, run it again to continue.
#
# Needs photographs with masks (STATIC_ROOT: ecssd/, ccp/) and the official training sequences of DAVIS 2016 in the layout of
# 2017 (DAVIS_ROOT).  Also trains on videos of your own (OWN_ROOT) and YouTube-VOS (YV_ROOT) unless these are "none".  The
# network is scored on DAVIS 2016's validation set if DAVIS_2016 names it.  Networks go to SAVES, made-up videos to CLIPS.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh"
SAVES=${SAVES:-saves/small} CLIPS=${CLIPS:-$SAVES/clips} OUT=${OUT:-out} DAVIS_2016=${DAVIS_2016:-}
source scripts/small_data.sh
ITERATIONS_0=${ITERATIONS_0:-1200} ITERATIONS_3=${ITERATIONS_3:-4000} ITERATIONS_LARGE=${ITERATIONS_LARGE:-12000}
AMP=${AMP:-}    # bfloat16 where the processor has it

train() {
    python train.py --id light --save_dir "$SAVES" --key_backbone resnet18 --key_dim 64 --value_dim 128 \
        --static_root "$STATIC_ROOT" --davis_root "$DAVIS_ROOT" --yv_root "$YV_ROOT" \
        --optimizer adamw --lr 2e-4 --encoder_lr 1e-4 --schedule cosine --clip_grad 5 -b 4 \
        --num_workers 1 --save_every 100 --image_every 250 ${AMP:+--amp_dtype "$AMP"} "$@"
}

train_on_videos() {
    train --stage 3 --crop 256 --bootstrap_start 500 --bootstrap_end 2000 --ema 0.998 \
        --own_root "${videos[@]}" --mix "${mix[@]}" "$@"
}
train_on_videos --check  # so that videos that are missing are told before stage 0
train --stage 0 --crop 192 --bootstrap_start 150 --bootstrap_end 600 -i "$ITERATIONS_0"
train_on_videos -i "$ITERATIONS_3" --load_network "$SAVES/light_s0.pth"
# stage 3 again, in larger crops that show objects as large as at 480p
train_on_videos --id light_large --crop 320 --min_area 0.15 --bootstrap_start 0 --bootstrap_end 300 \
    -i "$ITERATIONS_LARGE" --load_network "$SAVES/light_s3.pth"
python scripts/convert_weights.py "$SAVES/light_large_s3.pth" "$SAVES/stcn_light.pth" --half --overwrite

if [ -n "$DAVIS_2016" ]; then
    python eval_davis.py --model "$SAVES/stcn_light.pth" --davis_path "$DAVIS_2016" --year 2016 --output "$OUT/light_2016" --overwrite
fi
