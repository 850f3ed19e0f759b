#!/usr/bin/env bash
# Put into .gpu/ what a machine with a GPU and without a network lacks for check.sh: packages, and
# the part of the reference data that the tests and the small training read; 12 MB.
#
# Usage: tests/gpu/prepare.sh [<package>==<version> ...]
#  e.g.: tests/gpu/prepare.sh espeakng-loader==0.2.4      # for benchmarks/convergence/paper_size.sh; 20 MB
#
# Packages named here come in addition to those of requirements/core.txt that few machines have.
# They are for Python 3.12 on x86-64; PYTHON_VERSION=3.11 says another.  .gpu/ is ignored by git.

set -euo pipefail
cd "$(dirname "$0")/../.."
shared=${NGTRAIN_SHARED:-../shared}
rm -rf .gpu
mkdir -p .gpu/whl .gpu/shared
platforms=()
for n in 17 24 27 28; do platforms+=(--platform "manylinux_2_${n}_x86_64"); done
mapfile -t packages < <(grep -E '^(kaldi|soundfile)' requirements/core.txt)
python3 -m pip download --quiet --no-deps --only-binary=:all: --implementation cp \
  --python-version "${PYTHON_VERSION:-3.12}" "${platforms[@]}" --platform manylinux2014_x86_64 \
  --platform any --dest .gpu/whl "${packages[@]}" "$@"
tar --create --directory "$shared" kaldi/data/train kaldi/data/lang kaldi/mfcc kaldi/exp/tri2_ali \
  kaldi/golden/egs_1frame.ark \
  kaldi/golden/training/{online_lowrank,sgd_tanh}/{0.mdl,1.first5.mdl,minibatch} |
  tar --extract --directory .gpu/shared
chmod -R u+w .gpu
du -sh .gpu .gpu/*
