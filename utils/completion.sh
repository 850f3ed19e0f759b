# Complete options, their values and files with the tab key:  . utils/completion.sh
#
# For bash; path.sh does so in a shell that one types into.  What there is to complete is what a
# program says for --help, which is asked once.

declare -gA _ngtrain_options=()
_ngtrain_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# The options of a program as --help has them, such as --use-gpu=yes|no|optional|wait
_ngtrain_ask() {
  local name=${1##*/} folder
  if [ -z "${_ngtrain_options[$name]+asked}" ]; then
    for folder in bin steps utils; do
      [ -x "$_ngtrain_root/$folder/$name" ] || continue
      _ngtrain_options[$name]=$("$_ngtrain_root/$folder/$name" --help 2>/dev/null |
        grep -oE '^  --[a-z][^ ]*')
      break
    done
  fi
}

# bash divides --name=value into three words.
_ngtrain_complete() {
  local program=${1##*/} word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} found
  COMPREPLY=()
  _ngtrain_ask "$program"
  found=${_ngtrain_options[$program]-}
  [ "$word" != = ] || word='' before='=' COMP_CWORD=$((COMP_CWORD + 1))
  [ "$before" != = ] || before=${COMP_WORDS[COMP_CWORD - 2]}
  if [[ $word == -* ]]; then
    COMPREPLY=($(compgen -W "$(sed 's/=.*/=/' <<<"$found")" -- "$word"))
    compopt -o nospace 2>/dev/null
  elif [[ $before == --* ]]; then
    found=$(grep -oE -- "^  $before=[a-z|]+$" <<<"$found")
    COMPREPLY=($(compgen -W "$(tr '|' ' ' <<<"${found#*=}")" -- "$word"))
  fi
}

for _ngtrain_program in "$_ngtrain_root"/bin/* "$_ngtrain_root"/{steps,utils}/*.py; do
  [ ! -x "$_ngtrain_program" ] || complete -o default -F _ngtrain_complete "${_ngtrain_program##*/}"
done
unset _ngtrain_program
