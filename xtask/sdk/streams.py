"""Steps with streams: logs, attach, exec, and terminals."""

import socket
import struct
import threading
import time

from record import refused, shape, step, until


def frames(stream, seconds=10):
    """Everything that a multiplexed stream says, by the number of its channel."""
    raw = getattr(stream, "_sock", stream)
    raw.settimeout(seconds)
    data = b""
    while True:
        part = raw.recv(65536)
        if not part:
            break
        data += part
    out = []
    while data:
        channel, length = struct.unpack(">BxxxL", data[:8])
        out.append([channel, data[8:8 + length]])
        data = data[8 + length:]
    return out


@step
def logs(s):
    made = s.run("sh", "-c", "echo one; echo two >&2; sleep 0.1; echo three", name="talker")
    made.wait()
    return [made.logs(stderr=False), made.logs(stdout=False), made.logs(tail=1), made.logs(tail=0), made.logs(tail="all").splitlines()[-1]]


@step
def logs_timestamps(s):
    return s.client.containers.get("talker").logs(timestamps=True, stderr=False).splitlines()


@step
def logs_since_until(s):
    talker = s.client.containers.get("talker")
    now = int(time.time())
    return [talker.logs(since=now + 60), talker.logs(until=now - 3600), len(talker.logs(since=now - 3600).splitlines())]


@step
def logs_stream(s):
    return list(s.client.containers.get("talker").logs(stream=True, stderr=False))


@step
def logs_follow(s):
    made = s.run("sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.1; done")
    lines = b"".join(made.logs(stream=True, follow=True)).split()
    made.remove(force=True)
    return lines


@step
def logs_nothing_asked(s):
    return refused(s.client.containers.get("talker").logs, stdout=False, stderr=False)


@step
def logs_tty(s):
    made = s.run("sh", "-c", "echo out; echo err >&2", tty=True)
    made.wait()
    found = made.logs()
    made.remove()
    return found


@step
def logs_driver_none(s):
    made = s.run("echo", "x", log_config={"Type": "none", "Config": {}})
    made.wait()
    answer = refused(made.logs)
    made.remove()
    return answer


