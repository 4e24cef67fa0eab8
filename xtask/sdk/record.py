"""What a session of steps against an engine records, so that two engines can be compared.

A step is a function from the session to a value. Its value, or the error that it ended with, is normalised (identifiers,
digests, times, addresses) and kept under the step's name. A step that fails does not end the session.
"""

import json
import re
import sys
import time
import traceback

import docker
import requests

STEPS = []

NORMAL = [
    (re.compile(r"sha256:[0-9a-f]{64}"), "<digest>"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "<id>"),
    (re.compile(r"\b(?=[0-9a-f]*[a-f])(?=[0-9a-f]*[0-9])[0-9a-f]{12}\b"), "<short id>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"), "<time>"),
    (re.compile(r"\b(172|192|10)\.\d+\.\d+\.\d+\b"), "<address>"),
    (re.compile(r"\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b"), "<mac>"),
]


def step(function):
    """Adds a function to the session, in the order of the source."""
    STEPS.append(function)
    return function


def normal(value):
    """A value with what differs from run to run replaced by what it is."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    if isinstance(value, str):
        for pattern, name in NORMAL:
            value = pattern.sub(name, value)
        return value
    if isinstance(value, dict):
        return {normal(str(key)): normal(one) for key, one in sorted(value.items(), key=lambda item: str(item[0]))}
    if isinstance(value, (list, tuple)):
        return [normal(one) for one in value]
    if isinstance(value, (set, frozenset)):
        return sorted(normal(one) for one in value)
    return value


def shape(value, depth=6):
    """The keys of a document and the types of its values: what a client may rely on being there."""
    if isinstance(value, dict) and depth:
        return {key: shape(one, depth - 1) for key, one in value.items()}
    if isinstance(value, list):
        return [shape(value[0], depth - 1)] if value and depth else []
    return type(value).__name__


def error(problem):
    """An error of the client: its class, the status, and the engine's own words."""
    kept = {"error": type(problem).__name__}
    if isinstance(problem, docker.errors.APIError):
        kept["status"] = problem.status_code
        kept["message"] = problem.explanation
    elif isinstance(problem, docker.errors.ContainerError):
        kept["status"] = problem.exit_status
        kept["stderr"] = problem.stderr
    elif not isinstance(problem, requests.exceptions.RequestException):
        kept["message"] = str(problem)
    return kept


def refused(call, *args, **kwargs):
    """The error that a call ends with."""
    try:
        answer = call(*args, **kwargs)
    except Exception as problem:  # What it is, is what is recorded.
        return error(problem)
    return {"error": "none", "answer": str(answer)}


def until(condition, what, seconds=20):
    """Waits until a condition holds, and gives what it gave."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = condition()
        if answer:
            return answer
        time.sleep(0.05)
    raise TimeoutError(f"{what}: not within {seconds} s")


class Session:
    """An engine, and what the steps left for those after them."""

    def __init__(self, url, busybox):
        self.url = url
        self.busybox = busybox
        # One version for both engines, since documents differ from version to version.
        self.client = docker.DockerClient(base_url=url, version="1.45", timeout=60)
        self.low = self.client.api

    def run(self, *command, **options):
        """A container in the background, gone with the session's end."""
        options.setdefault("labels", {"session": "sdk"})
        return self.client.containers.run("busy:1", list(command) or ["sleep", "600"], detach=True, **options)

    def play(self):
        """Every step in turn."""
        record = {}
        for function in STEPS:
            name = function.__name__
            began = time.monotonic()
            try:
                record[name] = normal(function(self))
            except Exception as problem:  # One step's failure is its result.
                record[name] = normal({"failed": error(problem)})
                if not isinstance(problem, docker.errors.DockerException):
                    record[name]["failed"]["at"] = traceback.extract_tb(problem.__traceback__)[-1].line
            took = time.monotonic() - began
            if took > 5:
                print(f"{name} took {took:.1f} s", file=sys.stderr)
        return record


def write(path, record):
    """Keeps a record as a file."""
    with open(path, "w", encoding="utf-8") as file:
        json.dump(record, file, indent=1, sort_keys=True, default=str)
