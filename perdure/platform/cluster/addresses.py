"""Addresses of Ray: what is typed is what is spoken to, and whether Ray listens there is known within seconds."""

import json
import os
import re
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from urllib.parse import urlsplit

from ..storage.secrets import masked

VARIABLES = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")  # which Ray prefers to the address that it is given
PATIENCE = 2.5  # seconds


@contextmanager
def as_typed() -> Iterator[None]:
    """A block in which Ray goes by the address that it is given, whatever the environment says."""
    held = {name: os.environ.pop(name) for name in VARIABLES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(held)


def expect_dashboard(address: str) -> None:
    """Raises ValueError where no dashboard of Ray's answers at an address, or it is none."""
    shown, parts = masked(address), urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"expected the address of a Ray dashboard, as http://head:8265, got {shown!r}")
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/api/version", timeout=PATIENCE) as answer:
            known = json.loads(answer.read(10_000))
            is_ray = isinstance(known, dict) and "ray_version" in known
    except urllib.error.HTTPError as e:
        with e:
            is_ray = e.code in (401, 403)  # it asks for a token
    except (OSError, HTTPException) as e:
        why = getattr(e, "reason", e)
        raise ValueError(
            f"no Ray dashboard answers at {shown} ({why}); is the cluster running, and is the address that of its "
            "dashboard, as http://head:8265? A dashboard on a head's own loopback is reached through "
            "ssh -L 8265:127.0.0.1:8265 head"
        ) from None
    except ValueError:
        is_ray = False
    if not is_ray:
        raise ValueError(f"what answers at {shown} is no Ray dashboard; expected one, as http://head:8265")


def expect_head(address: str) -> None:
    """Raises ValueError where no Ray cluster answers at an address that is to be joined."""
    if address in ("auto", "local"):
        return
    shown = masked(address)
    if address.startswith(("http://", "https://")):
        raise ValueError(f"expected the address of a Ray cluster to join, as head:6379, got that of a server, {shown}")
    found = re.fullmatch(r"(?:ray://)?(?:\[([0-9a-fA-F:]+)\]|([^\s:/@]+)):(\d{1,5})/?", address)
    if found is None:
        raise ValueError(f"expected the address of a Ray cluster to join, as head:6379, got {shown!r}")
    where = (found[1] or found[2], int(found[3]))
    hint = "is a cluster running there, and is RAY_AUTH_TOKEN set if it asks for one?"
    try:
        socket.create_connection(where, timeout=PATIENCE).close()
    except (OSError, OverflowError) as e:
        raise ValueError(f"no Ray cluster answers at {shown}; {hint} ({e})") from None
    if not address.startswith("ray://") and os.environ.get("RAY_USE_TLS", "0") in ("0", "") and not _speaks(where):
        raise ValueError(f"what answers at {shown} is no Ray cluster; expected the port of its head, as head:6379")


def _speaks(where: tuple[str, int]) -> bool:
    """Whether it answers as Ray's head does, which is a gRPC server."""
    import grpc

    host, port = where
    channel = grpc.insecure_channel(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    try:
        grpc.channel_ready_future(channel).result(timeout=PATIENCE)
    except grpc.FutureTimeoutError:
        return False
    finally:
        channel.close()
    return True
