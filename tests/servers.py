"""Servers of tests: on loopback, on free ports."""

import socket
import time
import urllib.request


def answers(url: str, seconds: float = 120) -> None:
    """Wait until the address answers with 200."""
    end = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                assert answer.status == 200
                return
        except OSError:
            assert time.monotonic() < end, f"{url} did not answer within {seconds} s"
            time.sleep(0.3)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
