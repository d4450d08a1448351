"""Streams over other streams: what goes where, exactly, and what stays as it was."""

from itertools import chain

import pytest
import torch

from perdure.notation import NotationError
from perdure.strategies.metrics import summary
from perdure.strategies.names import strategy
from perdure.strategies.training.loop import learn
from perdure.strategies.training.optimizers import Adam
from perdure.strategies.training.plan import Bookmark, Milestone, Plan
from perdure.streams.names import STREAMS, stream_recipe
from perdure.streams.scenarios.drifting import TRAIN, Drifting
from perdure.streams.storage.directories import Places
from perdure.testing.equality import same

from ...strategies.learners import learner


def made(text):
    recipe = stream_recipe(text)
    return recipe.arrange(recipe.source().load(Places(None)))


def rows(split):
    """Samples as something that can be counted."""
    x, y, _ = split.everything()
    return sorted(zip(map(tuple, x.flatten(1).tolist()), y.tolist(), strict=True))


def together(experiences):
    return sorted(chain.from_iterable(rows(e.train) for e in experiences))


PLAIN = "split(digits)"
WRAPPED = {
    "blurry": "blurry(split(digits), 0.2)",
    "online": "online(split(digits), 7)",
    "repeated": "repeated(split(digits), 3, seed=1)",
    "noisy": "noisy(split(digits), 0.3)",
    "long_tailed": "long_tailed(split(digits), 20)",
    "imbalanced": "imbalanced(split(digits, 2), (1, 1, 0.5, 1, 1, 0.1, 0, 1, 1, 1))",
    "drifting": "drifting(split(digits))",
    "swiss_roll": "swiss_roll(4)",
    "flipped": "flipped(split(digits), 0.2)",
    "backdoored": "backdoored(split(digits), 4, share=0.3)",
}


@pytest.mark.parametrize("text", WRAPPED.values(), ids=WRAPPED)
def test_the_same_text_makes_the_same_stream_in_any_order_of_asking(text):
    one, two = made(text), made(text)
    assert len(one) == len(two)
    backwards = [two[i] for i in reversed(range(len(two)))]
    for a, b in zip(one, reversed(backwards), strict=True):
        assert a.index == b.index and same([*a.train.everything()], [*b.train.everything()])
        assert same([*a.test.everything()], [*b.test.everything()])


@pytest.mark.parametrize("text", [t.replace("split(digits)", "split(digits, seed=3)") for t in WRAPPED.values()])
def test_every_label_can_be_answered_in_training_and_in_tests(text):
    stream = made(text)
    for i in range(len(stream)):
        heads = stream.heads(i)
        if heads is not None:
            assert heads[stream[i].train.batch(torch.arange(len(stream[i]))).task, stream[i].train.y].all()
            for j in stream.tested(i):
                test = stream[j].test.everything()
                assert heads[test.task, test.y].all()


@pytest.mark.parametrize("text", WRAPPED.values(), ids=WRAPPED)
def test_every_strategy_kind_learns_it_and_goes_on_from_anywhere(text):
    stream, plan, method = made(text), Plan(1, 32), strategy("rehearsal(40) + lwf")
    adam = Adam(0.01)

    def run(checkpoint=None, due=lambda: False):
        one = learner(stream)
        one.optimizer = adam
        return list(learn(stream, one, method, plan, checkpoint, due))

    whole = run()
    assert [s.experience for s in whole] == list(range(len(stream.marks)))
    assert 0 <= summary([s.accuracy for s in whole], whole[0].baseline)["accuracy"] <= 1
    marked = run(due=lambda: True)
    assert same([s.checkpoint for s in marked if isinstance(s, Milestone)], [s.checkpoint for s in whole])
    for stone in [s for s in marked if isinstance(s, Bookmark)][3::23]:
        rest = run(stone.checkpoint)
        assert same(rest[-1].checkpoint, whole[-1].checkpoint) and rest[-1].accuracy == whole[-1].accuracy


