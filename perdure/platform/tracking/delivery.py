"""Sending one thing after the other: what is refused is noted, and what comes after it is sent all the same."""

import time
from collections.abc import Callable, Iterable
from typing import Any

from .mlflow_client import Server
from .refusals import Refusals, away, told, words

PAUSES = (0.5, 1.0, 2.0)  # seconds before an artifact is sent again that a server which is there has failed to take
REFUSED = 2  # artifacts in a row, after which the folder of artifacts is not tried any more

REMEDY = "let the folder of artifacts be written to, here or by the server"


class Delivery:
    """What one command sends to one server.

    beat: called whenever something was taken; raises where nobody waits any more.
    """

    def __init__(self, server: Server, refusals: Refusals, beat: Callable[[], None]):
        self.server, self.refusals, self.beat = server, refusals, beat
        self.troubled: dict[str, str] = {}  # what a server that is there has failed to take, and its words
        self.gone: set[str] = set()  # parents that somebody has deleted there

    @property
    def client(self) -> Any:
        return self.server.client

    def sent(self, what: str, send: Callable[[], None]) -> bool:
        """Whether it was taken. Raises what would happen to everything else too."""
        try:
            send()
        except Exception as e:
            if away(e, self.server.uri):
                if not self.server.answers():
                    raise
                self.troubled[what] = words(e)
            else:
                self.server.check(e)
                self.refusals.note(what, told(e))
                self.troubled.pop(what, None)
            return False
        self.troubled.pop(what, None)
        self.refusals.taken(what)
        self.beat()
        return True

    def artifacts(self, sends: Iterable[Callable[[], None]]) -> bool:
        """Whether every one was taken."""
        taken = [self._artifact(send) for send in sends]
        return all(taken)

    def _artifact(self, send: Callable[[], None]) -> bool:
        """Whether it was taken, tried again where the server has failed over it alone."""
        for pause in (*PAUSES, None):
            if self.server.refused >= REFUSED:
                break
            try:
                send()
            except Exception as e:
                passing = away(e, self.server.uri)
                if passing and not self.server.answers():
                    raise
                if not passing:
                    self.server.check(e)
                if pause is None or not passing:
                    self.server.refused, self.server.refusal = self.server.refused + 1, told(e, REMEDY)
                    break
                time.sleep(pause)
                continue
            self.server.refused = 0
            self.beat()
            return True
        self.refusals.note("artifacts", self.server.refusal)
        return False
