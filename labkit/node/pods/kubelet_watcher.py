"""The shell scripts of `kubelet_pause`, which run on the node: a watcher for each hold, and what asks it or ends it."""

from __future__ import annotations

LIVE = """
lives() { grep -q labkit-hold "/proc/$1/cmdline" 2>/dev/null; }
live() {
    for hold in "$1"/*; do
        [ -f "$hold" ] && read -r watcher <"$hold" && lives "$watcher" && echo "${hold##*/}"
    done
    true
}
"""
"""lives PID: whether it is a watcher. live DIRECTORY: prints the holds whose watchers live."""

WATCHER = (
    LIVE
    + """
holds=$1 name=$2 silent=$3 end=$(( $(date +%s) + $4 ))
shift 4
mkdir -p "$holds"
flag=$holds/$name touched= still=0
printf '%s\\n' $$ "$*" >"$flag"
kill -STOP "$@"
while [ "$still" -lt "$silent" ] && [ "$(date +%s)" -lt "$end" ] && last=$(stat -c %Y "$flag" 2>/dev/null); do
    if [ "$last" = "$touched" ]; then still=$((still + 1)); else touched=$last still=0; fi
    sleep 1
done
[ -n "$(live "$holds" | grep -vxF "$name")" ] || kill -CONT "$@"
[ "$still" -ge "$silent" ] || rm -f "$flag"
rmdir "$holds" 2>/dev/null
"""
)
"""Where nobody touched its file for so long, the file stays: by it a notebook that slept knows that its hold has ended.

It counts seconds that it was awake, not those of a clock: after a machine has slept, or a node was paused, the file looks old
though its notebook lives."""

LET_GO = (
    LIVE
    + """
holds=$1 prefix=$2 kubelets=
for hold in "$holds/$prefix"*; do
    [ -f "$hold" ] || continue
    { read -r watcher; read -r pids; } <"$hold"
    kubelets="$kubelets $pids"
    rm -f "$hold"
    for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
        lives "$watcher" || break
        sleep 0.1
    done
done
[ -z "$kubelets" ] || [ -n "$(live "$holds")" ] || kill -CONT $kubelets 2>/dev/null
rmdir "$holds" 2>/dev/null
true
"""
)
"""Ends the holds whose names begin with $2. The watcher lets the kubelet go on; where it was killed, this does."""

TOUCH = (
    LIVE
    + """
[ ! -e "$1" ] || { touch "$1"; read -r watcher <"$1"; lives "$watcher" || echo expired; }
"""
)
