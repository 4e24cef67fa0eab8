# One engine goes through the steps of a session: session ENGINE DIRECTORY CLIENT [PROGRAM RUNTIME]
#
# Runs in the sealed box, so that both engines find the same: an empty network, no images, the same paths. DIRECTORY has
# steps/NAME, each a script; what each says is left in ENGINE/NAME.out, .err and .status beside them.
set -u
engine=$1 directory=$2 client=$3
results=$directory/$engine
parent=gantry-session-$engine-$$
export W=/run/session DOCKER_HOST=unix:///run/docker.sock DOCKER_CONFIG=/run/session-config DOCKER_CLI_HINTS=false
export DOCKER_BUILDKIT=0 TZ=UTC LC_ALL=C ENGINE=$engine
mkdir -p "$W" "$DOCKER_CONFIG" "$results" /run/bin
echo '{}' >"$DOCKER_CONFIG/config.json"
ln -s "$client" /run/bin/docker
PATH=/run/bin:$PATH

clean_up() {
    for id in $(timeout 20 docker ps -aq); do timeout 20 docker rm -fv "$id"; done >/dev/null 2>&1
    kill "$daemon" 2>/dev/null
    wait "$daemon" 2>/dev/null
    find /sys/fs/cgroup -depth -type d -path "*/$parent*" -exec rmdir {} + 2>/dev/null
}
trap clean_up EXIT

case $engine in
docker)
    cat >/run/daemon.json <<JSON
{ "storage-driver": "vfs", "data-root": "/run/data", "exec-root": "/run/exec", "cgroup-parent": "/$parent",
  "exec-opts": ["native.cgroupdriver=cgroupfs"], "userland-proxy": false, "live-restore": true }
JSON
    dockerd --config-file /run/daemon.json -H "$DOCKER_HOST" >"$results.log" 2>&1 </dev/null &
    ;;
gantry)
    "$4" --root /run/data daemon --socket /run/docker.sock --run-dir /run/exec --runtime "$5" \
        --cgroup-parent "$parent" >"$results.log" 2>&1 </dev/null &
    ;;
esac
daemon=$!
for _ in $(seq 300); do
    docker version >/dev/null 2>&1 && break
    kill -0 "$daemon" 2>/dev/null || break
    sleep 0.1
done
if ! docker version >/dev/null 2>&1; then
    echo "session: $engine did not answer: $(tail -n 3 "$results.log")" >&2
    exit 1
fi
cd "$W" || exit 1
for step in "$directory"/steps/*; do
    name=${step##*/}
    timeout --kill-after=2 40 bash "$step" >"$results/$name.out" 2>"$results/$name.err" </dev/null
    echo $? >"$results/$name.status"
done
exit 0
