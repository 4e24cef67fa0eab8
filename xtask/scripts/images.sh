# Images between our program and the tools that people have: images PROGRAM
#
# Runs in the sealed box: registries, engines and their state end with it. Prints a line for each check, and the counts.
set -u
program=$1
work=$(mktemp -d)
source "$(dirname "$0")/checks.sh"

# The last is no loopback address: only there do certificates matter to everybody.
ours=127.0.0.1:5001 theirs=127.0.0.1:5002 guarded=127.0.0.1:5003 private=10.99.0.1:5004
export DOCKER_HOST=unix:///run/docker.sock DOCKER_CONFIG=$work/docker DOCKER_BUILDKIT=0
export REGISTRY_AUTH_FILE=$work/auth.json CONTAINERS_STORAGE_CONF=$work/storage.conf
export CONTAINERS_REGISTRIES_CONF=$work/registries.conf BUILDAH_ISOLATION=chroot
mkdir -p "$DOCKER_CONFIG"

# Functions, so that the shells of checks have them too.
gantry() { "$program" --root "$work/store" "$@"; }
fresh() { "$program" --root "$work/fresh" "$@"; }
export -f gantry fresh
export program work

clean_up() {
    for pid in $(jobs -p); do kill "$pid" 2>/dev/null; done
    wait 2>/dev/null
    find /sys/fs/cgroup -depth -type d -path '*/gantry-images*' -exec rmdir {} + 2>/dev/null
    rm -rf "$work"
}
trap clean_up EXIT

settings() {
    cat >"$work/storage.conf" <<TOML
[storage]
driver = "vfs"
graphroot = "$work/containers"
runroot = "/run/containers-test"
TOML
    printf '[[registry]]\nlocation = "%s"\ninsecure = true\n' "$ours" "$theirs" "$guarded" >"$work/registries.conf"
    # Not every tool takes the variable. Mounts here end with this test.
    mount --bind "$work/registries.conf" /etc/containers/registries.conf
    echo '{}' >"$REGISTRY_AUTH_FILE"
    cat >"$work/daemon.json" <<JSON
{ "storage-driver": "vfs", "iptables": false, "ip6tables": false, "bridge": "none", "data-root": "$work/docker-data",
  "cgroup-parent": "/gantry-images", "exec-opts": ["native.cgroupdriver=cgroupfs"], "max-concurrent-uploads": 2 }
JSON
}

# fail NAME WHY: something that is no check of its own did not work, and what needs it is left out.
fail() {
    failed=$((failed + 1))
    echo "FAIL  $1: $2"
}

# Servers. Each answers before its function returns.

serve() { # ADDRESS NAME [OPTION...]: our registry.
    local address=$1 name=$2 scheme=http
    shift 2
    [[ $name = private ]] && scheme=https
    "$program" registry serve --listen "$address" --root "$work/registry-$name" "$@" >"$work/$name.log" 2>&1 &
    until_true 30 curl -sk -o /dev/null "$scheme://$address/v2/" && return
    fail "registry $name" "it did not come up: $(tail -n 1 "$work/$name.log")"
    return 1
}

serve_theirs() {
    cat >"$work/theirs.yml" <<YAML
version: 0.1
log: { level: error }
storage: { filesystem: { rootdirectory: $work/registry-theirs }, delete: { enabled: true } }
http: { addr: $theirs }
YAML
    # It takes variables of this prefix for its configuration.
    env -u REGISTRY_AUTH_FILE docker-registry serve "$work/theirs.yml" >"$work/theirs.log" 2>&1 &
    until_true 30 curl -s -o /dev/null "http://$theirs/v2/" && return
    fail docker-registry "it did not come up: $(tail -n 1 "$work/theirs.log")"
    return 1
}

serve_docker() {
    dockerd --config-file "$work/daemon.json" -H "$DOCKER_HOST" >"$work/dockerd.log" 2>&1 &
    until_true 60 docker version && return
    fail docker "the engine did not come up: $(tail -n 1 "$work/dockerd.log")"
    return 1
}

