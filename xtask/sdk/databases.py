"""databases ARCHIVE: testcontainers against the engine of DOCKER_HOST, with a real PostgreSQL and a real Redis.

ARCHIVE is the file system that holds both, from Debian's packages. Its images get the names that testcontainers asks
for. The reaper is switched off (TESTCONTAINERS_RYUK_DISABLED): its image is in no package.
"""

import pathlib
import sys
import tempfile
import time
import traceback

import docker
import pg8000.dbapi
import redis
from testcontainers.core.container import DockerContainer, ExecConfig
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import (
    CompositeWaitStrategy, ExecWaitStrategy, HealthcheckWaitStrategy, HttpWaitStrategy,
    LogMessageWaitStrategy, PortWaitStrategy,
)
from testcontainers.core.waiting_utils import wait_for_logs
from testcontainers.postgres import PostgresContainer
from testcontainers.redis import RedisContainer

CHECKS = []
POSTGRES, REDIS = "postgres:15", "redis:7"


def check(function):
    """Adds a check: a function that raises if what it sees is wrong."""
    CHECKS.append(function)
    return function


def images(client, archive):
    """Both images, of the same layer, made as their official namesakes are configured."""
    common = ["ENV PATH=/usr/lib/postgresql/15/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    postgres = [
        "ENV PGDATA=/var/lib/postgresql/data", 'ENTRYPOINT ["postgres-entrypoint"]', 'CMD ["postgres"]', "EXPOSE 5432",
        "VOLUME /var/lib/postgresql/data", "STOPSIGNAL SIGINT",
    ]
    cache = ['ENTRYPOINT ["redis-entrypoint"]', "EXPOSE 6379", "VOLUME /data", "WORKDIR /data"]
    cache.append('CMD ["redis-server","--bind","0.0.0.0","--protected-mode","no","--save",""]')
    for name, changes in ((POSTGRES, postgres), (REDIS, cache)):
        repository, tag = name.split(":")
        client.api.import_image_from_file(archive, repository=repository, tag=tag, changes=common + changes)


def connect(container, **more):
    """A connection to a database through its published port."""
    return pg8000.dbapi.connect(
        host="127.0.0.1", port=int(container.get_exposed_port(5432)), user=container.username, password=container.password,
        database=container.dbname, timeout=20, **more,
    )


def gone(client, wrapped):
    """Fails if a container is still there."""
    try:
        client.containers.get(wrapped.id)
    except docker.errors.NotFound:
        return
    raise AssertionError(f"{wrapped.name} is still there after it was stopped")


@check
def postgres_answers_queries(client):
    with PostgresContainer(POSTGRES, driver=None) as postgres:
        assert postgres.get_connection_url().startswith("postgresql://test:test@localhost:"), postgres.get_connection_url()
        connection = connect(postgres)
        cursor = connection.cursor()
        cursor.execute("create table fruit (id serial primary key, name text not null)")
        cursor.executemany("insert into fruit (name) values (%s)", [("apple",), ("pear",), ("plum",)])
        connection.commit()
        cursor.execute("select id, name from fruit order by id")
        rows = [list(row) for row in cursor.fetchall()]
        assert rows == [[1, "apple"], [2, "pear"], [3, "plum"]], rows
        cursor.execute("select version()")
        assert "PostgreSQL 15" in cursor.fetchone()[0]
        connection.close()
        wait_for_logs(postgres, "database system is ready to accept connections", timeout=20)
        wrapped = postgres.get_wrapped_container()
    gone(client, wrapped)


@check
def postgres_refuses_a_wrong_password(_client):
    with PostgresContainer(POSTGRES, username="who", password="it's secret", dbname="shop", driver=None) as postgres:
        connect(postgres).close()
        postgres.password = "wrong"
        try:
            connect(postgres)
        except pg8000.dbapi.DatabaseError as problem:
            assert "password authentication failed" in str(problem), problem
        else:
            raise AssertionError("a wrong password was taken")


