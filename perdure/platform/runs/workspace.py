"""Where a run happens: settings of this machine, no part of what the run is."""

from dataclasses import dataclass
from pathlib import Path

from ..storage.locations import absolute, is_url, local_copy
from .any_run import AnyRun
from .verification import whole_files

PICTURES, ERROR = "pictures", "error.txt"  # in a run's folder


@dataclass(frozen=True)
class Site:
    home: str = "perdure-runs"  # folder of all results; of an address of remote storage, the local copy
    data: str | None = None  # folder to look for data in first
    plugins: tuple[str, ...] = ()  # Python files that register names of their own
    every_seconds: float | None = 60.0  # between checkpoints inside an experience
    every_steps: int | None = None  # the same, in steps
    profile: bool = False  # tell where the time of every run goes
    workers: int = 1  # of a run of its own process, that share its work
    storage: str = ""  # address of the remote storage that home is a copy of
    together: bool | None = None  # whether runs that differ in numbers are learned at once; None where it pays

    def __post_init__(self):
        """Paths are this process's: actors are at work in other folders."""
        if is_url(self.home):
            object.__setattr__(self, "storage", absolute(self.home))
            object.__setattr__(self, "home", local_copy(self.home))
        object.__setattr__(self, "home", absolute(self.home))
        object.__setattr__(self, "plugins", tuple(map(absolute, self.plugins)))

    @property
    def runs(self) -> Path:
        return Path(self.home) / "runs"

    def folder(self, run: AnyRun) -> Path:
        return self.runs / run.id

    def pictures(self, run: AnyRun) -> list[Path]:
        """What a run has drawn of itself, in order."""
        return whole_files(self.folder(run), f"{PICTURES}/*.png")


PROFILE = "profile"  # in a run's folder
