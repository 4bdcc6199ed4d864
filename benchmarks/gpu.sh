#!/bin/sh
# Everything there is to check and measure on a GPU, in one call of a few minutes.
#
#   OUT=results sh benchmarks/gpu.sh [arguments of benchmarks/gpu.py]
#
# Needs an NVIDIA GPU, Python 3.11 or newer, torch and NumPy, and no internet. What else is missing
# (numba, pytest, PyWavelets) is said, and left out. The results are also written to $OUT/gpu.txt.
# It fails when a check fails.
cd "$(dirname "$0")/.." || exit 1
exec "${PYTHON:-python3}" benchmarks/gpu.py --out "${OUT:-.}/gpu.txt" "$@"
