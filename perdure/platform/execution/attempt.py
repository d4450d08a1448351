"""One attempt at a run: from its newest checkpoint to its end, as a series of events."""

import os
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from ...errors import asks_to_leave, foreseen, place, why, words
from ...limits import is_out_of_memory
from ...strategies.numerics.divergence import Diverged
from ...strategies.numerics.own_code import combined
from ...streams.datasets.dataset import Dataset
from ..runs.any_run import AnyRun
from ..runs.events import Event, Failed, Finished, Kept, Reached, Repaired, Started
from ..runs.journal import Journal
from ..runs.record import begin, finished, known_divergence, picture, resumable, told
from ..runs.verification import FINISHED, run_json_problem, seal_problem, seal_run
from ..runs.workspace import ERROR, PICTURES, Site
from ..storage import signals as ends
from ..storage.background_saver import Saving
from ..storage.checkpoints import Fenced, Store
from ..storage.disk_space import full, is_full
from ..storage.locations import JOB, line_for
from ..workloads.kinds import workload
from ..workloads.work import Work

ALONE = "Expected more than 1 value per channel when training"  # torch's words for a batch of one


def attempt_run(
    run: AnyRun,
    site: Site,
    dataset: Dataset | None,
    alive: Callable[[], None] = lambda: None,
    part: Work | None = None,
) -> Iterator[Event]:
    """Make `run`, or go on with it, or tell of it again where it is finished, or known to diverge.

    alive: called after every step. part: its work, where that is done together with others'. Whatever goes wrong ends
    in a Failed event; KeyboardInterrupt is raised.
    """
    folder = site.folder(run)
    if finished(run, site):
        yield from told(run, site)
        return
    if message := known_divergence(folder):
        for reached in Journal(folder).rows():
            yield Reached(run.id, reached, None)
        yield Failed(run.id, "diverged", message)
        return
    store = Store(folder)
    attempt = store.claim()
    journal = Journal(folder, attempt)
    try:
        yield from _unsealed(run, folder)
        begin(run, site)
        yield from _attempt(run, site, dataset, store, journal, attempt, alive, part)
    except Fenced as e:
        yield Failed(run.id, "taken", f"{e}: somebody else is making this run now")
    except (Exception, SystemExit) as e:
        if isinstance(e, SystemExit) and not asks_to_leave(e):
            raise
        if store.newest() != attempt:  # whoever took the run over has removed what this attempt was writing
            yield Failed(run.id, "taken", f"attempt {attempt} of {run.id} was taken over: {type(e).__name__}: {e}")
            return
        reason, message = _judged(e, folder)
        try:
            (folder / ERROR).write_text(traceback.format_exc())
            journal.note(event="failed", time=time.time(), kind=reason, message=message)
        except OSError:
            pass  # the disk is full: that is the failure already
        yield Failed(run.id, reason, message)


def _attempt(run, site, dataset, store, journal, attempt, alive, part):
    torch.set_num_threads(run.threads)
    folder, data = site.folder(run), dataset.fingerprint if dataset is not None else ""
    work = part or workload(run).work(run, dataset, alive, site)
    checkpoint, rows = resumable(store, journal)
    if data != (run.data or (checkpoint or {}).get("data", data)):
        raise ValueError(
            f"the data behind {run.on} have changed since this run began; "
            "bring the old data back, or type its line again, which makes another run of the new data"
        )
    if run.code and run.code != combined(*run.texts()):
        raise ValueError(f"the code behind names in {run.method} on {run.on} has changed since this run was asked for")
    if checkpoint is None and run.after:
        raise ValueError(f"this run goes on from {run.after} with other settings, and its own beginning is gone")
    if checkpoint is None and store.files():
        problem = "; ".join(journal.damage()) or "no checkpoint is whole, or none has the journal's rows before it"
        yield Repaired(run.id, f"{problem}; the run is made anew, to the same bits")
    journal.begin(rows)
    for reached in rows:
        yield Reached(run.id, reached, None)
    where = f"{socket.gethostname()}:{os.getpid()}"
    yield Started(run.id, attempt, where, checkpoint is not None, work.length)
    journal.note(event="start", time=time.time(), where=where, data=data)
    count, about = len(rows), {"run": run.id, "data": data, "threads": run.threads}
    with Saving(store.save) as saving:
        for step in work.steps(checkpoint, Due(site, alive, saving.check)):
            if step.row is not None:
                store.guard(attempt)
                journal.add(step.row)
                journal.note(event="milestone", time=time.time(), experience=count, seconds=step.seconds)
                count += 1
                for name, figure in step.figures.items():
                    picture(folder / PICTURES, name, figure)
            vouched = {"rows": count, "journal": journal.head}
            saving.give(step.checkpoint | about | vouched, attempt, step.place)
            if step.row is not None:  # now, and not once it is saved: where that fails, the same is told again
                yield Reached(run.id, step.row, step.seconds)
            else:
                yield Kept(run.id, step.share, step.where)
            if part is None and ends.asked():  # the block's end waits for the checkpoint
                raise ends.Ended
    store.guard(attempt)
    journal.end()
    seal_run(store.folder, journal, attempt)
    journal.clear()
    journal.note(event="end", time=time.time())
    yield Finished(run.id, False)


def _unsealed(run: AnyRun, folder: Path) -> Iterator[Event]:
    """A run whose seal does not hold is no finished one; what is wrong with its rows and run.json is told."""
    problems = Journal(folder).damage()
    if (folder / FINISHED).exists() and (problem := seal_problem(folder)):
        problems.insert(0, problem)
        (folder / FINISHED).unlink()
    if (folder / "run.json").exists() and (problem := run_json_problem(folder)):
        problems.append(problem)
        (folder / "run.json").unlink()
    if problems:
        yield Repaired(run.id, f"{'; '.join(dict.fromkeys(problems))}; the run goes on from what is whole")


class Due:
    """Asks for a checkpoint every so many seconds or steps, and shows that the run is alive.

    check: raises what a save before has come to: a run whose checkpoints cannot be kept goes no further.
    """

    def __init__(self, site: Site, alive: Callable[[], None], check: Callable[[], None] = lambda: None):
        self.site, self.alive, self.check, self.step, self.last = site, alive, check, 0, time.monotonic()

    def __call__(self) -> bool:
        self.alive()
        self.check()
        self.step += 1
        by_time = self.site.every_seconds is not None and time.monotonic() - self.last >= self.site.every_seconds
        if ends.asked() or by_time or (self.site.every_steps and self.step % self.site.every_steps == 0):
            self.last = time.monotonic()
            return True
        return False


def _judged(error: BaseException, folder: Path) -> tuple[str, str]:
    if isinstance(error, Diverged):
        return "diverged", str(error)
    if is_full(error):
        return "disk", f"{full(folder)}; the checkpoints before are whole: make room, and {line_for('resume')} goes on"
    if is_out_of_memory(error):
        return "user", f"it needs more memory than there is ({words(error)}); take a smaller model or batch_size"
    if isinstance(error, ValueError) and ALONE in str(error):
        return "user", (
            "a batch of one sample cannot be normalised by the batch; take a batch_size of 2 or more, experiences of "
            "several samples, or a model without batch normalisation, as mlp or convnet"
        )
    if isinstance(error, ValueError | FileNotFoundError) and foreseen(error):
        where = place(error)
        return "user", f"{type(error).__name__}: {error} ({where})" if where else str(error)
    where = f"runs/{folder.name}/{ERROR} of its results" if os.environ.get(JOB) else folder / ERROR
    return "error", f"{why(error)}; the traceback is in {where}"