# Two layers: a system; then a file replaced, one removed, a directory replaced, hard links, a pipe, attributes.
make_images() {
    local one=$work/one two=$work/two
    mkdir -p "$one"/{bin,etc/old,tmp,gone} "$two"/etc/old "$two/data/deep"
    cp /usr/bin/busybox "$one/bin/"
    for applet in sh true cat ls; do ln -s busybox "$one/bin/$applet"; done
    ln "$one/bin/busybox" "$one/bin/hard"
    chmod 1777 "$one/tmp"; chmod 4755 "$one/bin/hard"
    echo first >"$one/etc/file"; echo old >"$one/etc/old/a"; echo x >"$one/gone/x"
    head -c 3000000 /usr/bin/docker >"$one/etc/large"
    echo second >"$two/etc/file"; echo new >"$two/etc/old/b"
    ln "$two/etc/file" "$two/data/link"; mkfifo "$two/data/pipe"; : >"$two/data/empty"
    printf 'ü' >"$two/data/deep/ümlaut"; touch "$two/data/"$'\xff\xfe'
    touch -d '2001-02-03 04:05:06.789' "$two/data/empty"; chown 12345:54321 "$two/data/empty"
    : >"$two/.wh.gone"; : >"$two/etc/old/.wh..wh..opq"
    tar -C "$one" --numeric-owner --sort=name -cf "$work/one.tar" .
    tar -C "$two" --numeric-owner --sort=name --format=pax -cf "$work/two.tar" .
    python3 "$(dirname "$0")/make-image.py" "$work/oci" two "$work/one.tar" "$work/two.tar"
    python3 "$(dirname "$0")/make-image.py" "$work/oci" many --many 200
    mkdir -p "$work/context"
    cp "$work/one.tar" "$work/context/"
    printf 'FROM scratch\nADD one.tar /\nCOPY one.tar /data/\nENV A=b\nCMD ["/bin/sh"]\n' >"$work/context/Dockerfile"
}

# What a registry says the digest of a manifest is: served REGISTRY/NAME:TAG [CURL OPTION...]
served() {
    local registry=${1%%/*} name=${1#*/}
    shift
    curl -sSI "$@" -H 'Accept: application/vnd.oci.image.index.v1+json' -H 'Accept: application/vnd.oci.image.manifest.v1+json' \
        -H 'Accept: application/vnd.docker.distribution.manifest.v2+json' \
        -H 'Accept: application/vnd.docker.distribution.manifest.list.v2+json' \
        "http://$registry/v2/${name%%:*}/manifests/${name#*:}" | tr -d '\r' | sed -n 's/^docker-content-digest: //Ip'
}

sha256() { sha256sum | sed 's/\([0-9a-f]*\).*/sha256:\1/'; }
raw() { skopeo inspect --raw "$1" | sha256; }
layout_digest() { jq -r --arg name "$2" '.manifests[] | select(.annotations["org.opencontainers.image.ref.name"] == $name) | .digest' "$1/index.json"; }
our_id() { gantry inspect "$1" | jq -r '.[0].Id'; }
docker_id() { docker inspect -f '{{.Id}}' "$1"; }
podman_id() { echo "sha256:$(podman inspect -f '{{.Id}}' "$1")"; }

# Everything that can be seen of a tree, one entry a line, but for times of directories, which tools set or do not.
listing() {
    (cd "$1" && find . -mindepth 1 \( -path ./dev -o -path ./proc -o -path ./sys \) -prune -o -printf '%P|%y|%m|%U:%G|%l|%n|' \
        \( -type f -printf '%s|%T@|' -exec sha256sum {} + -o -printf '\n' \)) | tr '\n' ' ' | sed 's/  */ /g' | sha256
}

