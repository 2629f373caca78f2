#!/usr/bin/env bash
# Run a command in a namespace in which the whole file system is read-only except one folder.
#
#   bash tests/robustness/sandbox.sh FOLDER COMMAND [ARGUMENT ...]
#   bash tests/robustness/sandbox.sh --check          # exit status 0 where a sandbox can be had
#
# The command starts in the current folder, sees its own processes only, and has FOLDER/.tmp as its temporary folder and an
# empty /dev/shm.  Exits with the command's status, or with 125 when there can be no sandbox: the command is then not run.
set -euo pipefail

refuse() { echo "sandbox: $1" >&2; exit 125; }

# Inside the namespace: bind FOLDER onto itself, so that it is a mount of its own, then make every other mount read-only.
enter() {
    local folder=$1 point options
    mount --make-rprivate /
    mount --bind "$folder" "$folder"
    mount -t tmpfs -o size=2g tmpfs /dev/shm 2>/dev/null || true
    while read -r _ _ _ _ point _; do
        point=$(printf '%b' "$point")  # mountinfo writes a space as \040
        case "$point" in "$folder" | /dev/shm | /proc | /proc/*) continue ;; esac
        mount -o remount,bind,ro "$point" 2>/dev/null || true
    done < /proc/self/mountinfo
    # Trust no mount, try it: the root, the home folder and the folder that holds FOLDER must refuse to be written.
    for place in / "${HOME:-/root}" "$(dirname "$folder")" "$PWD"; do
        case "$place/" in "$folder"/*) continue ;; esac
        if : 2>/dev/null > "$place/.sandbox-probe.$$"; then
            rm -f "$place/.sandbox-probe.$$"
            refuse "$place is still writable"
        fi
    done
    mkdir -p "$folder/.tmp"
    export TMPDIR="$folder/.tmp" STCN_SANDBOX="$folder"
}

case "${1:-}" in
    --inside)
        folder=$2
        shift 2
        enter "$folder"
        exec "$@"
        ;;
    --check)
        place=$(mktemp -d)
        status=0
        bash "$0" "$place" true || status=$?
        rmdir "$place/.tmp" "$place" 2>/dev/null || true
        exit $status
        ;;
esac

[ $# -ge 2 ] || refuse "expected FOLDER COMMAND [ARGUMENT ...]"
folder=$(realpath -e "$1") || refuse "$1: no such folder"
[ -d "$folder" ] || refuse "$folder: not a folder"
[ "$folder" != / ] || refuse "the folder must not be the root"
shift
flags=(--mount --pid --fork --kill-child --mount-proc)
[ "$(id -u)" = 0 ] || flags+=(--user --map-root-user)
unshare "${flags[@]}" true 2>/dev/null || refuse "unshare cannot make a namespace here"
exec unshare "${flags[@]}" bash "$0" --inside "$folder" "$@"
