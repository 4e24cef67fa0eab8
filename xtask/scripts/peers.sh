# The peers' box: real engines and runtimes of this field, in a Debian trixie of their own, to test with and to measure
# beside.  peers BOX PACKAGES REPOSITORY VERB [COMMAND ...]
#
# The box is a directory; what is mounted for it is mounted in a mount namespace that ends with its holder process. It
# shares /proc, /sys, /dev, /tmp, /run and the work tree with the host, at the same paths.
set -euo pipefail
box=$1 packages=$2 repository=$3 verb=$4
shift 4
holder=$box.holder

die() { echo "peers: $*" >&2; exit 1; }

install_box() {
    command -v mmdebstrap >/dev/null || die "mmdebstrap is missing: run 'make setup'"
    if [[ ! -d $box/usr ]]; then
        rm -rf "$box.new"
        mmdebstrap --quiet --variant=apt --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
            --aptopt='APT::Sandbox::User "root"' --include="$packages" trixie "$box.new"
        mv "$box.new" "$box"
    fi
    local missing=() package
    for package in ${packages//,/ }; do
        grep -qsx "Package: $package" "$box/var/lib/dpkg/status" || missing+=("$package")
    done
    [[ ${#missing[@]} = 0 ]] && return
    # An existing box that lacks something, such as one made by an older recipe.
    unshare -m --propagation private bash -c '
        set -e; box=$1; shift
        mount -t proc proc "$box/proc"; mount --rbind /dev "$box/dev"
        mount --bind /etc/resolv.conf "$box/etc/resolv.conf" 2>/dev/null || cp /etc/resolv.conf "$box/etc/"
        printf "#!/bin/sh\nexit 101\n" >"$box/usr/sbin/policy-rc.d"; chmod +x "$box/usr/sbin/policy-rc.d"
        chroot "$box" apt-get -q update
        DEBIAN_FRONTEND=noninteractive chroot "$box" apt-get -q install -y --no-install-recommends "$@"' - "$box" "${missing[@]}" >&2
}

in_box() { nsenter -m -t "$1" -r -w test -e /.in-the-box -a ! -e /.old/usr 2>/dev/null; }

is_up() { [[ -f $holder ]] && in_box "$(<"$holder")"; }

up() {
    [[ -d $box/usr ]] || die "there is no box in $box yet: run 'cargo xtask peers install'"
    is_up && return
    setsid unshare -m --propagation private bash -c '
        set -e; box=$1 here=$2
        mount --bind "$box" "$box"; cd "$box"
        for d in proc sys dev; do mount --rbind "/$d" "$d"; done
        for d in /tmp /run "$here"; do mkdir -p ".$d"; mount --rbind "$d" ".$d"; done
        touch .in-the-box; mkdir -p .old; pivot_root . .old; umount -l /.old
        exec sleep infinity' - "$box" "$repository" </dev/null >"$box.log" 2>&1 &
    local pid=$! _
    echo "$pid" >"$holder"
    for _ in $(seq 100); do
        in_box "$pid" && return
        sleep 0.1
    done
    die "the box did not come up: $(tail -n 1 "$box.log")"
}

down() {
    is_up && kill "$(<"$holder")"
    rm -f "$holder" "$box.log"
}

# Replaces this process by a command in the box, in the directory that we are in if the box has it.
enter() { exec nsenter -m -t "$(<"$holder")" -r -w sh -c 'cd "$0" 2>/dev/null || cd /; exec "$@"' "$PWD" "$@"; }

case $verb in
install) install_box ;;
run) up; enter "$@" ;;
# In a mount namespace whose /sys/fs/cgroup is cgroup v2 alone. On a hybrid host it has the controllers that v1 left.
v2)
    up
    enter unshare -m --propagation private \
        sh -c 'umount -l /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; exec "$@"' - "$@"
    ;;
# In namespaces of its own for mounts, processes and the network, so that an engine started there ends with the command
# and leaves no bridge, firewall rule or shim. /run is empty there, and /var/lib is kept for the command only.
sealed)
    up
    enter unshare -m -p -f -n --kill-child --propagation private sh -c '
        mount -t proc proc /proc
        mount -t tmpfs -o mode=755 tmpfs /run
        mkdir -p /var/lib/gantry-sealed
        mount -t tmpfs tmpfs /var/lib/gantry-sealed
        for d in docker containerd containers; do
            mkdir -p /var/lib/gantry-sealed/$d /var/lib/$d
            mount --bind /var/lib/gantry-sealed/$d /var/lib/$d
        done
        ip link set lo up
        exec "$@"' - "$@"
    ;;
up) up ;;
is-up) is_up ;;
down) down ;;
# The box is unmounted everywhere once it is down: its mounts are in its holder's namespace only.
remove)
    down
    rm -rf --one-file-system "$box" "$box.new"
    ;;
*) die "unknown verb $verb" ;;
esac