# How we unpack an image, by listing: exported NAME
exported() {
    local to
    to=$(mktemp -d -p "$work")
    gantry export "$1" | tar -C "$to" -xp --numeric-owner --xattrs --xattrs-include='*' && listing "$to"
}

# returned CLIENT IMAGE WHAT: we pull an image that a client pushed to ours, push it elsewhere as it is, and the client
# pulls that. The digest stays the same all the way, and the id of what the client has is that of what we have.
returned() {
    local client=$1 image=$2 what=$3 back digest id
    back=$ours/back/$client-$((++count)):1
    digest=$(served "$image")
    rm -rf "$work/store"
    check "we pull and push $what, to the same digest" "$digest" bash -c "
        gantry pull $image >/dev/null && gantry tag $image $back && gantry push $back >/dev/null && skopeo inspect --raw docker://$back | sha256sum | sed 's/ .*//; s/^/sha256:/'"
    id=$(our_id "$back")
    case $client in
    skopeo) check "skopeo pulls $what that we pushed" "$digest" bash -c \
        "skopeo copy -q --preserve-digests docker://$back dir:$work/back-$count && sha256sum <$work/back-$count/manifest.json | sed 's/ .*//; s/^/sha256:/'" ;;
    docker)
        docker rmi -f "$image" >/dev/null 2>&1
        check "docker pulls $what that we pushed" "$id" bash -c "docker pull -q $back >/dev/null && docker inspect -f '{{.Id}}' $back"
        docker rmi -f "$back" >/dev/null 2>&1 ;;
    *)
        "$client" rmi -fa >/dev/null 2>&1
        check "$client pulls $what that we pushed" "${id#sha256:}" "$client" pull -q "$back" ;;
    esac
}
count=0

# Clients with our registry.

skopeo_checks() {
    local digest
    digest=$(layout_digest "$work/oci" two)
    check "skopeo pushes to ours" "$digest" bash -c \
        "skopeo copy -q --preserve-digests oci:$work/oci:two docker://$ours/skopeo/two:1 && skopeo inspect --format '{{.Digest}}' docker://$ours/skopeo/two:1"
    check "our registry names the digest" "$digest" served "$ours/skopeo/two:1"
    check "skopeo pulls from ours" "$digest" bash -c \
        "skopeo copy -q --preserve-digests docker://$ours/skopeo/two@$digest oci:$work/skopeo-pulled:two && jq -r '.manifests[0].digest' $work/skopeo-pulled/index.json"
    check "skopeo lists tags" 1 bash -c "skopeo list-tags docker://$ours/skopeo/two | jq -r '.Tags[]'"
    check "skopeo copies between repositories" "$digest" bash -c \
        "skopeo copy -q --preserve-digests docker://$ours/skopeo/two:1 docker://$ours/skopeo/other:1 && skopeo inspect --format '{{.Digest}}' docker://$ours/skopeo/other:1"
    check "skopeo pushes zstd to ours" application/vnd.oci.image.layer.v1.tar+zstd bash -c \
        "skopeo copy -q --dest-decompress oci:$work/oci:two dir:$work/plain && skopeo copy -q --dest-compress --dest-compress-format zstd dir:$work/plain oci:$work/zstd:x && skopeo copy -q --preserve-digests oci:$work/zstd:x docker://$ours/skopeo/zstd:1 && skopeo inspect --raw docker://$ours/skopeo/zstd:1 | jq -r '.layers[0].mediaType'"
    check "skopeo pushes Docker's media types to ours" application/vnd.docker.distribution.manifest.v2+json bash -c \
        "skopeo copy -q --format v2s2 oci:$work/oci:two docker://$ours/skopeo/v2s2:1 && skopeo inspect --raw docker://$ours/skopeo/v2s2:1 | jq -r .mediaType"
    returned skopeo "$ours/skopeo/v2s2:1" "Docker's media types of skopeo"
    check "skopeo deletes" "" skopeo delete "docker://$ours/skopeo/other:1"
}

