"""Command lines as jobs of a Ray cluster: what travels, what is started, how it is followed and how it ended."""

import asyncio
import json
import logging
import os
import shlex
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ..cluster.addresses import as_typed, expect_dashboard
from ..storage.locations import DASHBOARD, JOB, STORAGE
from ..storage.secrets import masked
from .parcel import ADDRESS, WHOLE, Parcel, lay, lay_package, sent_variables
from .print_files import contents, printed

if TYPE_CHECKING:
    from .fetch import Fetched

GOING = ("PENDING", "RUNNING")
STOPPED = 130
FETCHING = "fetch-"  # before the ids of jobs that only hand files over
PATIENCE = 30.0  # seconds after which a job that does not start is spoken of


@dataclass(frozen=True)
class Job:
    id: str
    status: str  # PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED
    line: str
    begun: float  # seconds since 1970
    ended: float | None
    message: str
    code: int | None  # its command's exit code, once it has ended
    sent: Mapping[str, str] = field(default_factory=dict)  # of its environment, what says where its results go

    @property
    def going(self) -> bool:
        return self.status in GOING


class Cluster:
    """The jobs of a Ray cluster, behind the address of its dashboard. Raises ValueError where it does not answer."""

    def __init__(self, address: str = ADDRESS):
        self.address = address.rstrip("/")
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # the token goes along below, whatever the mode is here
        from ray.job_submission import JobSubmissionClient

        for name in ("dashboard.modules.dashboard_sdk", "dashboard.modules.job.sdk", "_private.runtime_env.packaging"):
            logging.getLogger(f"ray.{name}").setLevel(logging.WARNING)  # they tell what they upload, every time
        known = token()
        expect_dashboard(self.address)
        with self._plainly(), as_typed():
            self._client: Any = JobSubmissionClient(
                self.address, headers={"Authorization": f"Bearer {known}"} if known else None
            )

    def submit(self, parcel: Parcel) -> tuple[Job, bool]:
        """Start a job, unless the same is going already; whether it was started now."""
        with self._plainly():
            before = [j for j in self.jobs() if j.id.rpartition("_")[0] == parcel.id]
            going = next((j for j in before if j.going), None)
            if going is not None:
                return going, False
            id = f"{parcel.id}_{len(before) + 1}"
            with TemporaryDirectory(prefix="perdure-") as folder:
                lay(parcel, Path(folder))
                variables = {**parcel.runtime.get("env_vars", {}), **parcel.environment}
                variables |= {JOB: id, DASHBOARD: self.address}
                os.environ["RAY_RUNTIME_ENV_IGNORE_GITIGNORE"] = "1"  # all of it goes along
                try:
                    self._client.submit_job(
                        entrypoint=shlex.join(["python", "-m", "perdure", *parcel.words]),
                        submission_id=id,
                        runtime_env={**parcel.runtime, "working_dir": folder, "env_vars": variables},
                        metadata={"perdure": parcel.line, "sent": json.dumps(sent_variables(parcel))},
                    )
                except RuntimeError as e:
                    if "already been used" not in str(e) and "already exists" not in str(e):
                        raise
                    return self.job(id), False  # somebody was faster by a moment
            return self.job(id), True

    def jobs(self) -> list[Job]:
        """The newest first."""
        with self._plainly():
            known = [d for d in self._client.list_jobs() if d.submission_id]
        every = [_job(d) for d in known if not d.submission_id.startswith(FETCHING)]
        return sorted(every, key=lambda job: -job.begun)

    def job(self, id: str) -> Job:
        """By its id or the beginning of it. Raises ValueError."""
        fits = [job for job in self.jobs() if job.id.startswith(id)]
        exact = [job for job in fits if job.id == id]
        if len(exact or fits) != 1:
            which = "none" if not fits else "several: " + ", ".join(job.id for job in fits)
            raise ValueError(f"expected the id of one job at {self.address}, got {id!r}, which fits {which}")
        return (exact or fits)[0]

    def logs(self, id: str | Job) -> str:
        with self._plainly():
            return self._client.get_job_logs(id.id if isinstance(id, Job) else self.job(id).id)

    def follow(self, id: str, say: Callable[[str], None], hint: Callable[[str], None] = lambda text: None) -> Job:
        """Hand on a job's logs as they are written, until it ends. hint: is told why nothing happens."""
        start, hinted, told = time.monotonic(), False, 0
        while (job := self.job(id)).status == "PENDING":
            if not hinted and time.monotonic() - start > PATIENCE:
                hint(f"{id} is still waiting for the cluster: {job.message}")
                hinted = True
            time.sleep(0.3)
        while job.going:
            with self._plainly():
                try:
                    told = asyncio.run(self._tail(job.id, say, told))
                except (RuntimeError, OSError) as e:  # the connection is gone, and the job goes on
                    hint(f"the logs of {id} broke off ({e}); looking again")
                    time.sleep(1.0)
            job = self._settled(job.id)
        whole = self.logs(job.id)
        say(whole[told:])
        return job

    async def _tail(self, id: str, say: Callable[[str], None], told: int) -> int:
        """Characters of the logs that have been said, after those that were before."""
        heard = 0
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="ssl=None is deprecated")  # that is how Ray asks
            async with aclosing(self._client.tail_job_logs(id)) as chunks:
                async for chunk in chunks:
                    new = chunk[max(0, told - heard) :]
                    heard += len(chunk)
                    if new:
                        say(new)
        return max(told, heard)

    def fetch(self, id: str, to: Path, hint: Callable[[str], None] = lambda text: None) -> "Fetched | None":
        """Bring to a home what a job has come to; None where it has kept nothing yet.

        From its storage, where this machine sees that; otherwise a job of the same cluster prints it. hint: is told
        that it has to. Raises ValueError.
        """
        from ..storage.remote_access import NotSeen
        from .fetch import take, taken_from

        job = self.job(id)
        sent = {**job.sent, STORAGE: job.sent.get(STORAGE) or _home_of(job.line)}
        try:
            if sent[STORAGE] and (made := taken_from(sent[STORAGE], job.id, to)):
                return made
        except (NotSeen, OSError) as e:
            hint(f"{e}. It is not seen from here: the cluster is asked for it")
        (about, *_) = self._printed(job.id, sent, [])
        if "files" not in about:
            return None

        def read(names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
            left = list(names)
            while left:
                came = dict(contents(self._printed(job.id, sent, left)))
                yield from came.items()
                left = [name for name in left if name not in came] if came else []

        return take(about["folders"], about["files"], read, to)

    def _printed(self, id: str, sent: Mapping[str, str], asked: Sequence[str]) -> list[dict[str, Any]]:
        """What a short job says of another's files, on a machine of the cluster. Raises ValueError where it cannot."""
        variables = {k: v for k, v in sent.items() if v and k != WHOLE}
        own = f"{FETCHING}{id}-{uuid4().hex[:8]}"
        with TemporaryDirectory(prefix="perdure-") as folder, self._plainly():
            Path(folder, "asked.json").write_text(json.dumps(asked))
            if WHOLE in sent:
                lay_package(Path(folder))
            self._client.submit_job(
                entrypoint=shlex.join(["python", "-W", "ignore", "-m", "perdure.platform.submission.print_files", id]),
                submission_id=own,
                runtime_env={"working_dir": folder, "env_vars": variables},
                metadata={"perdure": f"perdure fetch {id}"},
            )
            while (details := self._client.get_job_info(own)).status.value in GOING:
                time.sleep(0.3)
            said = list(printed(self._client.get_job_logs(own)))
        if details.status.value != "SUCCEEDED" or not said:
            last = (details.message or "").strip().splitlines()[-1:]
            raise ValueError(
                f"the cluster does not hand over what {id} has come to ({''.join(last)}); fetch where its storage is "
                "seen, with --storage"
            )
        return said

    def _settled(self, id: str) -> Job:
        """A job whose logs have ended, once its end is written down."""
        for _ in range(50):
            job = self.job(id)
            if not job.going:
                break
            time.sleep(0.1)
        return job

    def stop(self, id: str) -> Job:
        """Interrupt a job as Ctrl-C does, and wait until it has ended."""
        job = self.job(id)
        with self._plainly():
            if job.going:
                self._client.stop_job(job.id)
        while job.going:
            time.sleep(0.3)
            job = self.job(job.id)
        return job

    @contextmanager
    def _plainly(self) -> Iterator[None]:
        """What Ray says in a traceback, in words."""
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError as e:
            raise ValueError(_unauthorized(self.address, str(e))) from None
        except ConnectionError as e:
            raise ValueError(f"the Ray dashboard at {self.address} has stopped answering ({e})") from None


def token() -> str | None:
    """$RAY_AUTH_TOKEN, what $RAY_AUTH_TOKEN_PATH holds, or what ~/.ray/auth_token does. Raises ValueError."""
    if given := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return given
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named or "~/.ray/auth_token").expanduser()
    try:
        held = path.read_text().strip()
    except OSError as e:
        if named:
            raise ValueError(f"RAY_AUTH_TOKEN_PATH names {path}, which cannot be read ({e.strerror})") from None
        return None
    if named and not held:
        raise ValueError(f"RAY_AUTH_TOKEN_PATH names {path}, which is empty")
    return held or None


def _unauthorized(address: str, said: str) -> str:
    where = "set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH to a file that holds it, or keep it in ~/.ray/auth_token"
    if token() is None:
        return f"{address} asks for a token, and there is none here: {where}"
    return f"{address} does not take the token that was found here: {where}"


def _home_of(line: str) -> str:
    """The home that a command line names itself, in full; empty where it names none."""
    words = shlex.split(line)
    named = [w.removeprefix("--home=") for w in words if w.startswith("--home=")]
    named += [value for word, value in pairwise(words) if word == "--home"]
    return named[-1] if named else ""


def _job(details: Any) -> Job:
    status, code = str(details.status.value), details.driver_exit_code
    if status == "SUCCEEDED":
        code = 0
    elif status == "STOPPED":
        code = STOPPED
    elif status == "FAILED":
        code = 128 - code if code is not None and code < 0 else code or 1
    else:
        code = None
    known = details.metadata or {}
    line, sent = known.get("perdure") or details.entrypoint, json.loads(known.get("sent") or "{}")
    begun, ended = (details.start_time or 0) / 1000, details.end_time and details.end_time / 1000
    return Job(details.submission_id, status, masked(line), begun, ended, details.message or "", code, sent)
