"""Avalanche's strategies: as Avalanche runs them, and to be killed at any moment."""

import copy
import io
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from perdure.notation import NotationError
from perdure.strategies import metrics
from perdure.strategies.avalanche import state
from perdure.strategies.avalanche.strategy import AvalancheStrategy, _seed
from perdure.strategies.names import spelled, strategy
from perdure.strategies.training.loop import learn
from perdure.strategies.training.optimizers import Adam
from perdure.strategies.training.plan import Milestone, Plan
from perdure.streams.scenarios.avalanche import benchmark_of
from perdure.testing.equality import same
from perdure.testing.streams import blobs

from ..learners import learner

PLAN = Plan(epochs=2, batch_size=20)
OF_AVALANCHE = (
    "avalanche('Naive')",
    "avalanche('Replay', mem_size=30)",
    "avalanche('EWC', ewc_lambda=10)",
    "avalanche('EWC', ewc_lambda=10, mode='online', decay_factor=0.5)",
    "avalanche('GEM', patterns_per_exp=20)",
    "avalanche('AGEM', patterns_per_exp=20, sample_size=16)",
    "avalanche('LwF', alpha=1.0, temperature=2)",
    "avalanche('GDumb', mem_size=40)",
    "avalanche('SynapticIntelligence', si_lambda=0.1)",
    "avalanche('MAS')",
    "avalanche('CWRStar', cwr_layer_name='3')",
    "avalanche('DER', mem_size=30, beta=0.5)",
    "avalanche('ER_ACE', mem_size=30)",
    "avalanche('ICaRL', memory_size=30, buffer_transform=None, fixed_memory=True)",
    "avalanche('Cumulative')",
    "avalanche('FromScratchTraining')",
    "avalanche('MIR', mem_size=30, subsample=20, batch_size_mem=10)",
    "avalanche('MER', mem_size=30)",
    "avalanche('ER_AML', mem_size=120, batch_size_mem=10)",
    "avalanche('GSS_greedy', mem_size=100, input_size=(16,))",
    "avalanche('CoPE', mem_size=30, n_classes=6, p_size=6)",
)
WITH_TASKS = ("avalanche('Naive')", "avalanche('EWC', ewc_lambda=10)", "avalanche('LwF', alpha=1.0, temperature=2)")
WITH_TASKS += ("avalanche('Replay', mem_size=30)", "avalanche('SynapticIntelligence', si_lambda=0.1)")
CASES = [(text, "class") for text in OF_AVALANCHE] + [(text, "task") for text in WITH_TASKS]


def stones(stream, text, plan=PLAN, checkpoint=None, due=lambda: False) -> list[Milestone]:
    return [
        s for s in learn(stream, learner(stream), strategy(text), plan, checkpoint, due) if isinstance(s, Milestone)
    ]


