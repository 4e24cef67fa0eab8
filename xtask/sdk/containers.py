"""Steps with containers: their whole life, what they are made of, what is listed, and what is refused."""

import io
import tarfile
import time

import docker
from docker.types import Healthcheck, LogConfig, Mount, Ulimit

from record import refused, shape, step, until


@step
def run_output(s):
    return s.client.containers.run("busy:1", "echo hello", remove=True)


@step
def run_output_both(s):
    # What is written at once to both has no order in the real engine.
    command = ["sh", "-c", "echo out; sleep 0.3; echo err >&2"]
    return s.client.containers.run("busy:1", command, remove=True, stdout=True, stderr=True).splitlines()


@step
def run_stderr_alone(s):
    return s.client.containers.run("busy:1", ["sh", "-c", "echo out; echo err >&2"], remove=True, stdout=False, stderr=True)


@step
def run_stream(s):
    return list(s.client.containers.run("busy:1", ["sh", "-c", "echo a; echo b"], remove=False, stream=True, name="streamed"))


@step
def run_fails(s):
    return refused(s.client.containers.run, "busy:1", ["sh", "-c", "echo bad >&2; exit 7"], remove=True)


@step
def run_no_such_image(s):
    answer = refused(s.client.containers.create, "nowhere:1")
    return answer


@step
def run_no_such_command(s):
    return refused(s.client.containers.run, "busy:1", "/no/such", remove=True, name="nocommand")["status"]


@step
def run_not_executable(s):
    return refused(s.client.containers.run, "busy:1", "/etc/passwd", remove=True, name="noexec")["status"]


@step
def run_detached(s):
    box = s.run(name="box", environment={"A": "1"}, hostname="boxhost", labels={"session": "sdk", "tier": "front"})
    return [box.name, box.status, len(box.id), len(box.short_id), s.client.containers.get("box").status]


@step
def container_shape(s):
    return shape(s.low.inspect_container("box"))


@step
def container_state(s):
    state = s.low.inspect_container("box")["State"]
    return {key: value for key, value in state.items() if key not in ("Pid",)}


@step
def container_attributes(s):
    box = s.client.containers.get("box")
    found = box.attrs
    return [found["Name"], found["Path"], found["Args"], found["Driver"], found["Platform"], found["RestartCount"], box.labels]


@step
def container_image(s):
    return s.client.containers.get("box").image.tags


@step
def container_config(s):
    return s.low.inspect_container("box")["Config"]


@step
def container_host_config_default(s):
    return s.low.inspect_container("box")["HostConfig"]


@step
def container_network_settings(s):
    found = s.low.inspect_container("box")["NetworkSettings"]
    return {key: value for key, value in found.items() if key not in ("SandboxKey", "SandboxID")}


@step
def container_size(s):
    found = s.low.get(s.low._url("/containers/{0}/json", "box"), params={"size": 1}).json()
    return [type(found["SizeRw"]).__name__, found["SizeRootFs"] > 0]


@step
def container_by_prefix(s):
    box = s.client.containers.get("box")
    return s.client.containers.get(box.id[:10]).name


@step
def container_missing(s):
    return refused(s.client.containers.get, "nobody")


@step
def name_taken(s):
    return refused(s.client.containers.create, "busy:1", name="box")


@step
def name_bad(s):
    return refused(s.client.containers.create, "busy:1", name="bad/name")


@step
def many_options(s):
    made = s.client.containers.create(
        "busy:1", ["sleep", "1"], name="many", user="user", working_dir="/tmp", entrypoint=["/bin/sh", "-c"],
        environment=["B=2", "C=3"], mem_limit="64m", memswap_limit="64m", mem_reservation="32m", cpu_shares=512,
        cpu_quota=50000, cpu_period=100000, pids_limit=50, cap_add=["NET_ADMIN"], cap_drop=["MKNOD"], dns=["9.9.9.9"],
        dns_search=["example.com"], dns_opt=["ndots:2"], extra_hosts={"there": "10.0.0.9"},
        ulimits=[Ulimit(name="nofile", soft=100, hard=200)], sysctls={"net.ipv4.ip_unprivileged_port_start": "0"},
        tmpfs={"/scratch": "size=1m"}, read_only=True, restart_policy={"Name": "on-failure", "MaximumRetryCount": 3},
        log_config=LogConfig(type="json-file", config={"max-size": "1m"}), shm_size="16m", stop_signal="SIGUSR1",
        init=True, oom_score_adj=100, ipc_mode="private", pid_mode="host", security_opt=["no-new-privileges"],
        group_add=["100"], ports={"80/tcp": ("127.0.0.1", 0), "53/udp": None}, volumes={"data": {"bind": "/data", "mode": "rw"}},
        healthcheck=Healthcheck(test=["CMD", "true"], interval=1_000_000_000, retries=2), tty=True, stdin_open=True,
        devices=["/dev/null:/dev/nothing:rw"], domainname="example.com", mac_address=None,
    )
    made.reload()
    return made.attrs["HostConfig"]


