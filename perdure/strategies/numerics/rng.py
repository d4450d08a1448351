"""Random streams by name: adding a consumer never shifts the numbers that another one draws."""

import hashlib

import torch


class Rng:
    """Generators derived from a seed and a path, as `Rng(0).fold(3)["order"]`: nothing to checkpoint.

    Every generator lives on the CPU, so that a run on a GPU draws the same numbers.
    """

    def __init__(self, seed: int, *path: int | str):
        self.key = (seed, *path)
        self._streams: dict[str, torch.Generator] = {}

    def fold(self, *steps: int | str) -> "Rng":
        return Rng(*self.key, *steps)

    def __getitem__(self, name: str) -> torch.Generator:
        if name not in self._streams:
            self._streams[name] = torch.Generator().manual_seed(self.integer(name))
        return self._streams[name]

    def integer(self, name: str) -> int:
        """A number in [0, 2**63) that this path and `name` give."""
        digest = hashlib.sha256(repr((*self.key, name)).encode()).digest()
        return int.from_bytes(digest[:8], "little") >> 1

    def seed_torch(self) -> None:
        """Let torch's own streams, which dropout and its like draw from, go on from this path."""
        torch.default_generator.manual_seed(self.integer("torch"))
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(self.integer("torch"))