@check
def postgres_runs_the_files_that_were_copied_in(_client):
    with tempfile.TemporaryDirectory() as directory:
        script = pathlib.Path(directory, "init.sql")
        script.write_text("create table seeded (n int); insert into seeded select generate_series(1, 1000);\n", encoding="utf-8")
        container = PostgresContainer(POSTGRES, driver=None)
        container.with_copy_into_container(script, "/docker-entrypoint-initdb.d/1.sql")
        container.with_copy_into_container(b"insert into seeded values (0);\n", "/docker-entrypoint-initdb.d/2.sql")
        with container as postgres:
            connection = connect(postgres)
            cursor = connection.cursor()
            cursor.execute("select count(*), min(n), max(n) from seeded")
            row = list(cursor.fetchone())
            connection.close()
            assert row == [1001, 0, 1000], row
            out = pathlib.Path(directory, "copied")
            postgres.copy_from_container("/docker-entrypoint-initdb.d/1.sql", out)
            assert out.read_bytes() == script.read_bytes()


@check
def postgres_keeps_its_data_over_a_restart(_client):
    with PostgresContainer(POSTGRES, driver=None) as postgres:
        connection = connect(postgres)
        connection.cursor().execute("create table kept as select 42 as n")
        connection.commit()
        connection.close()
        postgres.get_wrapped_container().restart(timeout=20)
        postgres._connect()  # The same wait as at the start.
        connection = connect(postgres)
        cursor = connection.cursor()
        cursor.execute("select n from kept")
        assert cursor.fetchone()[0] == 42
        connection.close()


@check
def redis_sets_and_gets(client):
    with RedisContainer(REDIS) as container:
        store = container.get_client()
        assert store.set("key", "value") and store.get("key") == b"value"
        assert [store.incr("n") for _ in range(3)] == [1, 2, 3]
        assert store.lpush("list", "a", "b") == 2 and store.lrange("list", 0, -1) == [b"b", b"a"]
        heard = store.pubsub(ignore_subscribe_messages=True)
        heard.subscribe("news")
        heard.get_message(timeout=5)
        store.publish("news", "hello")
        message = heard.get_message(timeout=5)
        assert message and message["data"] == b"hello", message
        heard.close()
        wait_for_logs(container, "Ready to accept connections", timeout=20)
        wrapped = container.get_wrapped_container()
    gone(client, wrapped)


@check
def redis_with_a_password(_client):
    with RedisContainer(REDIS, password="secret") as container:
        assert container.get_client().ping()
        bare = redis.Redis(host="127.0.0.1", port=int(container.get_exposed_port(6379)))
        try:
            bare.ping()
        except redis.exceptions.AuthenticationError:
            return
        raise AssertionError("no password was needed")


@check
def ports_are_chosen_at_random(_client):
    with RedisContainer(REDIS) as one, RedisContainer(REDIS) as two:
        ports = {int(each.get_exposed_port(6379)) for each in (one, two)}
        assert len(ports) == 2 and all(port > 1024 for port in ports), ports
        one.get_client().set("who", "one")
        assert two.get_client().get("who") is None


@check
def commands_run_inside(_client):
    with RedisContainer(REDIS) as container:
        status, output = container.exec(["redis-cli", "ping"])
        assert (status, output) == (0, b"PONG\n"), (status, output)
        status, output = container.exec("sh -c 'echo $0; exit 3'")
        assert (status, output) == (3, b"sh\n"), (status, output)
        told = container.exec(ExecConfig(command=["sh", "-c", "id -un; pwd; echo $A"], user="redis", workdir="/tmp", environment={"A": "b"}))
        assert told.output.split() == [b"redis", b"/tmp", b"b"], told


@check
def containers_meet_by_their_aliases(client):
    with Network() as network:
        postgres = PostgresContainer(POSTGRES, driver=None).with_network(network).with_network_aliases("db", "database")
        store = RedisContainer(REDIS).with_network(network).with_network_aliases("cache")
        with postgres, store:
            ask = "PGPASSWORD=test psql -h database -U test -d test -Atc 'select 6 * 7'"
            status, output = store.exec(["sh", "-c", ask])
            assert (status, output) == (0, b"42\n"), (status, output)
            status, output = postgres.exec(["redis-cli", "-h", "cache", "ping"])
            assert (status, output) == (0, b"PONG\n"), (status, output)
        name = network.name
    assert not client.networks.list(names=[name]), "the network is still there"


