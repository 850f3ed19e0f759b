# Source this file in a script of a recipe to read its command line, as in egs/digits/run.sh.

# usage: print what stands at the top of the script.
usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; }

fail() { echo "$(basename "$0"): $*" >&2; exit 1; }

# parse_option NAMES WORD ...: with --num-jobs=2 or --num-jobs 2 set num_jobs to 2, if --num-jobs is
# among NAMES, and taken to the number of words that this was.
parse_option() {
  local option=${2%%=*} value
  [[ " $1 " == *" $option "* ]] || fail "there is no option $2 (--help lists them)"
  if [ "$option" != "$2" ]; then value=${2#*=} taken=1
  else [ $# -ge 3 ] || fail "option $2 needs a value"; value=$3 taken=2; fi
  option=${option#--}
  printf -v "${option//-/_}" '%s' "$value"
}