docker_checks() {
    docker build -q -t "$ours/docker/two:1" "$work/context" >/dev/null 2>"$work/errors" ||
        { fail "docker build" "$(tail -n 1 "$work/errors")"; return; }
    local id digest
    id=$(docker_id "$ours/docker/two:1")
    check "docker pushes to ours" 0 bash -c "docker push -q $ours/docker/two:1 >/dev/null; echo \$?"
    digest=$(served "$ours/docker/two:1")
    check "docker has the digest of ours" "$ours/docker/two@$digest" docker inspect -f '{{index .RepoDigests 0}}' "$ours/docker/two:1"
    docker rmi -f "$ours/docker/two:1" >/dev/null 2>&1
    check "docker pulls from ours, by digest" "$ours/docker/two@$digest" docker pull -q "$ours/docker/two@$digest"
    check "docker pulls from ours, the same image" "$id" docker_id "$ours/docker/two@$digest"
    returned docker "$ours/docker/two:1" "the image of docker"
    check "we pull what docker pushed" "$id" bash -c "gantry pull $ours/docker/two:1 >/dev/null && gantry inspect $ours/docker/two:1 | jq -r '.[0].Id'"
}

# podman_checks CLIENT: podman, or buildah, which has the same commands for this.
podman_checks() {
    local client=$1 digest
    local image=$ours/$client/two:1
    "$client" pull -q "oci:$work/oci:two" >"$work/id" 2>"$work/errors" || { fail "$client" "$(tail -n 1 "$work/errors")"; return; }
    local id
    id=$(<"$work/id")
    check "$client pushes to ours" 0 bash -c "$client push -q --digestfile '$work/digest' $id docker://$image >/dev/null; echo \$?"
    digest=$(<"$work/digest")
    check "$client has the digest of ours" "$digest" served "$image"
    "$client" rmi -f "$id" >/dev/null 2>&1
    check "$client pulls from ours" "$id" "$client" pull -q "$ours/$client/two@$digest"
    check "$client pushes zstd to ours" 0 bash -c "$client push -q --compression-format zstd --force-compression $id docker://$ours/$client/zstd:1 >/dev/null; echo \$?"
    check "$client pushes zstd:chunked to ours" 0 bash -c "$client push -q --compression-format zstd:chunked --force-compression $id docker://$ours/$client/chunked:1 >/dev/null; echo \$?"
    # Each time in an empty store: a layer that is there is not pulled again, however it is compressed.
    local kind plain
    returned "$client" "$image" "the image of $client"
    "$client" pull -q "oci:$work/oci:two" >"$work/id" 2>/dev/null
    check "$client pushes Docker's media types to ours" application/vnd.docker.distribution.manifest.v2+json bash -c \
        "$client push -q --format v2s2 $(<"$work/id") docker://$ours/$client/v2s2:1 >/dev/null && skopeo inspect --raw docker://$ours/$client/v2s2:1 | jq -r .mediaType"
    returned "$client" "$ours/$client/v2s2:1" "Docker's media types of $client"
    rm -rf "$work/store"
    plain=$(gantry pull "$image" >/dev/null 2>"$work/errors" && exported "$image")
    [[ -n $plain ]] || { fail "we pull what $client pushed" "$(tail -n 1 "$work/errors")"; return; }
    for kind in zstd chunked; do
        rm -rf "$work/store"
        check "we pull the $kind layers of $client" 0 bash -c "gantry pull $ours/$client/$kind:1 >/dev/null; echo \$?"
        check "we unpack the $kind layers of $client" "$plain" exported "$ours/$client/$kind:1"
    done
}

# Our client with registries of others, and its trees beside those of others.

