#!/usr/bin/env bash
# Everything that only a GPU can tell: golden results and tests on it, training steps of the paper's sizes, frames per second
# and peak memory.  Each step's output goes to a file of its own in FOLDER; a step that fails does not end the others.
#
#   bash scripts/benchmark/gpu.sh [FOLDER]                          # default: $OUT, or gpu
#   DEVICE=cpu SMALL=1 bash scripts/benchmark/gpu.sh [FOLDER]       # the same commands on the CPU with small sizes
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
folder=$(realpath -m "${1:-${OUT:-gpu}}")
device=${DEVICE:-cuda}
mkdir -p "$folder"
failed=()

step() {
    local name=$1
    shift
    echo "== $name: $*" | tee "$folder/$name.txt"
    "$@" 2>&1 | tee -a "$folder/$name.txt" || failed+=("$name")
}

python=${PYTHON:-python}
if [ -n "${SMALL:-}" ]; then
    tests=(tests/test_losses.py) stages=("1 1" "1 2") crop=32 repeats=1 size=48x64 frames=6
    model=(--model saves/stcn_light.pth)
else
    tests=(-m "not slow" tests) stages=("8 1" "4 2") crop=384 repeats=20 size=480x854 frames=100 # of one of the paper's two GPUs
    model=()
fi
measure=("$python" -m scripts.benchmark --device "$device" --repeats "$repeats" "${model[@]}")

step machine "$python" -c "import torch; print(torch.__version__, *map(torch.cuda.get_device_properties, range(torch.cuda.device_count())))"
# on a machine with CUDA, the command line and one network run there
step golden "$python" -m pytest -q tests/test_golden.py -k command_line
step same_as_cpu "$python" -m pytest -q tests/test_inference.py -k cuda
for half in "" --amp; do
    for stage in "${stages[@]}"; do
        read -r batch objects <<< "$stage"
        step "training_${objects}_objects$half" "${measure[@]}" --training --crop "$crop" --batch "$batch" --objects "$objects" $half
    done
    for objects in 1 3 5; do
        step "video_${objects}_objects$half" "${measure[@]}" --video --size "$size" --frames "$frames" --objects "$objects" $half
    done
    step "parts$half" "${measure[@]}" --parts --size "$size" $half
done
step tests "$python" -m pytest -q "${tests[@]}"
echo "failed: ${failed[*]:-none}" | tee "$folder/summary.txt"
grep -hE "frames/s|s a step" "$folder"/*.txt | tee -a "$folder/summary.txt"
[ ${#failed[@]} -eq 0 ]
