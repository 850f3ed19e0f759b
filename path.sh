# Source this file in bash to use the programs of this directory:  . ./path.sh

NGTRAIN_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ -x "$NGTRAIN_ROOT/.venv/bin/python3" ]; then
  export VIRTUAL_ENV=$NGTRAIN_ROOT/.venv
  PATH=$VIRTUAL_ENV/bin:$PATH
fi
export PATH=$NGTRAIN_ROOT/bin:$NGTRAIN_ROOT/steps:$NGTRAIN_ROOT/utils:$PATH
export PYTHONPATH=$NGTRAIN_ROOT${PYTHONPATH:+:$PYTHONPATH}
# A program is compiled once, not each time it is started, and jobs start programs by the hundred.
unset PYTHONDONTWRITEBYTECODE
export LC_ALL=C  # the tools rely on lists sorted by byte value
case $- in *i*) . "$NGTRAIN_ROOT/utils/completion.sh" ;; esac  # the tab key, where one types
