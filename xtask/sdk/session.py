"""session URL BUSYBOX RECORD: plays every step of the Python client against an engine, and keeps what they gave."""

import sys

import record

# The order of these is the order of the session.
import images  # noqa: F401
import containers  # noqa: F401
import streams  # noqa: F401
import engine  # noqa: F401


def main():
    url, busybox, path = sys.argv[1:]
    record.write(path, record.Session(url, busybox).play())


main()
