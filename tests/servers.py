"""Servers of tests: on loopback, on free ports."""

import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress


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


class Line:
    """The way to a server, which can be cut: connections are refused then, and those that are open broken off."""

    def __init__(self, port: int):
        self._to, self.port, self._cut = port, free_port(), threading.Event()
        self._heard: socket.socket | None = None
        self._open: list[socket.socket] = []
        self.mend()

    def mend(self) -> None:
        self._cut.clear()
        self._heard = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._heard,), daemon=True).start()

    def cut(self) -> None:
        self._cut.set()
        assert self._heard
        for one in (self._heard, *self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._open.clear()

    def _accept(self, heard: socket.socket) -> None:
        with suppress(OSError):
            while True:
                asks, _ = heard.accept()
                self._open.append(asks)
                with suppress(OSError):  # the server's own outage is nobody's fault here
                    answers = socket.create_connection(("127.0.0.1", self._to))
                    self._open.append(answers)
                    for pair in ((asks, answers), (answers, asks)):
                        threading.Thread(target=self._pass, args=pair, daemon=True).start()

    @staticmethod
    def _pass(one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while content := one.recv(1 << 16):
                other.sendall(content)
            other.shutdown(socket.SHUT_WR)


@contextmanager
def cuttable(port: int) -> Iterator[Line]:
    line = Line(port)
    try:
        yield line
    finally:
        with suppress(OSError):
            line.cut()