@step
def many_options_config(s):
    return s.low.inspect_container("many")["Config"]


@step
def many_options_mounts(s):
    found = s.low.inspect_container("many")["Mounts"]
    for one in found:
        one.pop("Source")
    s.client.containers.get("many").remove(v=True)
    s.client.volumes.get("data").remove()
    return found


@step
def options_take_effect(s):
    command = (
        "id -u; pwd; echo $B; busybox grep 'open files' /proc/self/limits; busybox grep ^options /etc/resolv.conf;"
        "busybox grep there /etc/hosts; ls /dev/nothing; exec 2>&1; busybox touch /x"
    )
    made = s.run(
        "sh", "-c", command, user="user", working_dir="/tmp", environment=["B=2"], dns=["9.9.9.9"], dns_opt=["ndots:2"],
        extra_hosts={"there": "10.0.0.9"}, ulimits=[Ulimit(name="nofile", soft=100, hard=200)], read_only=True,
        devices=["/dev/null:/dev/nothing:rw"],
    )
    status = made.wait()
    output = made.logs()
    made.remove()
    return [status, output.splitlines()]


@step
def bad_options(s):
    calls = [
        dict(mem_limit="1k"), dict(ports={"80/tcp": 99999}), dict(network_mode="container:nobody"), dict(cap_add=["NOSUCH"]),
        dict(restart_policy={"Name": "sometimes"}), dict(runtime="nosuch"),
        dict(volumes={"relative/path": {"bind": "/x"}}), dict(volumes={"vol": {"bind": "relative"}}), dict(shm_size=-5),
        dict(network="nosuchnet"), dict(working_dir="relative"), dict(sysctls={"kernel.nosuch": "1"}), dict(pid_mode="bad:x"),
    ]
    answers = {}
    for number, options in enumerate(calls):
        try:
            made = s.client.containers.create("busy:1", "true", **options)
        except docker.errors.APIError as problem:
            answers[f"{number} {sorted(options)[0]}"] = problem.status_code
            continue
        answers[f"{number} {sorted(options)[0]}"] = ["created", refused(made.start).get("status")]
        made.remove(force=True)
    return answers


@step
def start_running(s):
    # An engine answers 304, which is no error.
    s.client.containers.get("box").start()
    return s.client.containers.get("box").status


@step
def pause(s):
    box = s.client.containers.get("box")
    box.pause()
    box.reload()
    paused = box.status
    again = refused(box.pause)
    box.unpause()
    box.reload()
    return [paused, again, box.status, refused(box.unpause)]


@step
def rename(s):
    box = s.client.containers.get("box")
    box.rename("crate")
    box.reload()
    new = box.name
    taken = refused(box.rename, "streamed")
    box.rename("box")
    return [new, taken, refused(s.client.containers.get, "crate")["error"]]


@step
def update(s):
    box = s.client.containers.get("box")
    answer = box.update(mem_limit="100m", memswap_limit="200m", cpu_shares=300, restart_policy={"Name": "no"})
    box.reload()
    found = box.attrs["HostConfig"]
    return [answer, found["Memory"], found["MemorySwap"], found["CpuShares"]]


@step
def update_missing(s):
    return refused(s.low.update_container, "nobody", mem_limit="100m")


@step
def top(s):
    found = s.client.containers.get("box").top()
    return [found["Titles"], [row[-1] for row in found["Processes"]]]


@step
def top_with_options(s):
    found = s.client.containers.get("box").top(ps_args="-o pid,comm")
    return [found["Titles"], [row[1:] for row in found["Processes"]]]


@step
def stats_once(s):
    found = s.client.containers.get("box").stats(stream=False)
    return [found["name"], found["memory_stats"]["usage"] > 0, found["cpu_stats"]["cpu_usage"]["total_usage"] > 0, "eth0" in found["networks"]]


@step
def stats_shape(s):
    found = s.client.containers.get("box").stats(stream=False)
    found["memory_stats"].pop("stats", None)
    return shape(found)


@step
def stats_stream(s):
    seen = []
    for sample in s.client.containers.get("box").stats(stream=True, decode=True):
        seen.append([sample["name"], sample["precpu_stats"]["cpu_usage"]["total_usage"] > 0])
        if len(seen) == 2:
            return seen
    return seen


@step
def stats_one_shot(s):
    found = s.low.stats("box", stream=False, one_shot=True)
    return found["precpu_stats"]["cpu_usage"]["total_usage"]


