# A real Debian in a container with limits, seen from inside and outside: demo RUNTIME DIRECTORY PROFILE
#
# The root file system is made once and kept in DIRECTORY. Everything else is gone when this ends. PROFILE is a seccomp
# profile.
set -euo pipefail
runtime=$1 directory=$2
root=$directory/rootfs
id=gantry-demo-$$
work=$(mktemp -d)
bold='' dim='' plain=''
[[ -t 1 && -z ${NO_COLOR:-} ]] && bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'

oci() { "$runtime" --root "$work/state" "$@"; }
finish() {
    oci delete --force "$id" >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap finish EXIT

title() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
say() { printf '%s%s%s\n' "$dim" "$*" "$plain"; }

# Two texts beside each other: what a command says on the host, and what one says in the container (the same if only one
# is given).
beside() {
    sh -c "$1" >"$work/outside" 2>&1 || true
    oci exec "$id" sh -c "${2:-$1}" >"$work/inside" 2>&1 || true
    printf '%s%-60s  %s%s\n' "$dim" outside inside "$plain"
    paste -d $'\037' "$work/outside" "$work/inside" | tr '\t' ' ' | head -n 12 |
        while IFS=$'\037' read -r left right; do printf '%-60.60s  %.60s\n' "$left" "$right"; done
}

if [[ ! -x $root/bin/sh ]]; then
    say "making a Debian root file system in $directory (about half a minute)"
    mkdir -p "$directory"
    rm -rf "$directory/new"
    mmdebstrap --quiet --variant=essential --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
        --aptopt='APT::Sandbox::User "root"' --include=procps bookworm "$directory/new"
    mv "$directory/new" "$root"
fi

mkdir -p "$work/bundle"
profile=$(<"$3")
capabilities='["CAP_CHOWN","CAP_DAC_OVERRIDE","CAP_FOWNER","CAP_KILL","CAP_SETGID","CAP_SETUID"]'
# The workload is one endless loop: half a processor is all that it gets.
cat >"$work/bundle/config.json" <<JSON
{
  "ociVersion": "1.2.0",
  "hostname": "debian-inside",
  "root": { "path": "$root", "readonly": true },
  "process": {
    "args": ["/bin/sh", "-c", "while :; do :; done"],
    "cwd": "/", "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], "user": { "uid": 0, "gid": 0 },
    "noNewPrivileges": true,
    "capabilities": { "bounding": $capabilities, "effective": $capabilities, "permitted": $capabilities }
  },
  "mounts": [
    { "destination": "/proc", "type": "proc", "source": "proc" },
    { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"] },
    { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
      "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] },
    { "destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "size=8m"] },
    { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] },
    { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
      "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] },
    { "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "size=16m"] }
  ],
  "linux": {
    "cgroupsPath": "/$id",
    "namespaces": [{ "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
      { "type": "cgroup" }],
    "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
    "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus"],
    "resources": {
      "memory": { "limit": 67108864, "swap": 67108864 },
      "cpu": { "quota": 50000, "period": 100000 },
      "pids": { "limit": 32 },
      "devices": [{ "allow": false, "access": "rwm" }]
    },
    "seccomp": $profile
  }
}
JSON

title "A container from Debian's own packages, by $("$runtime" --version | head -n 1)"
began=${EPOCHREALTIME/./}
oci run --detach --bundle "$work/bundle" "$id" </dev/null >"$work/out" 2>"$work/err" || { cat "$work/err" >&2; exit 1; }
say "up in $(((${EPOCHREALTIME/./} - began) / 1000)) ms"
pid=$(oci state "$id" | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p' | head -n 1)

# The file of a limit, in the container's cgroup of whichever version: limit V1-CONTROLLER V1-FILE V2-FILE
limit() {
    local path
    if path=$(sed -n "s/^[0-9]*:\(.*,\)\?$1\(,.*\)\?://p" "/proc/$pid/cgroup" | grep .); then
        echo "$(awk -v c="$1" '$3 == "cgroup" && ("," $4 ",") ~ ("[,/]" c ",") { print $2; exit }' /proc/mounts)$path/$2"
    else
        echo "$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)$(sed -n 's/^0:://p' "/proc/$pid/cgroup")/$3"
    fi
}

title "The same process has two names"
beside "ps -o pid,user,args -p $pid" "ps -e -o pid,user,args"
title "Another host name, another system, no network"
beside "cat /proc/sys/kernel/hostname; . /etc/os-release; echo \$PRETTY_NAME; ls /sys/class/net | tr '\n' ' '"
title "Fewer rights: capabilities, system calls, privileges"
beside "grep -E 'CapEff|NoNewPrivs|^Seccomp:' /proc/self/status"
title "Its own mounts"
beside "wc -l </proc/mounts; cut -d' ' -f1-3 /proc/mounts"
title "Limits, as the kernel has them"
printf '%-12s %s\n' memory "$(cat "$(limit memory memory.limit_in_bytes memory.max)") bytes" \
    processes "$(cat "$(limit pids pids.max pids.max)")" \
    processor "$(cut -d" " -f1 "$(limit cpu cpu.cfs_quota_us cpu.max)") microseconds of each 100000"

title "... and as the container feels them"
before=$(awk '{ print $14 + $15 }' "/proc/$pid/stat")
sleep 4
after=$(awk '{ print $14 + $15 }' "/proc/$pid/stat")
say "processor: an endless loop in it got $(((after - before) * 100 / ($(getconf CLK_TCK) * 4))) % of one processor"
status=0
oci exec "$id" sh -c 'head -c 200M /dev/zero | tail -c 200M >/dev/null' >/dev/null 2>&1 || status=$?
state=$(oci state "$id" | sed -n 's/.*"status": *"\([a-z]*\)".*/\1/p')
say "memory: a process that wanted 200 MiB ended with status $status (137 is a kill by the kernel); the container is $state"
oci exec "$id" sh -c 'n=0; while [ $n -lt 60 ]; do sleep 5 & n=$((n + 1)); done' >/dev/null 2>&1 </dev/null || true
say "processes: of 60 that it tried to start, there are $(cat "$(limit pids pids.current pids.current)") with the loop"

title "Gone without a trace"
oci delete --force "$id"
for _ in $(seq 20); do
    [[ -d /proc/$pid ]] || break
    sleep 0.1
done
left=$(find /sys/fs/cgroup -name "$id" 2>/dev/null | wc -l)
say "processes left: $(ls -d "/proc/$pid" 2>/dev/null | wc -l), cgroups left: $left, mounts left: $(grep -c "$work" /proc/mounts || true), containers listed: $(oci list -q | wc -l)"
[[ $left = 0 && ! -d /proc/$pid ]]
