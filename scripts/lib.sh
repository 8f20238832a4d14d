# Shared by the scripts of this folder: where the checkout is, and how they speak.
# Source it: . "$(dirname "$0")/lib.sh"
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="$root/.venv"
name="$(basename "$0")"

# What a script says of itself is its opening comment.
case "${1:-}" in -h | --help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; exit 0 ;; esac

# Lets ccache share what it compiled between checkouts, such as fresh clones.
export CCACHE_BASEDIR="$root" CCACHE_NOHASHDIR=true

say() { printf '[%s %d:%02d] %s\n' "$name" $((SECONDS / 60)) $((SECONDS % 60)) "$*"; }
die() { printf '%s: %s\n' "$name" "$*" >&2; exit 1; }
