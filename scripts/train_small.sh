#!/usr/bin/env bash
# Train and score the light network, in about three hours on two CPU cores (docs/results.md).  If interrupted, run it again to
# continue.  Needs ECSSD (STATIC_ROOT), DAVIS 2017 (DAVIS_ROOT), and YouTube-VOS (YV_ROOT) or YV_ROOT=none; DAVIS_2016 is
# scored too if given.  SAVES is the folder for networks and synthetic clips.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh"
STATIC_ROOT=${STATIC_ROOT:-../static} DAVIS_ROOT=${DAVIS_ROOT:-../DAVIS/2017} YV_ROOT=${YV_ROOT:-../YouTube}
DAVIS_2016=${DAVIS_2016:-} SAVES=${SAVES:-saves/small} OUT=${OUT:-out}

python scripts/data/make_clips.py "$SAVES/clips" --static_root "$STATIC_ROOT" --clips 800
python scripts/data/make_clips.py "$SAVES/mixed" --static_root "$STATIC_ROOT" --clips 800 \
    --davis_root "$DAVIS_ROOT" --yv_root "$YV_ROOT"

train() {
    python train.py --save_dir "$SAVES" --key_backbone resnet18 --key_dim 64 --value_dim 128 \
        --static_root "$STATIC_ROOT" --davis_root "$DAVIS_ROOT" --yv_root "$YV_ROOT" \
        --optimizer adamw --schedule cosine --clip_grad 5 --bootstrap_start 0 --bootstrap_end 200 \
        --amp_dtype bfloat16 --num_workers 1 --save_every 250 --image_every 250 "$@"
}
train --id light --stage 0 --crop 192 -b 4 -i 1500 --lr 5e-4 --encoder_lr 1.5e-4
# the committed network was trained with the frame spacing of version 0.1.0 (and, in stage 1, without the released code's
# choice of objects)
stage_1=(--stage 1 --spacing paper --crop 256 -b 4 --lr 3e-4 --encoder_lr 1e-4)
stage_3=(--stage 3 --spacing paper --crop 256 -b 4 --lr 1e-4 --encoder_lr 3e-5)
train --id light "${stage_1[@]}" -i 1700 --bl_root "$SAVES/clips/BL30K" --load_network "$SAVES/light_s0.pth"
train --id light "${stage_3[@]}" -i 300 --load_network "$SAVES/light_s1.pth"
# longer, also on clips in front of real videos; over all eight scored objects, the mean of both networks beats either one
train --id mixed "${stage_1[@]}" -i 2400 --bl_root "$SAVES/mixed/BL30K" --load_network "$SAVES/light_s1.pth"
train --id mixed "${stage_3[@]}" -i 250 --load_network "$SAVES/mixed_s1.pth"
python scripts/convert_weights.py "$SAVES/light_s3.pth" "$SAVES/stcn_light.pth" --average_with "$SAVES/mixed_s3.pth" --half

python eval_davis.py --model "$SAVES/stcn_light.pth" --davis_path "$DAVIS_ROOT" --output "$OUT/light_2017" --overwrite
if [ -n "$DAVIS_2016" ]; then
    python eval_davis.py --model "$SAVES/stcn_light.pth" --davis_path "$DAVIS_2016" --year 2016 --output "$OUT/light_2016" --overwrite
fi
