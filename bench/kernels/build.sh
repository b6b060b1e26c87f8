#!/bin/sh
# Compiles the chains of make-cases.mjs and layer_bench: build.sh FOLDER [sm_90a|ptx]. Needs nvcc; uses all cores.
set -e
here=$(cd "$(dirname "$0")" && pwd)
folder=$1
case ${2:-sm_90a} in
  sm_90a) flags='-cubin -gencode arch=compute_90a,code=sm_90a'; suffix=cubin ;;
  ptx) flags='-ptx -gencode arch=compute_80,code=compute_80'; suffix=ptx ;;
esac
ls "$folder"/*.cu | sed 's/\.cu$//' | xargs -P "$(nproc)" -I{} sh -c "nvcc -std=c++17 -O3 $flags -Xptxas -v -I '$here/../../native/kernels' -o '{}.$suffix' '{}.cu' >'{}.log' 2>&1 || { cat '{}.log'; exit 255; }"
[ -x "$folder/layer_bench" ] || nvcc -std=c++17 -O2 -gencode arch=compute_90,code=sm_90 -o "$folder/layer_bench" "$here/layer_bench.cu" -lcuda
