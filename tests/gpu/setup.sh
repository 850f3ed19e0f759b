# Source this file at the root of the checkout, for a Python that has what GPUs need: of .gpu/, if
# prepare.sh has made it, else the extra gpu-cuda12 or gpu-cuda13, whichever the driver supports.
# gpu=no does without.  Words behind its name are more extras.

if compgen -G '.gpu/whl/*.whl' >/dev/null; then
  python3 -m pip install --quiet --no-index --no-deps --upgrade --target .gpu/site .gpu/whl/*.whl
  export PYTHONPATH=$PWD/.gpu/site NGTRAIN_SHARED=$PWD/.gpu/shared
elif [ "$gpu" != no ]; then
  cuda=$(nvidia-smi | sed -n 's/.*CUDA Version: \([0-9]*\).*/\1/p')
  utils/setup_env.sh "$@" "gpu-cuda$((${cuda:-12} < 13 ? 12 : 13))"
else
  utils/setup_env.sh "$@"
fi
. ./path.sh
