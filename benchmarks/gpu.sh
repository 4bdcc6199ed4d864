#!/bin/sh
# Everything there is to check and measure on a GPU, in one call of a few minutes.
#
#   OUT=results sh benchmarks/gpu.sh [arguments of benchmarks/gpu.py]
#   OUT=results TRAIN_UNTIL=570 sh benchmarks/gpu.sh       # and then train, to be done in so many s
#
# Needs an NVIDIA GPU, Python 3.11 or newer, torch and NumPy, and no internet; training needs what
# `pip install slidefusion[train]` brings. What else is missing (numba, pytest, PyWavelets) is said,
# and left out. The results are also written to $OUT/gpu.txt, and the weights, cards and curves to
# $OUT/weights.tgz.* in parts of 15 MB. It fails when a check fails; training begins all the same.
# TRAIN="focusgan-1-wide …" names the weights to train.
began=$(date +%s)
cd "$(dirname "$0")/.." || exit 1
python=${PYTHON:-python3}
out=${OUT:-.}
mkdir -p "$out"
[ -z "$TRAIN_UNTIL" ] && exec "$python" benchmarks/gpu.py --out "$out/gpu.txt" "$@"

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
# The phantoms are made while the GPU is measured, by all processors but a few.
cores=$(getconf _NPROCESSORS_ONLN)
train="$python benchmarks/gpu_training.py --corpus $work/corpus"
nice -n 10 $train --corpus-only --processes $((cores > 8 ? cores - 4 : cores)) &
"$python" benchmarks/gpu.py --out "$out/gpu.txt" "$@"
checked=$?
wait
left=$((TRAIN_UNTIL - $(date +%s) + began - 15)) # the last for packing what was made
OMP_NUM_THREADS=1 $train --out "$work/runs" --seconds "$left" ${TRAIN:+--only $TRAIN} 2>&1 |
    tee "$out/training.txt"
mkdir "$work/weights"
for run in "$work"/runs/*/run; do
    name=$(basename "$(dirname "$run")")
    cp "$run/$name.safetensors" "$run/$name.json" "$work/weights"
    cp "$run/losses.csv" "$work/weights/$name.losses.csv"
    cp "$run/validation.csv" "$work/weights/$name.validation.csv"
done
tar czf - -C "$work/weights" . | split -b 15000000 - "$out/weights.tgz."
exit $checked