our_client_checks() {
    local digest
    rm -rf "$work/store"
    digest=$(layout_digest "$work/oci" two)
    skopeo copy -q --preserve-digests "oci:$work/oci:two" "docker://$theirs/two:1" 2>"$work/errors" ||
        { fail "skopeo to docker-registry" "$(tail -n 1 "$work/errors")"; return; }
    check "we pull from docker-registry" 0 bash -c "gantry pull $theirs/two:1 >/dev/null; echo \$?"
    check "the id is the configuration's digest" "$(skopeo inspect --config --raw "docker://$theirs/two:1" | sha256)" our_id "$theirs/two:1"
    check "we tag and push to docker-registry" 0 bash -c "
        gantry tag $theirs/two:1 $theirs/again:2 && gantry push $theirs/again:2 >/dev/null; echo \$?"
    check "docker-registry has the same digest" "$digest" served "$theirs/again:2"
    check "we tag and push to ours" "$digest" bash -c "
        gantry tag $theirs/two:1 $ours/again:2 && gantry push $ours/again:2 >/dev/null && skopeo inspect --format '{{.Digest}}' docker://$ours/again:2"
    check "we pull by digest" 0 bash -c "gantry pull $theirs/two@$digest >/dev/null; echo \$?"
    check "registry ls" again bash -c "gantry registry ls $theirs | grep -x again"
    check "registry tags" 2 gantry registry tags "$theirs/again"
    umoci unpack --image "$work/oci:two" "$work/umoci" >/dev/null 2>&1
    check "our tree is that of umoci" "$(listing "$work/umoci/rootfs")" exported "$theirs/two:1"

    skopeo copy -q --preserve-digests "oci:$work/oci:many" "docker://$ours/many:1"
    check "we pull 200 layers" 0 bash -c "gantry pull $ours/many:1 >/dev/null; echo \$?"
    check "we unpack 200 layers" 200 bash -c "gantry export $ours/many:1 | tar -t | grep -c 'layers/[0-9]'"
    check "the top layer covers the lowest" 199 bash -c "gantry export $ours/many:1 | tar -xO --wildcards '*top'"

    python3 "$(dirname "$0")/make-image.py" "$work/oci" multi --platforms "$work/one.tar" linux/amd64 linux/arm64 linux/arm/v7
    digest=$(layout_digest "$work/oci" multi)
    check "skopeo pushes an index to ours" "$digest" bash -c \
        "skopeo copy -q --all --preserve-digests oci:$work/oci:multi docker://$ours/multi:1 && skopeo inspect --raw docker://$ours/multi:1 | sha256sum | sed 's/ .*//; s/^/sha256:/'"
    check "we pull and push an index whole" "$digest" bash -c "
        gantry pull --all-platforms $ours/multi:1 >/dev/null && gantry tag $ours/multi:1 $theirs/multi:1 && gantry push $theirs/multi:1 >/dev/null && skopeo inspect --raw docker://$theirs/multi:1 | sha256sum | sed 's/ .*//; s/^/sha256:/'"
    gantry rmi "$ours/multi:1" "$theirs/multi:1" >/dev/null 2>&1
    check "we pull one platform of an index" arm64 bash -c "
        gantry pull --platform linux/arm64 $ours/multi:1 >/dev/null && gantry inspect $ours/multi:1 | jq -r '.[0].Architecture'"
    refuse "a platform that an index lacks is refused" riscv64 gantry pull --platform linux/riscv64 "$ours/multi:1"
    check "podman pulls our platform of an index" amd64 bash -c "podman pull -q $ours/multi:1 >/dev/null && podman inspect -f '{{.Architecture}}' $ours/multi:1"
    check "docker pulls another platform of an index" arm64 bash -c "docker pull -q --platform linux/arm64 $ours/multi:1 >/dev/null && docker inspect -f '{{.Architecture}}' $ours/multi:1"
    }

# Archives: of theirs into ours, and of ours into theirs.

