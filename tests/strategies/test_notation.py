import pytest

from perdure.notation import NotationError, signature
from perdure.strategies.names import MODELS, OPTIMIZERS, STRATEGIES, model, optimizer, spelled, strategy

from ..examples import CHAIN_OF_ALL, EXAMPLES


@pytest.mark.parametrize("text", [*EXAMPLES, "rehearsal(500) + ewc(50)", "ewc(0.5) + lwf(temperature=1.5)"])
def test_a_strategy_prints_back_as_it_was_written(text):
    assert spelled(strategy(text)) == text
    assert hash(strategy(text)) == hash(strategy(text))


def test_a_chain_keeps_its_order():
    assert strategy(spelled(CHAIN_OF_ALL)) == CHAIN_OF_ALL
    assert strategy("ewc + rehearsal(5)") != strategy("rehearsal(5) + ewc")


@pytest.mark.parametrize("text", ["mlp", "mlp(100)", "mlp(64, 64, dropout=0.5)", "convnet(8)", "resnet18(20)"])
def test_a_model_prints_back(text):
    assert spelled(model(text)) == text


@pytest.mark.parametrize("text", ["adam", "adam(0.1)", "sgd(momentum=0.9)", "adam(betas=(0.5, 0.9))"])
def test_an_optimizer_prints_back(text):
    assert spelled(optimizer(text)) == text


def test_two_ways_to_write_one_strategy_are_one_text():
    assert spelled(strategy(" rehearsal( capacity = 500 )+ewc(100.0) ")) == "rehearsal(500) + ewc"


@pytest.mark.parametrize(
    ("text", "problem", "at"),
    [
        ("rehersal(500)", "unknown name 'rehersal', did you mean 'rehearsal'?; known: aae, adversarial, agem", 0),
        ("naive + ewk", "unknown name 'ewk', did you mean 'ewc'", 8),
        ("ewc(strenth=3)", "no argument 'strenth', did you mean 'strength'?", 4),
        (
            "rehearsal(500, selection='best')",
            "selection must be 'balanced' or 'reservoir' or 'herding' or",
            25,
        ),
        ("rehearsal(1.5)", "capacity must be a whole number, got 1.5", 10),
        ("rehearsal(True)", "capacity must be a whole number, got True", 10),
        ("rehearsal", "rehearsal needs capacity", 0),
        ("naive + rehearsal(0)", "capacity must be at least 1, got 0", 8),
        ("ewc(1, 2, 'data', 1, 5)", "ewc takes 4 arguments", 21),
        ("ewc(1, strength=2)", "got strength twice", 7),
        ("ewc(1", "not readable", 3),
        ("ewc(1) + 3", "only strategies can be added", 9),
        ("'é' + ewk", "unknown name 'ewk'", 6),
        ("__import__('os').system('x')", "expected a name", 0),
        ("ewc(strength=(lambda: 1)())", "expected a name", 13),
        ("", "empty text", 0),
    ],
)
def test_an_error_points_at_its_place(text, problem, at):
    with pytest.raises(NotationError) as caught:
        strategy(text)
    assert problem in caught.value.problem
    assert caught.value.at == at
    assert str(caught.value).splitlines()[-1] == "  " + " " * at + "^"


def test_every_name_shows_its_arguments_and_says_what_it_is():
    names = STRATEGIES | MODELS | OPTIMIZERS
    assert signature(STRATEGIES["rehearsal"], names) == "capacity, selection='balanced', replay=None"
    assert signature(MODELS["mlp"], names) == "*widths=(400, 400), dropout=0, winners=0, boost=0, bias=True"
    assert [n for n, cls in names.items() if not cls.__doc__ or cls.__doc__.startswith(cls.__name__ + "(")] == []
