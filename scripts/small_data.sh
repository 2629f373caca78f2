# Sourced by train_small.sh and experiments/all.sh: where the data is, and `videos` and `mix`, the flags --own_root and --mix.
STATIC_ROOT=${STATIC_ROOT:-../data/static} DAVIS_ROOT=${DAVIS_ROOT:-../data/DAVIS/2016_train}
OWN_ROOT=${OWN_ROOT:-none} YV_ROOT=${YV_ROOT:-none}
for folder in "$STATIC_ROOT" "$DAVIS_ROOT"; do
    [ -d "$folder" ] || { echo "error: $folder: no such folder; STATIC_ROOT and DAVIS_ROOT say where the data is" >&2; exit 2; }
done
# objects cut out of the photographs, in front of other photographs and of the videos
python scripts/data/make_clips.py "$CLIPS" --static_root "$STATIC_ROOT" --davis_root "$DAVIS_ROOT" --clips 200
videos=() mix=(DAVIS=27 BL30K=1)
[ "$OWN_ROOT" = none ] || { videos+=("$OWN_ROOT"); mix+=("$(basename "$(realpath "$OWN_ROOT")")=50"); }
[ "$YV_ROOT" = none ] || mix+=(YouTube-VOS=30)
videos+=("$CLIPS/BL30K")
