#!/usr/bin/env bash
# Everything that only a GPU can tell: golden results and tests on it, scores in each precision, training that stops and goes
# on, two processes, training steps of the paper's sizes, frames per second and peak memory.
#
#   bash scripts/benchmark/gpu.sh [FOLDER]                          # default: $OUT, or gpu; 10 minutes on an H200
#   bash scripts/benchmark/gpu.sh --only 'video|parts' [FOLDER]     # the steps whose names match
#   bash scripts/benchmark/gpu.sh --quick --device cpu [FOLDER]     # the same commands with small sizes, on the CPU
#
# Each step's output goes to a file of its own in FOLDER, and summary.json says how each ended; a step that fails does not end
# the others.  If cut off, run it again to continue; a step whose file is removed is done again.  Needs no network.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
device=cuda quick= only=
while [ "${1:-}" != "${1#--}" ]; do
    case "$1" in --device | --only) [ $# -ge 2 ] || { echo "error: $1: expected a value" >&2; exit 2; } ;; esac
    case "$1" in
        --quick) quick=1; shift ;;
        --device) device=$2; shift 2 ;;
        --only) only=$2; shift 2 ;;
        *) echo "error: $1: expected --quick, --device NAME, --only PATTERN or a folder" >&2; exit 2 ;;
    esac
done
folder=$(realpath -m "${1:-${OUT:-gpu}}")
mkdir -p "$folder"
python=${PYTHON:-python}

step() {
    local name=$1 file=$folder/$1.txt start=$SECONDS
    shift
    [[ $name =~ $only ]] || return
    if tail -n 1 "$file" 2> /dev/null | grep -q "^== status"; then
        echo "== $name: done before"
        return
    fi
    echo "== $name: $*" | tee "$file"
    "$@" 2>&1 | tee -a "$file"
    echo "== status ${PIPESTATUS[0]} after $((SECONDS - start)) s" >> "$file"
}

if [ -n "$quick" ]; then
    stages=("0 1 1" "3 1 2") crop=32 repeats=1 size=48x64 frames=6 model=(--model saves/stcn_light.pth) counts=(1 3)
    tests=(tests/test_losses.py) golden=(-k intermediates)
else
    stages=("0 8 1" "3 4 2") crop=384 repeats=20 size=480x854 frames=100 model=() counts=(1 5 10) # of one of the paper's two GPUs
    tests=(-n auto -p no:benchmark -m "not slow" tests) golden=(-k command_line)
fi
first=$device # of two processes, which share it
[ "$device" != cuda ] || first=cuda:0
measure=("$python" -m scripts.benchmark --device "$device" --repeats "$repeats")
data=$folder/data davis=$folder/data/DAVIS/2017
evaluate=("$python" eval_davis.py --davis_path "$davis" --device "$device" --overwrite)
train=(--stage 3 --yv_root none --davis_root "$davis" --no_pretrained --key_backbone resnet18 --key_dim 16 --value_dim 32 --crop 64
    -b 2 -i 4 --save_every 2 --num_workers 1 --device "$device")

resume() { # the last two of four iterations are done again: the network must have the same bits
    local saves
    saves=$(mktemp -d "$folder/resumed.XXXXXX") || return
    "$python" train.py --id a --save_dir "$saves" --deterministic "${train[@]}" || return
    mv "$saves/a_s3.pth" "$saves/whole.pth" && rm "$saves/a_s3/checkpoint_0000004.pth"
    "$python" train.py --id a --save_dir "$saves" --deterministic "${train[@]}" || return
    "$python" -c "
import sys
from model import load_network
one, other = (load_network(path).state_dict() for path in sys.argv[1:])
assert all(one[name].equal(other[name]) for name in one), 'the bits differ'
print('the same bits')" "$saves/whole.pth" "$saves/a_s3.pth"
}

step machine "$python" -c "import torch; print(torch.__version__, *map(torch.cuda.get_device_properties, range(torch.cuda.device_count())))"
step data "$python" scripts/data/make_demo_data.py "$data" --overwrite
# on a machine with CUDA, the command line and one network run there
step golden "$python" -m pytest -q tests/test_golden.py "${golden[@]}"
step same_as_cpu "$python" -m pytest -q tests/test_inference.py -k cuda
step scores_float32 "${evaluate[@]}" --output "$folder/float32" --amp off
step scores_half "${evaluate[@]}" --output "$folder/half" --amp on
step scores_compiled "${evaluate[@]}" --output "$folder/compiled" --compile
step resume resume
step two_processes "$python" -m torch.distributed.run --standalone --nproc_per_node=2 train.py --id two --save_dir "$folder/two" \
    --resume never "${train[@]}" --device "$first"
for half in "" --amp; do
    for stage in "${stages[@]}"; do
        read -r number batch objects <<< "$stage"
        step "training_stage_$number$half" "${measure[@]}" "${model[@]}" --training --crop "$crop" --batch "$batch" --objects "$objects" $half
    done
    for objects in "${counts[@]}"; do
        step "video_${objects}_objects$half" "${measure[@]}" --repeats 1 "${model[@]}" --video --size "$size" --frames "$frames" --objects "$objects" $half
    done
    step "parts$half" "${measure[@]}" "${model[@]}" --parts --size "$size" $half
    step "light_parts$half" "${measure[@]}" --model saves/stcn_light.pth --parts --size "$size" $half
done
step tests "$python" -m pytest -q "${tests[@]}"
"$python" - "$folder" << 'END'
import json, re, sys
from pathlib import Path

found = {}
for path in sorted(Path(sys.argv[1]).glob("*.txt")):
    lines = [line for line in re.split(r"[\r\n]+", path.read_text()) if line and not re.match(r" *\d+% ", line)]
    if not lines[-1].startswith("== status"):
        continue  # still running, or cut off
    status, seconds = map(int, re.findall(r"\d+", lines[-1]))
    found[path.stem] = {"status": status, "seconds": seconds, "command": lines[0].partition(": ")[2], "told": lines[1:-1][-12:]}
Path(sys.argv[1], "summary.json").write_text(json.dumps(found, indent=1) + "\n")
failed = [name for name, step in found.items() if step["status"]]
print(f"{len(found)} steps; failed: {', '.join(failed) or 'none'}; see {sys.argv[1]}/summary.json")
sys.exit(bool(failed))
END