def test_blurry_deals_out_a_share_of_every_class_evenly():
    plain, blurred = made(PLAIN), made(WRAPPED["blurry"])
    assert together(blurred) == together(plain)
    for t, experience in enumerate(blurred):
        own = plain[t].train.y.bincount(minlength=10)
        counts = experience.train.y.bincount(minlength=10)
        for label in range(10):
            total = int(plain[label // 2].train.y.bincount(minlength=10)[label])
            away = round(0.2 * total)
            if own[label]:
                assert counts[label] == total - away
            else:
                assert away // 4 <= counts[label] <= -(-away // 4)
        assert rows(experience.test) == rows(plain[t].test)
    assert blurred.heads(0).all()
    assert rows(made("blurry(split(digits), 0)")[2].train) == rows(plain[2].train)


def test_online_cuts_into_small_experiences_and_tests_at_the_ends():
    plain, online = made(PLAIN), made(WRAPPED["online"])
    assert online.tests is not None and len(online.marks) == 5
    assert {len(e) for e in online} == {7, 8}
    assert together(e for e in online if e.task == 0) == rows(plain[0].train)
    assert [e.task for e in online] == sorted(e.task for e in online)
    assert online.tested(0) == () and online.tested(online.marks[1]) == online.marks[:2]
    assert rows(online[online.marks[2]].test) == rows(plain[2].test)


def test_an_optimizer_lives_from_mark_to_mark():
    stream, made_ = made("online(split(digits, 2), 50)"), []
    one = learner(stream)

    def counted(params):
        made_.append(1)
        return Adam(0.01)(params)

    one.optimizer = counted
    list(learn(stream, one, strategy("naive"), Plan(1, 10)))
    assert len(stream) > 20 and len(made_) == 2


def test_repeated_brings_all_back_in_rounds():
    plain, again = made(PLAIN), made(WRAPPED["repeated"])
    tasks = [e.task for e in again]
    assert tasks[:5] == [0, 1, 2, 3, 4] and sorted(tasks[5:10]) == sorted(tasks[10:]) == tasks[:5]
    assert tasks[5:10] != tasks[:5] and [e.index for e in again] == list(range(15))
    assert rows(again[7].train) == rows(plain[tasks[7]].train)
    assert [e.task for e in made("repeated(split(digits, 2))")] == [0, 1, 0, 1]


@pytest.mark.parametrize("kind", ["symmetric", "pair"])
def test_noise_is_exactly_the_share_and_stays_within_the_experience(kind):
    plain, noisy = made("split(digits, 2)"), made(f"noisy(split(digits, 2), 0.3, kind={kind!r})")
    steps = torch.zeros(5)
    for a, b in zip(plain, noisy, strict=True):
        old, new = a.train.y, b.train.y
        assert (old != new).sum() == round(0.3 * len(old))
        assert set(new.tolist()) == set(old.tolist())
        assert torch.equal(a.train.everything().x, b.train.everything().x) and torch.equal(a.test.y, b.test.y)
        steps += ((new - old) % 5).bincount(minlength=5)
    assert (steps[1:] > 40).all() if kind == "symmetric" else steps[2:].sum() == 0
    with pytest.raises(ValueError, match="experience 0 has one class only"):
        made("noisy(split(digits, 10))")[0]


def test_long_tails_fall_exponentially_by_the_ratio():
    plain, tailed = made("split(digits, 1)"), made("long_tailed(split(digits, 1), 50, shuffled=False)")
    for k, (a, b) in enumerate(zip(plain[0].train.y.bincount(), tailed[0].train.y.bincount(), strict=True)):
        assert b == max(1, round(float(a) * 50 ** (-k / 9)))
    shuffled = made("long_tailed(split(digits, 1), 50, seed=4)")[0].train.y.bincount()
    assert shuffled.argsort(descending=True).tolist() != list(range(10))
    assert torch.equal(tailed[0].test.y, plain[0].test.y)


def test_imbalance_is_as_it_is_given():
    plain, thin = made("split(digits, 2)"), made(WRAPPED["imbalanced"])
    before, after = (sum(e.train.y.bincount(minlength=10) for e in s) for s in (plain, thin))
    shares = torch.tensor([1, 1, 0.5, 1, 1, 0.1, 0, 1, 1, 1])
    assert after.tolist() == [max(1, round(float(n * s))) for n, s in zip(before, shares, strict=True)]


def test_drift_is_gradual():
    stream = made("drifting(permuted(digits, 3), width=1, parts=4)")
    plain = made("permuted(digits, 3)")
    whole = [set(map(tuple, e.train.everything().x.flatten(1).tolist())) for e in plain]
    shares = []
    for experience in stream:
        x = list(map(tuple, experience.train.everything().x.flatten(1).tolist()))
        shares.append([sum(row in past for row in x) / len(x) for past in whole])
    assert len(stream) == 12 and sum(len(e) for e in stream) == 3 * len(plain[0])
    second = [s[1] for s in shares]
    assert second[:2] == [0, 0] and second[5:7] == [pytest.approx(1, abs=0.15)] * 2
    # over the boundary at time 1 the share of the second rises by time - 0.5: 1/8 and 3/8 before, 5/8 and 7/8 after
    assert second[2:6] == pytest.approx([0.125, 0.375, 0.625, 0.875], abs=0.05)
    sharp = Drifting(stream_recipe("permuted(digits, 3)"), width=0, parts=1)
    assert [set(sharp._parts(e, TRAIN, 3).tolist()) for e in plain] == [{0}, {1}, {2}]


def test_rolls_are_two_spirals_cut_by_angle():
    stream = made("swiss_roll(4, samples=200, noise=0)")
    assert len(stream) == 4 and stream.protocol == "domain" and stream.shape == (2,)
    last = 0.0
    for experience in stream:
        x, y, _ = experience.train.everything()
        assert x.dtype == torch.float32 and y.bincount().tolist() == [200, 200]
        radius = (x - 0.5).norm(dim=1)
        assert radius.min() >= last - 1e-4  # each task lies outside the one before
        last = float(radius.max()) - 1e-3
        angle = torch.atan2(*(x - 0.5).flip(1).T) - torch.pi * y
        along = (radius - 0.08) / 0.4
        wanted = torch.pi * (0.5 + 4 * along)
        torch.testing.assert_close(torch.cos(angle - wanted), torch.ones(400), atol=1e-3, rtol=0)
    noisy = made("swiss_roll(4, noise=0.05)")
    assert not torch.equal(
        noisy[0].train.everything().x, made("swiss_roll(4, noise=0.05, seed=1)")[0].train.everything().x
    )


def test_they_nest():
    stream = made("noisy(blurry(repeated(permuted(digits, 3))), 0.1)")
    assert len(stream) == 6 and [e.task for e in stream] == [0, 1, 2, 0, 1, 2]
    assert len(made("online(noisy(split(digits)), 20)").marks) == 5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("blurry(split(digits, protocol='task'))", "tells them apart; use protocol='class' or 'domain'"),
        ("drifting(split(digits, protocol='task'))", "tells them apart"),
        ("blurry(split(digits), 1.5)", r"share must be in \[0, 1\], got 1.5"),
        ("noisy(digits)", "stream must be a Recipe, got digits"),
        ("noisy(split(digits), kind='odd')", "kind must be 'symmetric' or 'pair'"),
        ("online(split(digits), 1)", "size must be at least 2"),
        ("repeated(split(digits), 0)", "times must be at least 1"),
        ("long_tailed(split(digits), 0.5)", "ratio must be at least 1"),
        ("imbalanced(split(digits), (2,))", r"share 0 must be in \[0, 1\]"),
        ("drifting(split(digits), width=3)", r"expected width in \[0, 2\]"),
        ("swiss_roll(0)", "expected sections >= 1"),
    ],
)
def test_what_does_not_fit_is_refused(text, said):
    with pytest.raises(NotationError, match=said):
        stream_recipe(text)


def test_a_wrong_count_of_shares_is_told_with_the_data():
    with pytest.raises(ValueError, match="expected a share for each of 10 classes, got 2"):
        made("imbalanced(split(digits), (1, 0.5))")


def test_every_stream_is_tried_here_or_with_the_recipes():
    assert set(STREAMS) - set(WRAPPED) >= {"split", "permuted", "rotated", "assigned"}
    assert set(WRAPPED) <= set(STREAMS)