def through_a_file(checkpoint):
    file = io.BytesIO()
    torch.save(checkpoint, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize(("text", "protocol"), CASES)
def test_a_killed_run_goes_on_at_the_end_of_every_experience(text, protocol):
    stream = blobs(protocol=protocol)
    whole = stones(stream, text)
    assert [s.experience for s in whole] == [0, 1, 2]
    for k in (0, 1):
        torch.manual_seed(99)  # another process
        rest = stones(stream, text, checkpoint=through_a_file(whole[k].checkpoint))
        assert same(rest[-1].checkpoint, whole[-1].checkpoint)
        assert [(s.accuracy, s.loss, s.baseline) for s in rest] == [
            (s.accuracy, s.loss, s.baseline) for s in whole[k + 1 :]
        ]


@pytest.mark.parametrize(
    ("name", "arguments"), [("Naive", {}), ("Replay", {"mem_size": 30}), ("GDumb", {"mem_size": 30})]
)
def test_it_is_what_avalanche_does_by_hand(name, arguments):
    from avalanche.evaluation.metrics import accuracy_metrics, bwt_metrics, forgetting_metrics
    from avalanche.logging import BaseLogger
    from avalanche.training import supervised
    from avalanche.training.plugins import EvaluationPlugin

    class Silent(BaseLogger):
        """Where there is none it warns."""

    stream = blobs(protocol="class")
    measured = EvaluationPlugin(
        accuracy_metrics(experience=True, stream=True),
        bwt_metrics(stream=True),
        forgetting_metrics(stream=True),
        loggers=[Silent()],
    )
    one, benchmark = learner(stream), benchmark_of(stream)
    method = vars(supervised)[name](
        model=one.model,
        optimizer=one.optimizer(one.model.parameters()),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=PLAN.batch_size,
        train_epochs=PLAN.epochs,
        evaluator=measured,
        **arguments,
    )
    before = copy.deepcopy(method).eval(benchmark.test_stream)
    matrix, told = [], {}
    for i, experience in enumerate(benchmark.train_stream):
        _seed(one.rng.fold(i).integer("avalanche"))
        # Avalanche calls functions that it calls deprecated, and switches their warnings on against any filter
        with warnings.catch_warnings(record=True) as heard:
            method.train(experience, eval_streams=[], num_workers=0, drop_last=False)
        assert all(w.category is DeprecationWarning and "avalanche" in Path(w.filename).parts for w in heard)
        told = method.eval(benchmark.test_stream)
        matrix.append(_accuracies(told))
    ours = stones(stream, spelled(AvalancheStrategy(name, tuple(arguments.items()))))
    assert [s.accuracy for s in ours] == [pytest.approx(row[: i + 1]) for i, row in enumerate(matrix)]
    assert ours[0].baseline == pytest.approx(_accuracies(before)[:1])
    assert same(ours[-1].checkpoint["model"], {k: v.detach() for k, v in method.model.state_dict().items()})

    rows = [s.accuracy for s in ours]
    assert metrics.average_accuracy(rows) == pytest.approx(_one(told, "Top1_Acc_Stream"))  # tests of equal size
    assert metrics.backward_transfer(rows) == pytest.approx(_one(told, "StreamBWT"))
    assert -metrics.backward_transfer(rows) == pytest.approx(_one(told, "StreamForgetting"))


@pytest.mark.parametrize("seed", range(5))
def test_measures_are_avalanches_on_the_same_matrix(seed):
    from avalanche.evaluation.metrics import BWT, Forgetting, ForwardTransfer

    drawn = torch.rand(5, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).tolist()
    baseline, matrix = drawn[0], drawn[1:]
    theirs = {cls: cls() for cls in (BWT, Forgetting, ForwardTransfer)}
    for i in range(4):
        theirs[BWT].update(i, matrix[i][i], initial=True)
        theirs[Forgetting].update(i, matrix[i][i], initial=True)
        theirs[ForwardTransfer].update(i, baseline[i], initial=True)
    for i in range(3):
        theirs[BWT].update(i, matrix[3][i])
        theirs[Forgetting].update(i, matrix[3][i])
        theirs[ForwardTransfer].update(i + 1, matrix[i][i + 1])
    told = {cls: sum(one.result().values()) / 3 for cls, one in theirs.items()}
    assert metrics.backward_transfer(matrix) == pytest.approx(told[BWT])
    assert metrics.forward_transfer(matrix, baseline) == pytest.approx(told[ForwardTransfer])
    assert told[Forgetting] == pytest.approx(-told[BWT])  # Avalanche's forgetting is since an experience was learned,
    assert (
        metrics.forgetting(matrix) >= told[Forgetting] - 1e-12
    )  # ours since the best there was (Chaudhry et al. 2018)


def test_forgetting_since_the_best_is_more_than_since_it_was_learned():
    matrix = [[0.6, 0.1, 0.1], [0.8, 0.7, 0.1], [0.5, 0.6, 0.9]]
    assert metrics.forgetting(matrix) == pytest.approx((0.3 + 0.1) / 2)
    assert -metrics.backward_transfer(matrix) == pytest.approx((0.1 + 0.1) / 2)  # what Avalanche says


@pytest.mark.parametrize("keep", [True, False])
def test_the_optimizer_starts_afresh_or_is_kept_as_it_says(keep):
    stream = blobs(protocol="task")  # the same loss as ours there
    plan = Plan(epochs=1, batch_size=120)  # and one order

    def run(text, checkpoint=None):
        one = learner(stream)
        one.optimizer = Adam(0.01, keep=keep)
        return list(learn(stream, one, strategy(text), plan, checkpoint))

    theirs, ours = run("avalanche('Naive')"), run("naive")
    assert theirs[-1].loss == pytest.approx(ours[-1].loss, rel=1e-4)
    assert same(run("avalanche('Naive')", through_a_file(theirs[0].checkpoint))[-1].checkpoint, theirs[-1].checkpoint)


def test_steps_are_counted_and_the_run_shows_itself_alive():
    stream, asked = blobs(protocol="class"), []
    text = "avalanche('Naive')"
    stones(stream, text, Plan(batch_size=20, steps=3), due=lambda: bool(asked.append(1)))
    assert len(asked) == 9


def test_other_tasks_are_shut_in_training_as_with_us():
    stream = blobs(protocol="task")
    plan = Plan(epochs=8, batch_size=20)
    theirs, ours = stones(stream, "avalanche('Naive')", plan), stones(stream, "naive", plan)
    assert theirs[0].loss == pytest.approx(ours[0].loss, rel=0.2)
    assert theirs[-1].accuracy == pytest.approx(ours[-1].accuracy, abs=0.1)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("avalanche('Reply')", "no strategy 'Reply'; it has .*Replay"),
        ("avalanche('Replay', memory=3)", "no argument 'memory'; it takes .*mem_size"),
        ("avalanche('GEM')", r"needs patterns_per_exp: avalanche\('GEM', patterns_per_exp=...\)"),
        ("avalanche('JointTraining')", "use joint"),
    ],
)
def test_what_cannot_run_is_refused_before(text, complaint):
    with pytest.raises(ValueError, match=complaint):
        strategy(text).init(learner(blobs()))


