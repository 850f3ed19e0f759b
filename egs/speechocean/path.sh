# The programs, drivers and tools of the checkout that this recipe is in.
. "$(dirname "${BASH_SOURCE[0]}")/../../path.sh"
