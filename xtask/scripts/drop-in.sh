# Engines with an OCI runtime in place of their own: drop-in RUNTIME
#
# Runs in the sealed box: the engines, their shims and networks end with it. Prints a line for each check, and the counts.
set -u
runtime=$1
work=$(mktemp -d)
export DOCKER_HOST=unix:///run/docker.sock
source "$(dirname "$0")/checks.sh"

clean_up() {
    docker ps -aq 2>/dev/null | xargs -r docker rm -f >/dev/null 2>&1
    podman rm -fa -t 0 >/dev/null 2>&1
    for pid in $(jobs -p); do kill "$pid" 2>/dev/null; done
    wait 2>/dev/null
    # What engines make for themselves at the top of each hierarchy. Removing a cgroup in use fails, and is not forced.
    find /sys/fs/cgroup -depth -type d \( -path '*/gantry-drop-in*' -o -path '*/libpod_parent*' \) -exec rmdir {} + 2>/dev/null
    rm -rf "$work"
}
trap clean_up EXIT

make_root() {
    mkdir -p "$work/root"/{bin,dev,etc,proc,sys,tmp}
    cp /usr/bin/busybox "$work/root/bin/"
    for applet in sh true sleep cat id hostname echo kill; do ln -s busybox "$work/root/bin/$applet"; done
    printf 'root:x:0:0:root:/:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n' >"$work/root/etc/passwd"
    tar -C "$work/root" -cf "$work/root.tar" .
}

docker_checks() {
    cat >"$work/daemon.json" <<JSON
{ "runtimes": { "under-test": { "path": "$runtime" } }, "default-runtime": "under-test",
  "cgroup-parent": "/gantry-drop-in", "storage-driver": "vfs", "iptables": false, "ip6tables": false,
  "bridge": "none", "exec-opts": ["native.cgroupdriver=cgroupfs"] }
JSON
    dockerd --config-file "$work/daemon.json" -H "$DOCKER_HOST" >"$work/dockerd.log" 2>&1 &
    if ! until_true 60 docker version; then
        failed=$((failed + 1))
        echo "FAIL  docker: the engine did not come up: $(tail -n 1 "$work/dockerd.log")"
        return
    fi
    docker import "$work/root.tar" busy >/dev/null
    check "docker run" hello docker run --rm --network none busy echo hello
    check "docker run --user" "uid=1000(user) gid=1000 groups=1000" docker run --rm --network none -u user busy id
    check "docker run --read-only --cap-drop" "0000000000000000" \
        docker run --rm --network none --read-only --cap-drop ALL busy sh -c 'while read k v; do [ $k = CapEff: ] && echo $v; done </proc/self/status; true'
    docker run -d --name box --network none --hostname inside -m 64m --pids-limit 50 busy sleep 600 >/dev/null
    check "docker exec" inside docker exec box hostname
    check "docker exec --user --env" "1000 value" docker exec -u 1000 -e KEY=value box sh -c 'echo $(id -u) $KEY'
    check "docker top" 1 sh -c 'docker top box -eo pid,comm | grep -c sleep'
    check "docker pause" box docker pause box
    check "docker inspect, paused" paused docker inspect -f '{{.State.Status}}' box
    check "docker unpause" box docker unpause box
    check "docker update" box docker update -m 128m --memory-swap 128m box
    check "docker inspect, updated" 134217728 docker inspect -f '{{.HostConfig.Memory}}' box
    check "docker stop" box docker stop -t 1 box
    check "docker start" box docker start box
    check "docker kill" box docker kill box
    check "docker rm" box docker rm -f box
    check "docker run, exit status" 7 sh -c 'docker run --rm --network none busy sh -c "exit 7"; echo $?'
    check "docker run, no such command" 127 sh -c 'docker run --rm --network none busy nowhere 2>/dev/null; echo $?'
    check "docker run --tty" ok sh -c 'docker run --rm -t --network none busy sh -c "[ -t 1 ] && echo ok" | tr -d "\r"'
    check "nothing is left in the runtime's state" 0 \
        sh -c "'$runtime' --root /run/docker/runtime-runc/moby list -q | wc -l"
}

containerd_checks() {
    # The engine's containerd answers here; a runtime is named to its shim by an option.
    local ctr=(ctr -a /run/docker/containerd/containerd.sock -n gantry-drop-in)
    local run=("${ctr[@]}" run --snapshotter native --runc-binary "$runtime" --runc-root "$work/ctr")
    docker save busy -o "$work/busy.tar" && "${ctr[@]}" images import --snapshotter native "$work/busy.tar" >/dev/null 2>&1
    local image
    image=$("${ctr[@]}" images ls -q | head -n 1)
    [[ -n $image ]] || { skip containerd "its image could not be imported"; return; }
    check "ctr run" hello "${run[@]}" --rm "$image" one echo hello
    "${run[@]}" -d "$image" two sleep 600 >/dev/null 2>&1
    check "ctr task exec" in "${ctr[@]}" task exec --exec-id e1 two echo in
    check "ctr task pause" PAUSED sh -c '"$@" task pause two && "$@" task ls | awk "/^two/ { print \$3 }"' - "${ctr[@]}"
    check "ctr task resume" RUNNING sh -c '"$@" task resume two && "$@" task ls | awk "/^two/ { print \$3 }"' - "${ctr[@]}"
    check "ctr task ps" 1 sh -c '"$@" task ps two | grep -c "^[0-9]"' - "${ctr[@]}"
    check "ctr task kill" STOPPED sh -c '"$@" task kill -s 9 two; sleep 1; "$@" task ls | awk "/^two/ { print \$3 }"' - "${ctr[@]}"
    check "ctr task rm" "" sh -c '"$@" task rm two >/dev/null 2>&1; "$@" containers rm two' - "${ctr[@]}"
}

podman_checks() {
    podman=(podman --runtime "$runtime" --storage-driver vfs --cgroup-manager cgroupfs --root "$work/podman"
        --runroot /run/podman-test)
    podman() { command "${podman[@]}" "$@"; }
    if ! podman import "$work/root.tar" busy >/dev/null 2>"$work/errors"; then
        skip podman "it cannot import an image here: $(tail -n 1 "$work/errors")"
        return
    fi
    if ! podman --runtime runc run --rm --network none --cgroup-parent /gantry-drop-in busy true 2>"$work/errors"; then
        # Podman gave up cgroup v1: what its own runtime cannot do here says nothing about ours.
        skip podman "it runs nothing with its own runtime on this host: $(tail -n 1 "$work/errors")"
        return
    fi
    local run=(run --network none --cgroup-parent /gantry-drop-in)
    check "podman run" hello podman "${run[@]}" --rm busy echo hello
    podman "${run[@]}" -d --name box busy sleep 600 >/dev/null
    check "podman exec" in podman exec box echo in
    check "podman pause" box podman pause box
    check "podman unpause" box podman unpause box
    check "podman stop" box podman stop -t 1 box
    check "podman rm" box podman rm -f box
    check "podman run, exit status" 7 sh -c 'status=0; "$@" || status=$?; echo $status' - "${podman[@]}" "${run[@]}" --rm busy sh -c 'exit 7'
}

make_root
docker_checks
containerd_checks
podman_checks
conclude
