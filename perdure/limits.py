"""How large things may be: reckoned, and compared with the memory of this machine, before anything is allocated."""

import os
import re
import sys
from functools import cache
from pathlib import Path

LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))  # of a container

THREADS = 1024  # of a run


class TooLarge(ValueError):
    """More memory is asked for than this machine has. The message has both."""


@cache
def memory() -> int:
    """Bytes of memory that this machine, or container, has."""
    limits = [int(text) for path in LIMITS if path.is_file() and (text := path.read_text().strip()).isdecimal()]
    return min(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *limits, sys.maxsize)


def expect_room(what: str, needs: float) -> None:
    """Raises TooLarge where `what`, which takes `needs` bytes, cannot fit into memory."""
    if needs > memory():
        raise TooLarge(f"{what}: needs about {size(needs)} of memory, this machine has {size(memory())}")


def expect_machine(threads: int, device: str) -> None:
    """Raises ValueError for a number of threads that no machine gives a run, and for what names no device."""
    if not 1 <= threads <= THREADS:
        raise ValueError(f"threads must be from 1 to {THREADS}, got {threads}")
    if not re.fullmatch(r"(cpu|cuda|mps|xpu)(:\d{1,3})?", device):
        raise ValueError(f"device must be cpu or cuda, or one of several, as cuda:1, got {device!r}")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether something was to be larger than the memory of this machine, or of its GPU."""
    said = ("can't allocate memory", "out of memory", "Storage size calculation overflowed")
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(s in str(error) for s in said))


def size(count: float) -> str:
    """A number of bytes in its decimal unit.

    >>> size(24_900_000_000), size(482), size(1e13), size(1e40)
    ('25 GB', '482 bytes', '10 TB', 'more than 1000 EB')
    """
    if count < 1000:
        return f"{count:.0f} bytes"
    for unit in ("kB", "MB", "GB", "TB", "PB", "EB"):
        count /= 1000
        if count < 999.5:
            return f"{count:.2g} {unit}" if count < 10 else f"{count:.0f} {unit}"
    return "more than 1000 EB"