# load NAME FILE ID: we load an archive, and the image in it has an id.
load() {
    local output
    check "we load the $1" 0 bash -c "fresh load -i '$2' >/dev/null; echo \$?"
    check "the $1 has its image" "$3" bash -c "fresh inspect ${3#sha256:} | jq -r '.[0].Id'"
    fresh rmi -f "${3#sha256:}" >/dev/null 2>&1
}

archive_checks() {
    local two id image=localhost/two:1
    two=$(skopeo inspect --config --raw "oci:$work/oci:two" | sha256)
    docker build -q -t "$image" "$work/context" >/dev/null 2>&1
    id=$(docker_id "$image")
    docker save -o "$work/docker.tar" "$image" && load "archive of docker save" "$work/docker.tar" "$id"
    podman pull -q "oci:$work/oci:two" >"$work/id" && podman tag "$(<"$work/id")" "$image"
    id=$(podman_id "$image")
    podman save -q --format docker-archive -o "$work/podman.tar" "$image" && load "docker-archive of podman" "$work/podman.tar" \
        "$(skopeo inspect --config --raw "docker-archive:$work/podman.tar" | sha256)"
    podman save -q --format oci-archive -o "$work/podman-oci.tar" "$image" && load "oci-archive of podman" "$work/podman-oci.tar" "$id"
    skopeo copy -q "oci:$work/oci:two" "docker-archive:$work/skopeo.tar:$image" && load "docker-archive of skopeo" "$work/skopeo.tar" \
        "$(skopeo inspect --config --raw "docker-archive:$work/skopeo.tar" | sha256)"
    skopeo copy -q "oci:$work/oci:two" "oci-archive:$work/skopeo-oci.tar:$image" && load "oci-archive of skopeo" "$work/skopeo-oci.tar" "$two"
    buildah push -q "$(<"$work/id")" "oci-archive:$work/buildah.tar:$image" && load "oci-archive of buildah" "$work/buildah.tar" "$two"
    buildah push -q "$(<"$work/id")" "docker-archive:$work/buildah-docker.tar:$image" && load "docker-archive of buildah" "$work/buildah-docker.tar" \
        "$(skopeo inspect --config --raw "docker-archive:$work/buildah-docker.tar" | sha256)"
    tar -C "$work/skopeo-pulled" -cf "$work/layout.tar" . && load "tar of a layout" "$work/layout.tar" "$two"

    image=$theirs/two:1
    gantry save -o "$work/ours.tar" --format docker-archive "$image" || fail "gantry save" "a docker-archive"
    gantry save -o "$work/ours-oci.tar" --format oci-archive "$image" || fail "gantry save" "an oci-archive"
    docker rmi -f "$image" >/dev/null 2>&1
    check "docker loads our archive" "$two" bash -c "docker load -q -i '$work/ours.tar' >/dev/null && docker inspect -f '{{.Id}}' $image"
    podman rmi -fa >/dev/null 2>&1
    check "podman loads our docker-archive" 0 bash -c "podman load -q -i '$work/ours.tar' >/dev/null; echo \$?"
    podman rmi -fa >/dev/null 2>&1
    check "podman loads our oci-archive" "${two#sha256:}" bash -c "podman load -q -i '$work/ours-oci.tar' >/dev/null && podman inspect -f '{{.Id}}' $image"
    check "skopeo reads our docker-archive" "$two" bash -c "skopeo inspect --config --raw docker-archive:'$work/ours.tar' | sha256sum | sed 's/ .*//; s/^/sha256:/'"
    check "skopeo reads our oci-archive" "$(layout_digest "$work/oci" two)" bash -c "skopeo inspect --raw oci-archive:'$work/ours-oci.tar' | sha256sum | sed 's/ .*//; s/^/sha256:/'"
    podman rmi -fa >/dev/null 2>&1
    check "buildah pulls our oci-archive" "${two#sha256:}" bash -c "buildah pull -q oci-archive:'$work/ours-oci.tar'"
    podman rmi -fa >/dev/null 2>&1
    check "buildah pulls our docker-archive" "${two#sha256:}" bash -c "buildah pull -q docker-archive:'$work/ours.tar'"

    # A tree alone, without an image around it.
    check "we import a tree" 0 bash -c "gantry import '$work/one.tar' $ours/imported:1 >/dev/null; echo \$?"
    mkdir "$work/plain-one" && tar -C "$work/plain-one" -xpf "$work/one.tar"
    check "an imported tree is exported again" "$(listing "$work/plain-one")" exported "$ours/imported:1"
    check "docker imports our export" 0 bash -c "gantry export $theirs/two:1 | docker import - exported >/dev/null; echo \$?"
}