@check
def a_container_of_any_kind(client):
    with tempfile.TemporaryDirectory() as directory:
        pathlib.Path(directory, "page").write_text("from the host", encoding="utf-8")
        container = DockerContainer(REDIS, command=["sh", "-c", "cat /mnt/page >/scratch/copy; echo started as $ROLE; exec sleep 600"])
        container.with_env("ROLE", "worker").with_volume_mapping(directory, "/mnt", "ro").with_tmpfs_mount("/scratch", "size=1m")
        container.waiting_for(LogMessageWaitStrategy("started as worker").with_startup_timeout(20))
        with container as started:
            assert started.exec("cat /scratch/copy").output == b"from the host"
            assert started.exec("touch /mnt/new").exit_code != 0
            assert started.get_logs()[0] == b"started as worker\n", started.get_logs()
            started.copy_into_container(b"later", "/tmp/deep/file", 0o600)
            told = started.exec(["stat", "-c", "%a %s", "/tmp/deep/file"])
            assert told.output == b"600 5\n", told
            labels = client.containers.get(started.get_container_id()).labels
            assert labels["org.testcontainers.lang"] == "python", labels
            info = started.get_container_info()
            assert info.State.Status == "running", info


@check
def waits_for_what_it_is_told_to(_client):
    serve = "sleep 0.5; touch /tmp/there; exec perl -MIO::Socket -e '" + (
        "$s = IO::Socket::INET->new(LocalPort => 80, Listen => 9, ReuseAddr => 1) or die;"
        "while ($c = $s->accept) { while (<$c>) { last if /^\\r?$/ } print $c \"HTTP/1.0 200 OK\\r\\n\\r\\nhello\"; close $c }'"
    )
    container = DockerContainer(REDIS, command=["sh", "-c", serve]).with_exposed_ports(80)
    container.with_kwargs(healthcheck={"test": ["CMD", "test", "-e", "/tmp/there"], "interval": 200_000_000, "retries": 50})
    container.waiting_for(
        CompositeWaitStrategy(
            HealthcheckWaitStrategy(), PortWaitStrategy(80), ExecWaitStrategy(["test", "-e", "/tmp/there"]),
            HttpWaitStrategy(80).for_status_code(200).for_response_predicate(lambda body: body == "hello"),
        ).with_startup_timeout(30).with_poll_interval(0.1)
    )
    with container:
        pass


@check
def says_why_it_did_not_start(_client):
    container = DockerContainer(REDIS, command=["sh", "-c", "echo no luck >&2; exit 3"])
    try:
        with container.waiting_for(LogMessageWaitStrategy("never").with_startup_timeout(10)):
            pass
    except RuntimeError as problem:
        assert "exit code: 3" in str(problem), problem
        return
    raise AssertionError("it was taken for started")


@check
def an_image_that_is_missing(_client):
    try:
        DockerContainer("localhost:1/no/such:1").start()
    except docker.errors.APIError as problem:
        assert problem.status_code in (404, 500), problem
        return
    raise AssertionError("it was started")


@check
def nothing_is_left(client):
    assert not client.containers.list(all=True), client.containers.list(all=True)
    assert not client.volumes.list(), client.volumes.list()
    assert sorted(one.name for one in client.networks.list()) == ["bridge", "host", "none"], client.networks.list()


def main():
    client = docker.from_env(version="auto")
    images(client, sys.argv[1])
    failed = 0
    for function in CHECKS:
        name = function.__name__.replace("_", " ")
        began = time.monotonic()
        try:
            function(client)
            print(f"ok    testcontainers: {name} ({time.monotonic() - began:.1f} s)")
        except Exception as problem:  # One check's failure does not hide the others.
            failed += 1
            print(f"FAIL  testcontainers: {name}: {type(problem).__name__}: {problem}"[:1000])
            traceback.print_exc()
    print(f"\n{len(CHECKS) - failed} passed, {failed} failed, 0 skipped")
    sys.exit(failed > 0)


main()
