#!/usr/bin/env bash
# Say whether ngtrain works on this machine's GPU, and how fast it is, in some 8 minutes.
#
# Usage: tests/gpu/check.sh [<directory for logs and figures>]
#  e.g.: tests/gpu/check.sh exp/gpu_check
#
# The parts: the card and CuPy; what is assumed of them, one by one, with the times of kernels and
# products (probe.py); the tests that need a GPU; training steps, beside PyTorch's where that is
# installed; a small training whose jobs share the card.  Each has a limit, none stops the others,
# and the status is 1 if any failed.  Installs the extra gpu-cuda12 or gpu-cuda13, whichever the
# driver supports, unless .gpu/ has the packages (prepare.sh).  USE_GPU=no tries the script itself.

set -uo pipefail
cd "$(dirname "$0")/../.."
out=$(realpath -m "${1:-${OUT:-exp/gpu_check}}")
gpu=${USE_GPU:-yes}
mkdir -p "$out"
export PYTHONUNBUFFERED=1 OMP_NUM_THREADS=4
failed=()

# part NAME SECONDS COMMAND ...: run a part of the check, its output also into NAME.log.
part() {
  local name=$1 limit=$2 status begin=$SECONDS
  shift 2
  echo "=== $name: $*" | cut -c1-160
  timeout --kill-after=5 "$limit" "$@" 2>&1 | tee -a "$out/$name.log" | cut -c1-180
  status=${PIPESTATUS[0]}
  [ "$status" = 124 ] && echo "=== $name: not ready after $limit s"
  echo "=== $name: status $status after $((SECONDS - begin)) s"
  [ "$status" = 0 ] || failed+=("$name")
}

. tests/gpu/setup.sh dev
shared=$(realpath "${NGTRAIN_SHARED:-../shared}")

part card 30 bash -c 'date +%F; nproc; nvidia-smi; python3 -V
  python3 -c "import numpy, cupy; print(numpy.__version__, cupy.__version__); cupy.show_config()"'
[ "$gpu" = no ] || part probe 90 tests/gpu/probe.py
part tests 150 python3 -m pytest -q -p no:cacheprovider --durations 5 \
  tests/test_cuda_*.py -k "GPU or compile"

peers=none
python3 -c 'import torch' 2>/dev/null && peers=torch
for tf32 in true false; do
  part "steps_tf32_$tf32" 80 benchmarks/train_step.py --num-threads=4 --use-gpu="$gpu" \
    --tf32=$tf32 --peers=$peers --num-rounds="${ROUNDS:-4}" \
    --minibatches-per-round="${MINIBATCHES:-200}" --json="$out/steps_tf32_$tf32.json"
done

# Two and then four jobs at a time have parts of the GPU.
if [ -d "$shared/kaldi/exp/tri2_ali" ]; then
  work=$out/training
  rm -rf "$work"
  mkdir -p "$work"
  part training 150 tests/gpu/train.sh "$shared/kaldi" "$gpu" "$work"
else
  part training 400 egs/digits/run.sh --hours 0.03 --use-gpu "$gpu" --num-jobs 4 --dir "$out/digits"
fi

echo "=== $SECONDS s; logs and figures are in $out"
[ ${#failed[@]} = 0 ] || { echo "=== failed: ${failed[*]}"; exit 1; }
echo "=== ngtrain works on this GPU"