# Passwords, and certificates of an authority that only this test knows.

password=correct-horse
auth_checks() {
    local login
    htpasswd -Bbc "$work/htpasswd" someone "$password" 2>/dev/null
    serve "$guarded" guarded --htpasswd "$work/htpasswd" || return
    refuse "anonymous push is refused" "unauthorized\|authentication required" skopeo copy -q "oci:$work/oci:two" "docker://$guarded/two:1"
    for login in docker podman skopeo gantry; do
        refuse "$login login with a wrong password" "unauthorized\|invalid\|denied\|wrong" bash -c "echo wrong | $login login -u someone --password-stdin $guarded"
        check "$login login" 0 bash -c "echo $password | $login login -u someone --password-stdin $guarded >/dev/null; echo \$?"
        case $login in
        docker) docker tag localhost/two:1 "$guarded/docker:1" && check "docker pushes with its login" 0 bash -c "docker push -q $guarded/docker:1 >/dev/null; echo \$?" ;;
        podman) podman pull -q "oci:$work/oci:two" >"$work/id" && check "podman pushes with its login" 0 bash -c "podman push -q \$(<$work/id) $guarded/podman:1 >/dev/null; echo \$?" ;;
        skopeo) check "skopeo pushes with its login" 0 bash -c "skopeo copy -q oci:$work/oci:two docker://$guarded/skopeo:1; echo \$?" ;;
        gantry) check "we push with our login" 0 bash -c "gantry tag $theirs/two:1 $guarded/ours:1 && gantry push $guarded/ours:1 >/dev/null; echo \$?" ;;
        esac
        check "$login logout" 0 bash -c "$login logout $guarded >/dev/null; echo \$?"
    done
    refuse "after the logout we are refused" "unauthorized\|denied\|login" gantry pull "$guarded/ours:1"
}

tls_checks() {
    local subject login
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$work/ca.key" -out "$work/ca.pem" \
        -days 2 -subj /CN=test-authority -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign 2>/dev/null
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$work/tls.key" -out "$work/tls.csr" \
        -subj /CN=test 2>/dev/null
    subject="subjectAltName=IP:${private%:*}
extendedKeyUsage=serverAuth"
    openssl x509 -req -in "$work/tls.csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" -CAcreateserial -days 2 \
        -extfile <(echo "$subject") -out "$work/tls.pem" 2>/dev/null
    ip address add "${private%:*}/32" dev lo
    serve "$private" private --htpasswd "$work/htpasswd" --tls-cert "$work/tls.pem" --tls-key "$work/tls.key" || return
    refuse "skopeo does not trust it without its authority" certificate skopeo inspect "docker://$private/two:1"
    refuse "we do not trust it without its authority" "certificate\|unknown" gantry pull "$private/two:1"
    # Where all of them look for authorities.
    mkdir -p /etc/docker
    mount -t tmpfs tmpfs /etc/docker
    mkdir -p "/etc/docker/certs.d/$private" && cp "$work/ca.pem" "/etc/docker/certs.d/$private/ca.crt"
    printf '[registry."%s"]\nca = ["%s"]\n' "$private" "$work/ca.pem" >"$work/gantry.toml"
    export GANTRY_CONFIG=$work/gantry.toml
    for login in docker podman gantry; do
        check "$login login over TLS" 0 bash -c "echo $password | $login login -u someone --password-stdin $private >/dev/null; echo \$?"
    done
    check "skopeo pushes over TLS" 0 bash -c "skopeo copy -q --preserve-digests oci:$work/oci:two docker://$private/two:1; echo \$?"
    check "podman pulls over TLS" 0 bash -c "podman pull -q $private/two:1 >/dev/null; echo \$?"
    docker tag localhost/two:1 "$private/docker:1"
    check "docker pushes over TLS" 0 bash -c "docker push -q $private/docker:1 >/dev/null; echo \$?"
    check "we pull over TLS" 0 bash -c "gantry pull $private/two:1 >/dev/null; echo \$?"
    check "we push over TLS" 0 bash -c "gantry tag $private/two:1 $private/ours:1 && gantry push $private/ours:1 >/dev/null; echo \$?"
}