def test_a_loop_that_would_never_end_is_refused():
    with pytest.raises(ValueError, match="waits for ever.*mem_size=120"):
        stones(blobs(protocol="class"), "avalanche('ER_AML', mem_size=30)")


def test_its_arguments_are_kept_in_the_text():
    one = strategy("avalanche('Replay', mem_size=30, batch_size_mem=8)")
    assert one == AvalancheStrategy("Replay", (("batch_size_mem", 8), ("mem_size", 30)))
    assert strategy(spelled(one)) == one
    with pytest.raises(NotationError, match="twice"):
        strategy("avalanche('Replay', mem_size=30, mem_size=31)")


def test_it_is_no_stage_of_ours():
    with pytest.raises(NotationError, match="cannot be added"):
        strategy("rehearsal(30) + avalanche('Naive')")


def test_what_cannot_be_written_down_is_named():
    one = AvalancheStrategy("Naive").made(learner(blobs()), PLAN)
    one.clock.thread = object()
    with pytest.raises(state.NotKnown, match=r"strategy\.\S+\.thread is a builtins.object"):
        state.told(one)


def test_only_classes_of_avalanche_are_looked_up():
    one = AvalancheStrategy("Replay", (("mem_size", 3),)).made(learner(blobs()), PLAN)
    told = state.told(one)
    told["value"]["train_epochs"] = {"kind": "object", "class": "subprocess:Popen", "value": {}}
    with pytest.raises(state.NotKnown, match="none of Avalanche's"):
        state.restore(one, told)


def _accuracies(told) -> list[float]:
    return [_one(told, f"Top1_Acc_Exp/eval_phase/test_stream/Task000/Exp{i:03d}") for i in range(3)]


def _one(told, name) -> float:
    (value,) = [v for k, v in told.items() if name in k]
    return value
