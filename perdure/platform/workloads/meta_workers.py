"""Workers that share the meta-batches of a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ...strategies.meta.base import Params, Told
from ...strategies.meta.loop import Share, gradient_of, one_part
from ...strategies.meta.names import meta_learner
from ...strategies.numerics.rng import Rng
from ...streams.episodes import Episodes, Tasks
from ..runs import plugins
from ..runs.meta_run import MetaRun, judged_model
from ..runs.workspace import Site


@contextmanager
def sharing_workers(run: MetaRun, tasks: Tasks, site: Site, still: Params) -> Iterator[Share]:
    """Ray actors that reckon the parts of every meta-batch; which of them does changes no bit."""
    import ray

    from ..cluster import connection

    ours, workers = connection.connect(), site.workers
    remote: Any = ray.remote
    try:
        connection.slots(workers, run.threads, 0.0)
        made = remote(num_cpus=run.threads)(Sharer)
        kept = {k: v.cpu().numpy() for k, v in still.items()}
        given = (run, tasks.shape, tasks.outputs, tasks.classes, site.plugins, kept)
        actors = [made.remote(*given) for _ in range(workers)]
        try:
            ray.get([actor.ready.remote() for actor in actors])

            def share(learned: dict[str, Params], parts: list[Episodes], rng: Rng) -> list[Told]:
                held = ray.put({k: {n: v.cpu().numpy() for n, v in part.items()} for k, part in learned.items()})
                shares = [list(range(len(parts)))[n::workers] for n in range(workers)]
                asked = [
                    actor.told.remote(held, [(n, [v.cpu().numpy() for v in parts[n]]) for n in own], rng.key)
                    for actor, own in zip(actors, shares, strict=True)
                ]
                every = {n: told for got in ray.get(asked) for n, told in got}
                return [_told(every[n], run.device) for n in range(len(parts))]

            yield share
        finally:
            for actor in actors:
                ray.kill(actor)
    finally:
        if ours:
            connection.disconnect()


class Sharer:
    """In an actor: what parts of a meta-batch say, to the same bits as at home."""

    def __init__(
        self,
        run: MetaRun,
        shape: tuple[int, ...],
        outputs: int,
        classes: int | None,
        modules: tuple[str, ...],
        still: dict[str, Any],
    ):
        plugins.load(modules)
        torch.set_num_threads(run.threads)
        self.run = run
        model, loss = judged_model(run, shape, outputs, classes)
        model.load_state_dict({k: torch.tensor(v) for k, v in still.items()}, strict=False)
        self.gradient = gradient_of(meta_learner(run.learner), loss, run.plan.compiled)

    def ready(self) -> None:
        pass

    def told(self, learned, parts, key) -> list[tuple[int, tuple]]:
        device = self.run.device
        here = {k: {n: torch.tensor(v, device=device) for n, v in part.items()} for k, part in learned.items()}
        made = []
        for n, part in parts:
            episodes = Episodes(*(torch.tensor(v, device=device) for v in part))
            told = one_part(self.gradient, here, episodes, Rng(*key), n)
            total = {k: {m: v.detach().cpu().numpy() for m, v in own.items()} for k, own in told.total.items()}
            made.append((n, (total, told.losses.cpu().numpy(), told.finite.cpu().numpy())))
        return made


def _told(arrays: tuple, device: str) -> Told:
    total, losses, finite = arrays
    there = {k: {n: torch.tensor(v, device=device) for n, v in part.items()} for k, part in total.items()}
    return Told(there, torch.tensor(losses, device=device), torch.tensor(finite, device=device))
