# The libraries that people drive Docker with, against our daemon and against the real engine.
# sdk PROGRAM RUNTIME PYTHON IMAGES: executables, a directory of Python packages, one with the databases' archive
#
# Runs in the sealed box. The session of steps is played to both engines and their records are compared; then
# testcontainers has real databases in containers of ours. Prints a line for each check, and the counts.
set -u
program=$1 runtime=$2 packages=$3 images=$4
scripts=$(cd "$(dirname "$0")/../sdk" && pwd)
work=$(mktemp -d)
state=/var/lib/gantry-sealed/sdk
source "$(dirname "$0")/checks.sh"
ours=unix:///run/gantry-sdk.sock theirs=unix:///run/docker-sdk.sock
export PYTHONPATH=$packages PYTHONDONTWRITEBYTECODE=1 PYTHONWARNINGS=ignore
export DOCKER_CONFIG=$work/config HOME=$work
mkdir -p "$state" "$DOCKER_CONFIG"

clean_up() {
    for pid in $(jobs -p); do kill "$pid" 2>/dev/null; done
    wait 2>/dev/null
    find /sys/fs/cgroup -depth -type d -path '*/gantry-sdk*' -exec rmdir {} + 2>/dev/null
    rm -rf "$work"
}
trap clean_up EXIT

serve_ours() {
    "$program" --root "$state/ours" daemon --socket "${ours#unix://}" --run-dir /run/gantry-sdk --runtime "$runtime" \
        --network-prefix gsdk --cgroup-parent gantry-sdk-ours >"$work/ours.log" 2>&1 </dev/null &
    until_true 30 "$program" --host "$ours" version && return
    failed=$((failed + 1))
    echo "FAIL  our daemon did not come up: $(tail -n 1 "$work/ours.log")"
    return 1
}

serve_theirs() {
    cat >"$work/daemon.json" <<JSON
{ "data-root": "$state/theirs", "exec-root": "/run/docker-sdk", "pidfile": "/run/docker-sdk.pid", "bridge": "",
  "cgroup-parent": "/gantry-sdk-theirs", "exec-opts": ["native.cgroupdriver=cgroupfs"] }
JSON
    dockerd --config-file "$work/daemon.json" -H "$theirs" >"$work/theirs.log" 2>&1 </dev/null &
    until_true 60 docker -H "$theirs" version && return
    skip "the session of steps" "the real engine did not come up here: $(tail -n 1 "$work/theirs.log")"
    return 1
}

# play URL RECORD: the session, whose own failures are in the record.
play() {
    python3 "$scripts/session.py" "$1" /usr/bin/busybox "$2" && return
    failed=$((failed + 1))
    echo "FAIL  the session did not come to its end against $1"
    return 1
}

# counts COMMAND...: shows a command's lines, and adds up its closing line.
counts() {
    local output
    output=$("$@" 2>&1)
    sed -E '/^[0-9]+ passed, /d' <<<"$output"
    read -r -a numbers <<<"$(sed -nE 's/^([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped$/\1 \2 \3/p' <<<"$output" | tail -n 1)"
    if [[ ${#numbers[@]} != 3 ]]; then
        failed=$((failed + 1))
        echo "FAIL  $2: it did not come to its end"
        return
    fi
    passed=$((passed + numbers[0])) failed=$((failed + numbers[1])) skipped=$((skipped + numbers[2]))
}

serve_ours || { conclude; exit 1; }
if serve_theirs; then
    play "$ours" "$work/ours.json" && play "$theirs" "$work/theirs.json" &&
        counts python3 "$scripts/compare.py" "$work/ours.json" "$work/theirs.json" "$scripts/differences.txt"
fi
[[ -n ${GANTRY_SDK_KEEP:-} ]] && cp "$work"/*.json "$work"/*.log "$GANTRY_SDK_KEEP"
if [[ -s $images/databases.tar ]]; then
    counts env DOCKER_HOST="$ours" TESTCONTAINERS_RYUK_DISABLED=true \
        python3 "$scripts/databases.py" "$images/databases.tar"
else
    skip "testcontainers with databases" "their image could not be made"
fi
check "no container is left" 0 sh -c '"$0" --host "$1" ps -aq | wc -l' "$program" "$ours"
conclude