@step
def put_archive(s):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        entry = tarfile.TarInfo("sent/file")
        entry.size, entry.mode, entry.uid, entry.gid = 5, 0o640, 1000, 1000
        tar.addfile(entry, io.BytesIO(b"hello"))
    box = s.client.containers.get("box")
    put = box.put_archive("/srv", out.getvalue())
    return [put, box.exec_run("sh -c 'cat /srv/sent/file; ls -ln /srv/sent/file'").output.split()[:4]]


@step
def put_archive_nowhere(s):
    return refused(s.client.containers.get("box").put_archive, "/no/such/dir", b"")


@step
def get_archive(s):
    stream, stat = s.client.containers.get("box").get_archive("/srv/sent")
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
        names = [[entry.name, entry.mode, entry.uid, entry.size] for entry in tar]
    return [names, {key: value for key, value in stat.items() if key != "mtime"}]


@step
def get_archive_file(s):
    stream, stat = s.client.containers.get("box").get_archive("/etc/passwd")
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
        names = tar.getnames()
    return [names, stat["name"], stat["size"], stat["mode"], stat["linkTarget"]]


@step
def get_archive_missing(s):
    return refused(s.client.containers.get("box").get_archive, "/no/such")


@step
def diff(s):
    return sorted(([one["Kind"], one["Path"]] for one in s.client.containers.get("box").diff()), key=lambda one: one[1])


@step
def export(s):
    with tarfile.open(fileobj=io.BytesIO(b"".join(s.client.containers.get("box").export()))) as tar:
        names = tar.getnames()
    return ["srv/sent/file" in names, "bin/busybox" in names, "etc/hosts" in names, ".dockerenv" in names]


@step
def commit(s):
    box = s.client.containers.get("box")
    image = box.commit("snap", "1", message="as it is", author="somebody", changes=["CMD echo kept", "ENV NEW=1"])
    output = s.client.containers.run("snap:1", ["cat", "/srv/sent/file"], remove=True)
    found = image.attrs
    answer = [image.tags, found["Comment"], found["Author"], found["Config"]["Cmd"], found["Config"]["Env"], output]
    s.client.images.remove("snap:1")
    return answer


@step
def lists(s):
    running = [one.name for one in s.client.containers.list()]
    everything = sorted(one.name for one in s.client.containers.list(all=True))
    return [running, everything]


@step
def list_shape(s):
    return shape(s.low.containers(filters={"name": "box"}))


@step
def list_fields(s):
    found = s.low.containers(filters={"name": "^/box$"})[0]
    return [found["Names"], found["Image"], found["Command"], found["State"], found["Status"].split()[0], found["Labels"], found["HostConfig"]]


@step
def list_filters(s):
    made = s.client.containers.create("busy:1", "true", name="never", labels={"tier": "back"})
    ask = lambda **filters: sorted(one.name for one in s.client.containers.list(all=True, filters=filters))
    answers = {
        "status": [ask(status="created"), ask(status=["running", "created"]), ask(status="exited")],
        "label": [ask(label="tier"), ask(label="tier=back"), ask(label=["tier=back", "nothing"])],
        "ancestor": ask(ancestor="busy:1"), "exited": ask(exited=0), "name": ask(name="bo"), "id": ask(id=made.id),
        "before": ask(before="never"), "since": ask(since="box"), "network": ask(network="bridge"), "health": ask(health="none"),
    }
    made.remove()
    return answers


@step
def list_bad_filter(s):
    return [refused(s.client.containers.list, filters={"colour": "red"}), refused(s.client.containers.list, filters={"status": "asleep"})]


@step
def list_limit(s):
    return [[one["Names"] for one in s.low.containers(limit=1)], len(s.low.containers(latest=True)), len(s.low.containers(all=True, size=True)[0]) > 10]


@step
def stop_and_start(s):
    box = s.client.containers.get("box")
    box.stop(timeout=0)
    box.reload()
    stopped = [box.status, box.attrs["State"]["ExitCode"]]
    box.start()
    box.reload()
    return [stopped, box.status]


@step
def restart(s):
    box = s.client.containers.get("box")
    before = box.attrs["State"]["StartedAt"]
    box.restart(timeout=0)
    box.reload()
    return [box.status, box.attrs["State"]["StartedAt"] != before]


@step
def kill_with_signal(s):
    made = s.run("sh", "-c", "trap 'echo usr1; exit 3' USR1; echo ready; while true; do sleep 0.1; done")
    until(lambda: b"ready" in made.logs(), "the trap")
    made.kill(signal="SIGUSR1")
    status = made.wait()
    logs = made.logs()
    answer = [status, logs.splitlines(), refused(made.kill), refused(made.kill, signal="NOSUCH")["status"]]
    made.remove()
    return answer