@step
def attach_socket(s):
    made = s.client.containers.create("busy:1", ["sh", "-c", "cat; echo end >&2"], stdin_open=True, name="attached")
    stream = s.low.attach_socket(made.id, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
    made.start()
    raw = stream._sock
    raw.sendall(b"typed\n")
    raw.shutdown(socket.SHUT_WR)
    said = frames(stream)
    answer = [said, made.wait()]
    made.remove()
    return answer


@step
def attach_websocket(s):
    made = s.run("sh", "-c", "sleep 0.5; echo over the web", tty=True, stdin_open=True)
    url = f"/v1.45/containers/{made.id}/attach/ws?stream=1&stdout=1"
    raw = socket.socket(socket.AF_UNIX)
    raw.settimeout(10)
    raw.connect(s.url.removeprefix("unix://"))
    raw.sendall(
        f"GET {url} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: http://x\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    status = raw.recv(4096).split(b"\r\n")[0]
    raw.close()
    made.remove(force=True)
    return status


@step
def attach_tty(s):
    made = s.client.containers.create("busy:1", ["sh", "-c", "stty size; read line; echo got $line"], stdin_open=True, tty=True)
    stream = s.low.attach_socket(made.id, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
    made.start()
    made.resize(height=30, width=100)
    raw = stream._sock
    raw.settimeout(10)
    raw.sendall(b"word\n")
    data = b""
    while part := raw.recv(4096):
        data += part
    made.wait()
    made.remove()
    return b"got word" in data


@step
def resize(s):
    made = s.run("sh", "-c", "sleep 0.3; stty size", tty=True)
    made.resize(height=33, width=111)
    made.wait()
    answer = [made.logs(), refused(made.resize, height=10, width=10)]
    made.remove()
    return answer


@step
def attach_stopped(s):
    return refused(lambda: s.client.containers.get("talker").attach(stream=False))


@step
def exec_simple(s):
    result = s.client.containers.get("box").exec_run("echo hello")
    return [result.exit_code, result.output]


@step
def exec_status(s):
    return s.client.containers.get("box").exec_run(["sh", "-c", "echo bad >&2; exit 4"])


@step
def exec_demux(s):
    return s.client.containers.get("box").exec_run(["sh", "-c", "echo out; echo err >&2"], demux=True)


@step
def exec_stream(s):
    result = s.client.containers.get("box").exec_run(["sh", "-c", "echo a; sleep 0.1; echo b"], stream=True)
    return [result.exit_code, b"".join(result.output)]


@step
def exec_stream_demux(s):
    result = s.client.containers.get("box").exec_run(["sh", "-c", "echo a; sleep 0.1; echo b >&2"], stream=True, demux=True)
    return list(result.output)


@step
def exec_options(s):
    box = s.client.containers.get("box")
    return box.exec_run(["sh", "-c", "id -u; pwd; echo $X"], user="user", workdir="/tmp", environment={"X": "y"}).output.split()


@step
def exec_tty(s):
    return s.client.containers.get("box").exec_run(["sh", "-c", "[ -t 1 ] && echo terminal; echo err >&2"], tty=True)


@step
def exec_detached(s):
    box = s.client.containers.get("box")
    # It may have ended when it is asked for its status, or not: that is no answer to compare.
    answer = box.exec_run("sh -c 'sleep 0.1; echo later >/tmp/later'", detach=True)
    until(lambda: box.exec_run("cat /tmp/later").exit_code == 0, "what it wrote")
    return answer.output


@step
def exec_socket(s):
    box = s.client.containers.get("box")
    result = box.exec_run("cat", stdin=True, socket=True)
    result.output._sock.sendall(b"through a socket\n")
    result.output._sock.shutdown(socket.SHUT_WR)
    return frames(result.output)


@step
def exec_inspect(s):
    made = s.low.exec_create("box", ["sh", "-c", "exit 9"], environment={"K": "v"}, user="root", workdir="/")
    before = s.low.exec_inspect(made["Id"])
    s.low.exec_start(made["Id"])
    after = s.low.exec_inspect(made["Id"])
    return [before["ExitCode"], before["Running"], after["ExitCode"], after["Running"], after["ProcessConfig"], shape(after)]


@step
def exec_resize(s):
    made = s.low.exec_create("box", ["sh", "-c", "sleep 0.5; stty size"], tty=True, stdin=True)
    stream = s.low.exec_start(made["Id"], tty=True, socket=True)
    s.low.exec_resize(made["Id"], height=20, width=60)
    raw, data = stream._sock, b""
    raw.settimeout(10)
    while part := raw.recv(4096):
        data += part
    return data


@step
def exec_refused(s):
    box = s.client.containers.get("box")
    stopped = s.client.containers.get("talker")
    return {
        "missing": refused(s.low.exec_inspect, "0" * 64), "stopped": refused(stopped.exec_run, "true"),
        "user": [refused(box.exec_run, "true", user="nosuch").get("status")], "empty": refused(s.low.exec_create, "box", []),
        "nobody": refused(s.low.exec_create, "nobody", "true"),
    }


@step
def exec_no_such_command(s):
    return s.client.containers.get("box").exec_run("/no/such").exit_code


@step
def exec_paused(s):
    box = s.client.containers.get("box")
    box.pause()
    answer = refused(box.exec_run, "true")
    box.unpause()
    return answer


@step
def large_output(s):
    result = s.client.containers.get("box").exec_run(["sh", "-c", "head -c 3000000 /dev/zero || busybox head -c 3000000 /dev/zero"])
    return [result.exit_code, result.output.count(b"\0")]


@step
def events_live(s):
    seen = []
    stream = s.client.events(decode=True, filters={"container": "brief"})

    def watch():
        for event in stream:
            seen.append(event["Action"])
            if event["Action"] == "destroy":
                stream.close()
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    time.sleep(0.3)
    s.client.containers.run("busy:1", "true", name="brief", remove=True)
    thread.join(10)
    return seen


@step
def streams_end(s):
    for name in ["talker", "streamed"]:
        s.client.containers.get(name).remove(force=True)
    return [one.name for one in s.client.containers.list(all=True)]
