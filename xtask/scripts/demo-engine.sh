# nginx from Debian's own packages, as people run it: demo-engine PROGRAM RUNTIME DIRECTORY
#
# DIRECTORY has the image's archive, nginx.tar. The daemon, and all that it makes, is gone when this ends.
set -euo pipefail
program=$1 runtime=$2 directory=$3
work=$(mktemp -d)
bold='' dim='' plain=''
[[ -t 1 && -z ${NO_COLOR:-} ]] && bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'

title() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
say() { printf '%s%s%s\n' "$dim" "$*" "$plain"; }
gantry() { "$program" --host "unix://$work/gantry.sock" "$@"; }
# Shows a command, and runs it.
run() {
    printf '%s$ gantry %s%s\n' "$bold" "$*" "$plain"
    gantry "$@"
}
milliseconds() { echo $(((${EPOCHREALTIME/./} - $1) / 1000)); }
# A page, by the shell alone: page PORT
page() {
    exec 3<>"/dev/tcp/127.0.0.1/$1"
    printf 'GET / HTTP/1.0\r\nHost: demo\r\n\r\n' >&3
    cat <&3
    exec 3>&-
}
finish() {
    local left
    if [[ -n ${daemon:-} ]]; then
        for id in $(gantry ps -aq 2>/dev/null || true); do gantry rm -fv "$id" >/dev/null 2>&1 || true; done
        kill "$daemon" 2>/dev/null || true
        wait "$daemon" 2>/dev/null || true
    fi
    ip link delete "${prefix}0" 2>/dev/null || true
    left=$(awk -v at="$work/" 'index($5, at) == 1 { print $5 }' /proc/self/mountinfo | sort -r)
    for at in $left; do umount -l "$at" 2>/dev/null || true; done
    find /sys/fs/cgroup -depth -path "*/gantry-demo-$$*" -type d -exec rmdir {} + 2>/dev/null || true
    if [[ -n ${failed:-} ]]; then cat "$work/log" >&2; fi
    rm -rf "$work"
}
prefix=gd$((RANDOM % 900 + 100))
failed=yes
trap finish EXIT

title "The daemon"
began=${EPOCHREALTIME/./}
"$program" --root "$work/root" daemon --socket "$work/gantry.sock" --run-dir "$work/run" --runtime "$runtime" \
    --network-prefix "$prefix" --cgroup-parent "gantry-demo-$$" >"$work/log" 2>&1 </dev/null &
daemon=$!
for _ in $(seq 200); do
    [[ -S $work/gantry.sock ]] && gantry version >/dev/null 2>&1 && break
    sleep 0.02
done
say "answers after $(milliseconds "$began") ms"

title "The image"
run import --change 'CMD ["nginx","-g","daemon off;"]' --change 'EXPOSE 80' --change 'STOPSIGNAL SIGQUIT' "$directory/nginx.tar" nginx
run images

title "nginx on a published port, with a volume"
began=${EPOCHREALTIME/./}
run run -d --name web -p 127.0.0.1::80 -v pages:/var/www/html -m 256m --pids-limit 64 nginx
say "started in $(milliseconds "$began") ms"
port=$(gantry port web 80 | sed 's/.*://')
for _ in $(seq 100); do
    page "$port" >"$work/page" 2>/dev/null && break
    sleep 0.05
done
head -n 1 "$work/page"
grep -q '200 OK' "$work/page"
say "answered at port $port after $(milliseconds "$began") ms"
run ps

title "A look inside"
run exec web sh -c 'echo "<h1>Hello from a volume</h1>" >/var/www/html/index.html; cat /etc/debian_version; nginx -v'
page "$port" | tail -n 1
run exec web sh -c 'tail -n 2 /var/log/nginx/access.log'
run stats --no-stream web
run top web

title "The daemon is killed; nginx does not notice"
kill -9 "$daemon"
wait "$daemon" 2>/dev/null || true
page "$port" | tail -n 1
"$program" --root "$work/root" daemon --socket "$work/gantry.sock" --run-dir "$work/run" --runtime "$runtime" \
    --network-prefix "$prefix" --cgroup-parent "gantry-demo-$$" >>"$work/log" 2>&1 </dev/null &
daemon=$!
for _ in $(seq 200); do
    gantry version >/dev/null 2>&1 && break
    sleep 0.02
done
run ps

title "Logs"
run run --name talker nginx sh -c 'echo to standard output; echo to standard error >&2'
run logs -t talker

title "The container goes, the volume stays"
run stop web
run rm web talker
run run --rm -v pages:/there:ro nginx cat /there/index.html
run volume ls

title "Gone without a trace"
run volume rm pages
run rmi nginx
kill "$daemon"
wait "$daemon" 2>/dev/null || true
daemon=''
left=$(find /sys/fs/cgroup -path "*/gantry-demo-$$*" -type d 2>/dev/null | wc -l)
say "cgroups left: $left, mounts left: $(grep -c "$work/run/" /proc/self/mountinfo || true)"
failed=''
