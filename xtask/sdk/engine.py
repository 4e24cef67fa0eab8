"""Steps with networks, volumes, and the engine itself: its version, events, usage, and what it is not."""

import time

import docker
from docker.types import EndpointConfig, IPAMConfig, IPAMPool

from record import normal, refused, shape, step


@step
def network_list(s):
    return sorted([one.name, one.attrs["Driver"], one.attrs["Scope"]] for one in s.client.networks.list())


@step
def network_create(s):
    pool = IPAMPool(subnet="10.77.0.0/24", gateway="10.77.0.1", iprange="10.77.0.128/25", aux_addresses={"reserved": "10.77.0.130"})
    made = s.client.networks.create("net", driver="bridge", ipam=IPAMConfig(pool_configs=[pool]), labels={"of": "session"}, check_duplicate=True)
    found = dict(made.attrs)
    return [made.name, found["Driver"], found["IPAM"]["Config"], found["Labels"], found["Internal"], found["Attachable"]]


@step
def network_shape(s):
    return shape(s.low.inspect_network("net"))


@step
def network_duplicate(s):
    return refused(s.client.networks.create, "net", driver="bridge")


@step
def network_bad(s):
    taken = IPAMConfig(pool_configs=[IPAMPool(subnet="10.77.0.0/25")])
    wrong = IPAMConfig(pool_configs=[IPAMPool(subnet="10.78.0.0/24", gateway="10.79.0.1")])
    return {
        "overlap": refused(s.client.networks.create, "other", ipam=taken)["status"],
        "gateway": refused(s.client.networks.create, "other", ipam=wrong)["status"],
        "name": refused(s.client.networks.create, "bridge")["status"], "empty": refused(s.client.networks.create, "")["status"],
    }


@step
def network_missing(s):
    return [refused(s.client.networks.get, "nonet"), refused(s.low.remove_network, "nonet")]


@step
def network_predefined(s):
    return [refused(s.client.networks.get(name).remove) for name in ("bridge", "host", "none")]


@step
def network_aliases(s):
    config = {"net": EndpointConfig("1.45", aliases=["web", "www"], ipv4_address="10.77.0.140")}
    server = s.run(name="server", network="net", networking_config=config)
    server.reload()
    found = server.attrs["NetworkSettings"]["Networks"]["net"]
    output = s.client.containers.run(
        "busy:1", ["sh", "-c", "busybox nslookup www | busybox grep -c 10.77.0.140; busybox ping -c 1 -W 2 web >/dev/null && echo reached"],
        network="net", remove=True,
    )
    return [sorted(found["Aliases"] or []), found["IPAddress"], found["IPAMConfig"], sorted(found["DNSNames"]), output.split()[-1]]


@step
def network_endpoint_shape(s):
    return shape(s.low.inspect_container("server")["NetworkSettings"]["Networks"]["net"])


@step
def network_inspect_containers(s):
    found = s.client.networks.get("net").attrs["Containers"]
    return [sorted(one.items()) for one in found.values() if one.pop("EndpointID") and one.pop("MacAddress")]


@step
def network_connect(s):
    box = s.client.containers.get("box")
    net = s.client.networks.get("net")
    net.connect(box, aliases=["crate"])
    again = refused(net.connect, box)
    box.reload()
    joined = sorted(box.attrs["NetworkSettings"]["Networks"])
    reached = box.exec_run("busybox ping -c 1 -W 2 server").exit_code
    net.disconnect(box)
    box.reload()
    return [joined, reached, sorted(box.attrs["NetworkSettings"]["Networks"]), refused(net.disconnect, box)["status"], again["status"]]


@step
def network_connect_missing(s):
    return refused(s.client.networks.get("net").connect, "nobody")


@step
def network_in_use(s):
    return refused(s.client.networks.get("net").remove)


@step
def network_filters(s):
    ask = lambda **filters: sorted(one.name for one in s.client.networks.list(filters=filters))
    return [ask(name="ne"), ask(driver="bridge"), ask(label="of=session"), ask(type="custom"), ask(type="builtin"), ask(scope="local"), ask(dangling=True)]


@step
def network_bad_filter(s):
    return [refused(s.client.networks.list, filters={"colour": "red"}), refused(s.client.networks.list, filters={"type": "odd"})]


@step
def network_list_greedy(s):
    return [[one.name, [box.name for box in one.containers]] for one in s.client.networks.list(names=["net"], greedy=True)]


@step
def network_internal(s):
    made = s.client.networks.create("inside", internal=True, enable_ipv6=False, attachable=True, options={"com.docker.network.bridge.name": "sdkinside0"})
    found = [made.attrs["Internal"], made.attrs["Attachable"], made.attrs["Options"]]
    made.remove()
    return found