# The same by our daemon, whose client has to hand on all that it was told.
daemon_checks() {
    local digest host=unix://$work/gantry.sock
    "$program" --root "$work/daemon" daemon --socket "$work/gantry.sock" --run-dir "$work/daemon-run" \
        --cgroup-parent gantry-images-daemon --network-prefix gid >"$work/daemon.log" 2>&1 &
    until_true 30 "$program" -H "$host" version || { fail "our daemon" "$(tail -n 1 "$work/daemon.log")"; return; }
    by() { "$program" -H "$host" "$@"; }
    export -f by
    export host
    digest=$(served "$ours/again:2")
    check "by the daemon: we pull and push, to the same digest" "$digest" bash -c "
        by pull $ours/again:2 >/dev/null && by tag $ours/again:2 $ours/daemon:1 && by push $ours/daemon:1 >/dev/null && skopeo inspect --format '{{.Digest}}' docker://$ours/daemon:1"
    check "by the daemon: we push zstd" application/vnd.oci.image.layer.v1.tar+zstd bash -c "
        by tag $ours/again:2 $ours/daemon:zstd && by push --compression zstd --compression-level 5 $ours/daemon:zstd >/dev/null && skopeo inspect --raw docker://$ours/daemon:zstd | jq -r '.layers[0].mediaType'"
    check "by the daemon: we save an oci-archive" "$digest" bash -c "
        by save --format oci-archive -o '$work/by-oci.tar' $ours/again:2 && skopeo inspect --raw oci-archive:'$work/by-oci.tar' | sha256sum | sed 's/ .*//; s/^/sha256:/'"
    check "by the daemon: we save a docker-archive" 0 bash -c "
        by save $ours/again:2 >'$work/by.tar' && skopeo inspect --config --raw docker-archive:'$work/by.tar' >/dev/null; echo \$?"
    check "by the daemon: pull tells in JSON" 0 bash -c "by pull --json $ours/again:2 | jq -es 'length > 1' >/dev/null; echo \$?"
    check "by the daemon: a dry run tells what would go" 1 bash -c "by image prune -a --dry-run | grep -c 'untagged: $ours/again:2'"
    check "by the daemon: and nothing goes" 0 bash -c "by inspect $ours/again:2 >/dev/null; echo \$?"
    check "by the daemon: prune" 0 bash -c "by image prune -af >/dev/null && by images -q | wc -l"
    check "by the daemon: import, export and remove" 0 bash -c "
        by import --json '$work/one.tar' daemon:1 | jq -e .id >/dev/null && by export daemon:1 | tar -t >/dev/null && by rmi daemon:1 >/dev/null; echo \$?"
    refuse "by the daemon: an image that is not there" "No such image" by rmi nothing:1
}

settings
make_images
serve "$ours" ours && serve_theirs && serve_docker && {
    skopeo_checks
    docker_checks
    podman_checks podman
    podman_checks buildah
    our_client_checks
    archive_checks
    daemon_checks
    auth_checks
    tls_checks
}
conclude