@step
def wait_conditions(s):
    made = s.client.containers.create("busy:1", ["sh", "-c", "exit 5"])
    already = s.low.wait(made.id, condition="not-running")
    made.start()
    ended = made.wait()
    return [already, ended, refused(s.low.wait, made.id, condition="tomorrow"), made.remove()]


@step
def wait_times_out(s):
    return refused(s.client.containers.get("box").wait, timeout=1)


@step
def auto_remove(s):
    made = s.run("sleep", "0.3", auto_remove=True)
    try:
        made.wait(condition="removed")
    except docker.errors.NotFound:
        pass  # It was gone before the question came.
    until(lambda: refused(s.client.containers.get, made.id)["error"] == "NotFound", "its removal")
    return "gone"


@step
def restart_policy(s):
    made = s.run("false", restart_policy={"Name": "on-failure", "MaximumRetryCount": 1})
    until(lambda: made.reload() or (made.attrs["RestartCount"] == 1 and made.status == "exited"), "one more try")
    answer = [made.attrs["RestartCount"], made.attrs["State"]["ExitCode"]]
    made.remove()
    return answer


@step
def health(s):
    check = Healthcheck(test=["CMD-SHELL", "cat /tmp/ok"], interval=200_000_000, retries=2)
    made = s.run(healthcheck=check)
    until(lambda: made.reload() or made.health == "unhealthy", "no file, so unhealthy")
    sick = made.attrs["State"]["Health"]
    made.exec_run("sh -c 'echo fine >/tmp/ok'")
    until(lambda: made.reload() or made.health == "healthy", "a file, so healthy")
    last = made.attrs["State"]["Health"]["Log"][-1]
    answer = [sick["FailingStreak"] >= 2, shape(sick), last["ExitCode"], last["Output"]]
    made.remove(force=True)
    return answer


@step
def mounts(s):
    made = s.run(
        "sh", "-c", "echo kept >/data/file; ls /host; touch /host/x; touch /tmpfs/y && echo written",
        mounts=[Mount("/data", "withdata"), Mount("/host", "/etc/apt", type="bind", read_only=True), Mount("/tmpfs", None, type="tmpfs")],
    )
    made.wait()
    found = sorted(made.attrs["Mounts"], key=lambda one: one["Destination"])
    for one in found:
        one.pop("Source", None)
    output = made.logs(stdout=True, stderr=False).splitlines()[-1]
    again = s.client.containers.run("busy:1", "cat /d/file", volumes=["withdata:/d:ro"], remove=True)
    in_use = refused(s.client.volumes.get("withdata").remove)
    made.remove()
    s.client.volumes.get("withdata").remove()
    return [found, output, again, in_use]


@step
def bind_missing_source(s):
    return refused(s.run, mounts=[Mount("/x", "/no/such/source", type="bind")])


@step
def published_ports(s):
    made = s.run(ports={"80/tcp": None, "81/tcp": ("127.0.0.1", 18081), "82/udp": [18082, 18083]})
    made.reload()
    found = made.ports
    random = {one["HostPort"] for one in found["80/tcp"]}
    answer = [
        [one["HostIp"] for one in found["80/tcp"]], all(port.isdigit() for port in random), found["81/tcp"],
        sorted(one["HostPort"] for one in found["82/udp"] if one["HostIp"] == "0.0.0.0"),
        s.low.port(made.id, 81), s.low.port(made.id, 99),
        refused(s.run, ports={"81/tcp": ("127.0.0.1", 18081)}, name="clash")["status"],
    ]
    s.client.containers.get("clash").remove(force=True)
    made.remove(force=True)
    return answer


@step
def remove_running(s):
    return refused(s.client.containers.get("box").remove)


@step
def remove_missing(s):
    return refused(s.low.remove_container, "nobody")


@step
def image_in_use(s):
    by_name = refused(s.client.images.remove, "busy:1")
    image = s.client.images.get("busy:1")
    by_id = [refused(s.client.images.remove, image.id, force=True)["status"]]
    # By force a name goes, though a container runs; the image stays.
    forced = refused(s.client.images.remove, "busy:1", force=True)["error"]
    s.low.tag(image.id, "busy", "1")
    return [by_name, by_id, forced, s.client.images.get("busy:1").id == image.id]


@step
def prune(s):
    s.client.containers.create("busy:1", "true", labels={"prune": "me"})
    time.sleep(0.1)
    pruned = s.client.containers.prune(filters={"label": "prune=me"})
    return [len(pruned["ContainersDeleted"]), type(pruned["SpaceReclaimed"]).__name__, s.client.containers.prune(filters={"label": "prune=me"})]