@step
def network_none_and_host(s):
    none = s.client.containers.run("busy:1", "ls /sys/class/net", network_mode="none", remove=True)
    box = s.client.containers.run("busy:1", ["sh", "-c", "busybox hostname"], network_mode="container:box", remove=True)
    return [none.split(), box]


@step
def network_prune(s):
    s.client.networks.create("unused", labels={"prune": "me"})
    pruned = s.client.networks.prune(filters={"label": "prune=me"})
    s.client.containers.get("server").remove(force=True)
    s.client.networks.get("net").remove()
    return [pruned, [one.name for one in s.client.networks.list(names=["net"])]]


@step
def volume_create(s):
    made = s.client.volumes.create("vol", labels={"of": "session"})
    found = dict(made.attrs)
    found.pop("Mountpoint")
    return [made.name, found]


@step
def volume_again(s):
    return s.client.volumes.create("vol").attrs["Labels"]


@step
def volume_anonymous(s):
    made = s.client.volumes.create()
    length = len(made.name)
    made.remove()
    return length


@step
def volume_tmpfs(s):
    made = s.client.volumes.create("quick", driver="local", driver_opts={"type": "tmpfs", "device": "tmpfs", "o": "size=1m"})
    output = s.client.containers.run("busy:1", ["sh", "-c", "busybox df /q | busybox tail -n 1"], volumes=["quick:/q"], remove=True)
    options = made.attrs["Options"]
    made.remove()
    return [options, output.split()[1]]


@step
def volume_list(s):
    return [sorted(one.name for one in s.client.volumes.list()), shape(s.low.volumes())]


@step
def volume_filters(s):
    ask = lambda **filters: sorted(one.name for one in s.client.volumes.list(filters=filters))
    return [ask(name="vo"), ask(label="of=session"), ask(dangling=True), ask(driver="local"), refused(s.client.volumes.list, filters={"colour": "red"})]


@step
def volume_refused(s):
    return {
        "missing": refused(s.client.volumes.get, "novol"), "remove": refused(s.low.remove_volume, "novol"),
        "force": refused(s.low.remove_volume, "novol", force=True)["error"], "name": refused(s.client.volumes.create, "../up"),
        "option": refused(s.client.volumes.create, "y", driver_opts={"nosuch": "1"})["status"],
    }


@step
def volume_prune(s):
    kept = sorted(s.client.volumes.prune())
    pruned = s.client.volumes.prune(filters={"all": True})
    return [kept, pruned["VolumesDeleted"], [one.name for one in s.client.volumes.list()]]


@step
def ping(s):
    answer = s.low._get(s.low._url("/_ping", versioned_api=False))
    names = ["Api-Version", "Docker-Experimental", "Ostype", "Cache-Control", "Content-Type", "Swarm", "Builder-Version"]
    return [s.client.ping(), answer.text, {name: name in answer.headers for name in names}]


@step
def version(s):
    found = s.client.version()
    return [shape(found), found["Os"], found["Arch"], found["MinAPIVersion"]]


@step
def info_shape(s):
    found = s.client.info()
    return {key: type(value).__name__ for key, value in found.items()}


@step
def info_counts(s):
    found = s.client.info()
    names = ["Containers", "ContainersRunning", "ContainersPaused", "ContainersStopped", "Images", "OSType", "Architecture", "NCPU", "MemTotal"]
    return {name: found[name] for name in names}


@step
def df(s):
    found = s.client.df()
    return [sorted(found), [len(found["Images"]), len(found["Containers"]), len(found["Volumes"])], found["LayersSize"] > 0]


@step
def df_shape(s):
    return shape(s.client.df())


@step
def events_past(s):
    began = time.time()
    made = s.client.containers.create("busy:1", "true", name="noted", labels={"a": "b"})
    made.start()
    made.wait()
    time.sleep(0.2)
    made.rename("noted2")
    made.remove()
    s.client.volumes.create("noted").remove()
    s.client.networks.create("noted").remove()
    s.client.images.get("busy:1").tag("noted", "1")
    s.client.images.remove("noted:1")
    time.sleep(0.2)
    ended = time.time()
    # Fractions, since what came just before does not belong here.
    params = {"since": f"{began:.6f}", "until": f"{ended:.6f}"}
    s.seen = list(s.low._stream_helper(s.low._get(s.low._url("/events"), params=params, stream=True), decode=True))
    return [[one["Type"], one["Action"]] for one in s.seen if one["Type"] != "network"]


@step
def events_attributes(s):
    kept = {}
    for one in s.seen:
        # The order of attributes says nothing.
        kept.setdefault(f"{one['Type']} {one['Action']}", [sorted(one), sorted(one["Actor"]["Attributes"])])
    return kept


@step
def events_filters(s):
    now = int(time.time()) + 1
    ask = lambda **filters: [one["Action"] for one in s.client.events(since=now - 3600, until=now, filters=filters, decode=True)]
    return [
        ask(type="volume", volume="noted"), ask(type="container", container="noted2")[-1:], ask(event="rename", label="a=b"),
        ask(type="network", network="noted", event=["create", "destroy"]), ask(image="noted:1", type="image", event=["tag", "untag"]),
    ]


@step
def events_bad(s):
    return [
        refused(lambda: list(s.client.events(since="yesterday", until=1)))["status"],
        refused(lambda: list(s.client.events(since=10, until=5)))["status"],
        refused(lambda: list(s.client.events(since=1, until=2, filters={"colour": "red"}))),
    ]


@step
def login_unreachable(s):
    return refused(s.client.login, "user", "password", registry="localhost:1")["status"]


@step
def search_offline(s):
    return refused(s.client.images.search, "busybox")["error"]


@step
def no_swarm(s):
    calls = [s.client.services.list, s.client.nodes.list, s.client.secrets.list, s.client.configs.list, s.low.tasks, s.low.inspect_swarm]
    return [refused(call) for call in calls]


@step
def swarm_leave(s):
    return refused(s.client.swarm.leave)


@step
def plugins(s):
    return [s.client.plugins.list(), refused(s.client.plugins.get, "nosuch")]


def raw(s, method, path, **options):
    """A request that the client would not make, and what comes back."""
    answer = getattr(s.low, method)(s.low.base_url + path, timeout=20, **options)
    kind = answer.headers.get("Content-Type", "")
    return [answer.status_code, kind, answer.json() if "json" in kind else answer.text[:200]]


@step
def raw_unknown_path(s):
    return [raw(s, "get", "/v1.45/nosuch"), raw(s, "get", "/"), raw(s, "post", "/v1.45/containers/json")]


@step
def raw_version_out_of_range(s):
    found = [raw(s, "get", "/v1.23/version"), raw(s, "get", "/v1.99/version"), raw(s, "get", "/vx/version")]
    return [one[:2] for one in found]


@step
def raw_bad_bodies(s):
    send = lambda data, kind="application/json": raw(s, "post", "/v1.45/containers/create", data=data, headers={"Content-Type": kind})
    return [send("{}"), send("{"), send("")[0], send("[]")[0], send("{}", "text/plain")[0], send('{"Image": 5}')[0], send('{"Image": "busy:1", "NoSuch": 1, "Cmd": "true"}')[0]]


@step
def raw_bad_filters(s):
    ask = lambda path, filters: raw(s, "get", path, params={"filters": filters})[0]
    return [ask("/v1.45/containers/json", "nonsense"), ask("/v1.45/images/json", "[]"), ask("/v1.45/networks", '{"name": 5}'), ask("/v1.45/volumes", '{"name": {"vol": true}}')]


@step
def versions_pinned(s):
    answers = {}
    for version in ["1.24", "1.25", "1.30", "1.35", "1.40", "1.41", "1.42", "1.43", "1.44"]:
        client = docker.DockerClient(base_url=s.url, version=version, timeout=20)
        box = client.containers.get("box")
        ran = client.containers.run("busy:1", "echo ok", remove=version != "1.24")
        answers[version] = [
            client.ping(), [one.name for one in client.containers.list(filters={"name": "box"})], box.status, ran, box.exec_run("echo in").output,
            len(client.images.list()), sorted(one.name for one in client.networks.list()), client.api.api_version,
        ]
        client.close()
    return answers


@step
def versions_documents(s):
    answers = {}
    for version in ["1.24", "1.30", "1.40", "1.43"]:
        client = docker.APIClient(base_url=s.url, version=version)
        box, image = client.inspect_container("box"), client.inspect_image("busy:1")
        answers[version] = {
            "container": sorted(box), "config": sorted(box["Config"]), "host": sorted(box["HostConfig"]), "image": sorted(image),
            "list": sorted(client.containers()[0]), "images": sorted(client.images()[0]), "network": sorted(box["NetworkSettings"]["Networks"]["bridge"]),
        }
        client.close()
    return answers


@step
def version_auto(s):
    client = docker.DockerClient(base_url=s.url, version="auto")
    return [client.ping(), client.api.api_version == client.version()["ApiVersion"], client.containers.get("box").status]


@step
def version_from_environment(s):
    client = docker.from_env(environment={"DOCKER_HOST": s.url}, version="auto")
    return client.ping()


@step
def connections_kept(s):
    client = docker.DockerClient(base_url=s.url, version="1.45", max_pool_size=2)
    return [client.ping() for _ in range(50)] == [True] * 50


@step
def leftovers(s):
    for one in s.client.containers.list(all=True):
        one.remove(force=True, v=True)
    s.client.images.remove("busy:1")
    return normal([[one.name for one in s.client.containers.list(all=True)], [one.tags for one in s.client.images.list()], [one.name for one in s.client.volumes.list()]])
