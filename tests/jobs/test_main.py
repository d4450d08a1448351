"""The command line as its users meet it."""

import inspect
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from io import StringIO
from pathlib import Path

import pytest
from typer.testing import CliRunner

from perdure.jobs import boundary, main, options
from perdure.platform.api import compare
from perdure.platform.studies import settings

from ..servers import answers

QUICK = ["--epochs", "1", "--here", "--no-tracking"]
# A shell lets what it starts in the background ignore Ctrl-C, a whole test run too, and children inherit that.
INTERRUPTIBLE = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from perdure.jobs.main import main; main()"
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def perdure(*words: str):
    return CliRunner().invoke(main.app, [*words], env={"COLUMNS": "140"})


def refused(*words: str) -> str:
    """What is said; nothing but a message, and code 2."""
    told = perdure(*words)
    assert told.exit_code == 2, told.output
    assert "Traceback" not in told.output and told.stdout == ""
    return " ".join(told.stderr.replace("│", " ").split())


def test_compare_prints_a_table_a_report_and_what_to_do_next(folder):
    told = perdure("compare", "naive", "rehearsal(50)", "--seeds", "2", *QUICK)
    assert told.exit_code == 0, told.output
    lines = told.stdout.splitlines()
    assert any(line.split()[:1] == ["strategy"] for line in lines)
    assert {line.split()[0] for line in lines if "±" in line} == {"naive", "rehearsal(50)"}
    report = Path(next(line for line in lines if line.startswith("report: ")).removeprefix("report: "))
    assert report.is_relative_to(folder) and report.read_text().count("<svg") == 3
    assert lines[-1] == "next:   perdure ui"
    assert "[4/4] rehearsal(50) seed 1: accuracy" in told.stderr
    assert "\x1b" not in told.output


def test_json_is_all_that_standard_output_holds():
    told = perdure("compare", "naive", "--seeds", "3,5", "--json", *QUICK)
    known = json.loads(told.stdout)
    assert [run["seed"] for run in known["runs"]] == [3, 5]
    assert known["league"][0]["strategy"] == "naive" and known["league"][0]["forward_transfer"]["mean"] is None
    assert len(known["runs"][0]["matrix"]) == 5
    assert known["command"].endswith("--seeds 3,5,")


def test_typed_again_it_is_known_already():
    perdure("run", "naive", *QUICK)
    told = perdure("run", "naive", *QUICK)
    assert "known from before" in told.stderr and told.exit_code == 0
    told = perdure("run", "naive", "--again", *QUICK)
    assert "known from before" not in told.stderr and told.exit_code == 0


def test_the_line_that_is_told_makes_the_same_runs():
    import shlex

    known = json.loads(
        perdure("compare", "ewc(3)", "naive", "--seeds", "2", "--json", "--steps", "4", *QUICK[2:]).stdout
    )
    words = shlex.split(known["command"])[1:]
    told = perdure(*words, "--json", *QUICK[2:])
    assert told.stderr.count("known from before") == 4
    assert [r["id"] for r in json.loads(told.stdout)["runs"]] == [r["id"] for r in known["runs"]]


def test_a_run_that_fails_is_code_1_and_says_why():
    told = perdure("compare", "naive", "--optimizer", "sgd(1e30)", *QUICK)
    assert told.exit_code == 1
    assert "failed: naive seed 0: the loss became" in told.stdout and "Traceback" not in told.output


def test_generate_tells_measures_and_where_pictures_are(folder):
    told = perdure("generate", "cvae(3, hidden=(16,), steps=20)", "--no-tracking")
    assert told.exit_code == 0, told.output
    for text in ("cvae(3, hidden=(16,), steps=20) on digits", "agreement", "log likelihood", "nats each", "report: "):
        assert text in told.stdout
    known = json.loads(perdure("generate", "cvae(3, hidden=(16,), steps=20)", "--no-tracking", "--json").stdout)
    assert known["measures"]["classes"] >= 1 and Path(known["report"]).is_relative_to(folder)
    failed = perdure("generate", "autoencoder(3, lr=1e30, bounds=None, steps=100)", "--no-tracking")
    assert failed.exit_code == 1 and "failed: loss of Autoencoder became" in failed.stderr
    assert "did you mean 'vae'" in refused("generate", "vea")


def test_show_tells_of_a_run():
    known = json.loads(perdure("run", "rehearsal(50)", "--json", *QUICK).stdout)["runs"][0]
    told = perdure("show", known["id"][:8])
    assert told.exit_code == 0
    assert "rehearsal(50)" in told.stdout and "finished" in told.stdout and "perdure run 'rehearsal(50)'" in told.stdout
    assert json.loads(perdure("show", known["id"], "--json").stdout) == known


def test_show_tells_of_a_run_with_names_of_ones_own():
    own = str(Path(__file__).parents[2] / "examples" / "own_model.py")
    words = ("naive", "--on", "split(rings, 2)", "--model", "bottleneck", "--plugin", own)
    known = json.loads(perdure("run", *words, "--json", *QUICK).stdout)["runs"][0]
    assert f"--plugin {own}" in perdure("show", known["id"], "--plugin", own).stdout.split("make it again:")[1]


def test_show_tells_what_a_strategy_tells_of_itself():
    words = ("gpm(0.9) + interference", "--on", "permuted(digits, 3)", "--optimizer", "sgd(0.1)", "--json", *QUICK)
    known = json.loads(perdure("run", *words).stdout)["runs"][0]
    told = perdure("show", known["id"]).stdout
    ranks = told.split("rank/1 after each experience:")[1].split("\n")[1].split()
    assert len(ranks) == 3 and 0 < float(ranks[0]) < float(ranks[2])
    assert "cosine between the gradients of experiences" in told and "1.00" in told


@pytest.mark.filterwarnings("always::perdure.strategies.training.requirements.Caution")
def test_a_strategy_that_cannot_do_it_is_cautioned_once():
    told = perdure("compare", "ewc(2)", "rehearsal(20) + ewc(2)", "--seeds", "2", "--json", *QUICK)
    assert told.stderr.count("caution: ewc(2) holds on to what was learned") == 1 and told.stderr.count("caution") == 1
    assert list(json.loads(told.stdout)["cautions"]) == ["ewc(2)"]


def test_list_has_every_name_with_parameters_and_paper():
    told = perdure("list")
    for text in (
        "split(dataset, experiences=5",
        "fashion_mnist",
        "ewc(strength=100",
        "arXiv:1612.00796",
        "resnet18(width",
    ):
        assert text in told.stdout
    known = json.loads(perdure("list", "--json").stdout)
    assert {e["name"] for e in known["strategies"]} >= {"naive", "joint", "cumulative", "rehearsal", "ewc", "lwf"}
    assert all(e["about"] for group in known.values() for e in group)
    assert [list(group) for group in [json.loads(perdure("list", "ewc", "--json").stdout)]] == [["strategies"]]
    assert "did you mean 'ewc'" in refused("list", "ewq")


def test_a_recipe_holds_arguments_and_the_line_goes_before_it(folder):
    Path("mine.yaml").write_text(
        "strategies: [naive, 'rehearsal(50)']\non: split(digits, 2)\nseeds: [4]\n"
        "epochs: 1\nhere: true\ntracking: false\n"
    )
    known = json.loads(perdure("compare", "--recipe", "mine.yaml", "seeds=2", "--json").stdout)
    assert [(r["strategy"], r["seed"], r["epochs"]) for r in known["runs"]] == [
        ("naive", 0, 1), ("rehearsal(50)", 0, 1), ("naive", 1, 1), ("rehearsal(50)", 1, 1),
    ]  # fmt: skip
    assert {r["stream"] for r in known["runs"]} == {"split(digits, experiences=2)"}
    known = json.loads(perdure("compare", "ewc", "--recipe=mine.yaml", "--json").stdout)
    assert [(r["strategy"], r["seed"]) for r in known["runs"]] == [("ewc", 4)]
    known = json.loads(perdure("run", "epochs=1", "here=true", "tracking=no", "on=rotated(digits, 2)", "--json").stdout)
    assert known["runs"][0]["stream"] == "rotated(digits, tasks=2)"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["compare", "rehersal(5)"], "unknown name 'rehersal', did you mean 'rehearsal'?"),
        (["run", "mine(0.1)"], "a name of your own? its file goes with the line: --plugin FILE"),
        (["compare", "rehearsal(5"], "not readable"),
        (["run", "ewc(strenght=3)"], "ewc has no argument 'strenght', did you mean 'strength'?"),
        (["run", "--on", "split(digits, 11)"], "experiences must be at most 10, the classes of the data, got 11"),
        (["run", "--on", "digits"], "expected a stream such as split(digits)"),
        (["run", "--on", "split(images('nowhere'))"], "nowhere was not found"),
        (["run", "--model", "mlp(0)"], "widths must be at least 1"),
        (["run", "--optimizer", "adam(-1)"], "lr must be above 0"),
        (["run", "--optimizer", "adam(betas=(0.9, 1.0))"], "moments must decay by factors in [0, 1), got (0.9, 1.0)"),
        (["run", "--optimizer", "sgd(momentum=-0.1)"], "moments must decay by factors in [0, 1), got (-0.1,)"),
        (["run", "--optimizer", "adamw(weight_decay=-1)"], "weight_decay must be at least 0, got -1"),
        (["run", "--epochs", "0"], "epochs must be at least 1"),
        (["run", "--epochs", "many"], "Invalid value for '--epochs'"),
        (["compare", "--seeds", "a"], "expected a number of seeds"),
        (["compare", "--seeds", "0"], "expected a seed at least, got 0"),
        (["compare", "sed=3"], "no argument 'sed', did you mean 'seeds'?"),
        (["compare", "--recipe", "nowhere.yaml"], "the recipe nowhere.yaml cannot be read"),
        (["compare", "--slots", "0"], "expected 1 or more, got 0"),
        (["run", "--plugin", "nowhere.py"], "no plugin at nowhere.py"),
        (["show", "123"], "expected the id of one run"),
        (["resume"], "no command in perdure-runs to go on with"),
        (["resume", "123"], "expected the id of one run"),
        (["ui"], "nothing has been tracked"),
        (["ui", "--tracking-uri", "http://127.0.0.1:1"], "is a server already"),
        (["nonsense"], "No such command 'nonsense'"),
    ],
)
def test_a_mistake_is_told_in_words(words, said):
    assert said in refused(*words, *([] if words[0] not in ("run", "compare") else ["--no-tracking"]))


@pytest.mark.parametrize(
    ("text", "said"), [("- a", "expected the recipe"), ("a: [", "is not YAML"), ("sed: 1", "did you mean")]
)
def test_a_recipe_that_is_none_is_refused(text, said):
    Path("mine.yaml").write_text(text)
    assert said in refused("run", "--recipe", "mine.yaml")


def test_python_and_the_command_line_have_the_same_defaults():
    shell = inspect.signature(main.compare).parameters
    for name, value in inspect.signature(compare.compare).parameters.items():
        if name in shell and name not in ("strategies", "seeds"):
            assert shell[name].default == value.default, name
    own = inspect.signature(settings.How).parameters
    for name in set(own) & set(shell) - {"plugins"}:
        assert shell[name].default == own[name].default, name
    python = inspect.signature(compare.compare).parameters
    assert tuple(options.DEMO) == python["strategies"].default and options.seeds(shell["seeds"].default) == 3
    for name, value in inspect.signature(main.run).parameters.items():
        if name in shell and name != "here":
            assert value.default == shell[name].default, name


def test_help_brings_no_torch_and_shows_examples():
    code = "import sys, perdure.jobs.app; print({'torch', 'ray', 'mlflow', 'numpy'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "set()"
    assert 'naive "rehearsal(500)" "rehearsal(500) + ewc(100)"' in " ".join(perdure("compare", "--help").stdout.split())


def test_version_names_what_it_runs_on():
    assert [line.split()[0] for line in perdure("version").stdout.splitlines()] == [
        "perdure", "python", "torch", "ray", "mlflow",
    ]  # fmt: skip


def test_an_interrupt_before_there_are_runs_is_told_of(capsys):
    with pytest.raises(SystemExit) as left, boundary.bounded():
        raise KeyboardInterrupt
    assert left.value.code == 130
    assert capsys.readouterr().err == "interrupted; the same line, typed again, makes what is lacking\n"


def test_ctrl_c_stops_cleanly_and_resume_goes_on(folder):
    """The command in a process group of its own, interrupted as a terminal does it."""
    program = [sys.executable, "-W", "ignore", "-c", INTERRUPTIBLE]
    words = ["compare", "naive", "--seeds", "2", "--epochs", "120", "--save-every", "0.2", "--here", "--no-tracking"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    running = subprocess.Popen([*program, *words], **pipes)
    end = time.monotonic() + 180
    while not list(folder.glob("perdure-runs/runs/*/checkpoint-*")):
        assert time.monotonic() < end and running.poll() is None
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGINT)
    out, err = running.communicate(timeout=180)
    assert running.returncode == 130, err
    assert "stopped; go on with: perdure resume" in out and "Traceback" not in err
    told = perdure("resume")
    assert told.exit_code == 0, told.output
    assert "goes on from its checkpoint (attempt 2)" in told.stderr and "[2/2] naive seed 1" in told.stderr


def test_ui_serves_mlflow_on_loopback_until_it_is_interrupted(folder):
    perdure("run", "naive", "--epochs", "1")
    program = [sys.executable, "-W", "ignore", "-c", INTERRUPTIBLE, "ui"]
    with socket.socket() as taken:  # the port that is asked for
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True, "start_new_session": True}
        running = subprocess.Popen([*program, "--port", str(port)], **pipes)
        assert running.stdout
        url = next(word for word in running.stdout.readline().split() if word.startswith("http://127.0.0.1:"))
        assert url != f"http://127.0.0.1:{port}"
    try:
        answers(f"{url}/health")
    finally:
        os.killpg(running.pid, signal.SIGINT)
        running.communicate(timeout=180)
    with pytest.raises(OSError):
        urllib.request.urlopen(f"{url}/health", timeout=5)


def test_a_terminal_sees_a_bar_for_every_strategy():
    from rich.console import Console

    from perdure.jobs.live_progress import Lines, Live, watch
    from perdure.platform.runs.events import Failed, Finished, Lost, Reached, Started
    from perdure.platform.runs.study import Command

    command = Command.grid(["naive", "ewc"], [0, 1])
    screen = StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    first, second = command.runs[0].id, command.runs[1].id
    assert isinstance(watch(command, console), Live)
    assert isinstance(watch(command, Console(file=StringIO())), Lines)
    with watch(command, console) as shown:
        shown(Started(first, 1, "here:1", False, 5))
        shown(Reached(first, {"experience": 0, "accuracy": [0.5, 0.0]}, 1.0))
        shown(Lost(first, "its actor died"))
        shown(Finished(first, False))
        shown(Failed(second, "diverged", "the loss became nan"))
    seen = screen.getvalue()
    for text in ("naive", "ewc", "50.0 %", "1/2", "its actor died; another actor goes on with it", "loss became nan"):
        assert text in seen


def test_a_meta_learner_is_made_and_answers_a_task(folder):
    import shlex

    words = ["maml", "--iterations", "40", "--batch", "4", "--tested", "20", "--here", "--no-tracking"]
    told = perdure("meta", *words, "--seeds", "2")
    assert told.exit_code == 0, told.output
    (row,) = (line.split() for line in told.stdout.splitlines() if "±" in line)
    assert row[0] == "maml" and row.count("±") == 5  # losses after 0, 1, 5 and 10 steps, and seconds
    assert "[2/2] maml seed 1: loss" in told.stderr
    known = json.loads(perdure("meta", *words, "--seeds", "2", "--json").stdout)
    assert known["league"][0]["steps"] == [0, 1, 5, 10] and len(known["runs"][0]["journal"]) == 20
    again = perdure(*shlex.split(known["command"])[1:], "--here", "--no-tracking")
    assert again.stderr.count("known from before") == 2
    run = known["runs"][0]["id"]
    Path("task.csv").write_text("x,y\n0,1\n1,2\n2,\n3,\n")
    told = perdure("adapt", run, "--data", "task.csv", "--steps", "3")
    assert told.exit_code == 0 and ": 3 steps, loss" in told.stdout
    said = json.loads(perdure("adapt", run, "--data", "task.csv", "--json").stdout)
    assert [one["query"] for one in said["answers"]] == ["row 3", "row 4"]
    assert "validation loss before" in perdure("show", run).stdout
    (folder / "perdure-runs" / "runs" / run / "finished").unlink()
    assert "is not finished" in refused("adapt", run, "--data", "task.csv")


def test_a_meta_learner_that_does_not_fit_is_refused():
    assert "did you mean 'maml'" in refused("meta", "mammal", "--here")
    assert "prototypes are of classes" in refused("meta", "protonets", "--here")
    assert "expected whole numbers" in refused("meta", "--adapted", "one,two")


@pytest.mark.usefixtures("cluster")
def test_tune_prints_trials_the_best_again_and_what_to_do_next(folder):
    import shlex

    words = ["tune", "rehearsal(choice(10, 40))", "--on", "split(digits, 2)", "--model", "mlp(8)", "--trials", "2"]
    words += ["--by", "grid", "--steps", "3", "--fresh", "2", "--slots", "1", "--no-tracking"]
    known = json.loads(perdure(*words, "--json").stdout)
    assert len(known["trials"]) == 2 and known["best"] == [known["trials"][0]["number"]]
    assert known["finals"][0]["league"][0]["seeds"] == [1, 2]
    told = perdure(*shlex.split(known["command"])[1:], "--slots", "1", "--no-tracking")
    assert told.exit_code == 0, told.output
    lines = told.stdout.splitlines()
    assert "trial 2: rehearsal.capacity = 40: finished: " in told.stderr and told.stderr.count("known from before") == 2
    assert sum(line.split()[-2:-1] == ["finished"] for line in lines) == 2
    assert any("±" in line and line.split()[0].startswith("rehearsal(") for line in lines)
    assert f"report: {known['report']}" in lines and Path(known["report"]).is_relative_to(folder)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ewc(5)"], "nothing to search for: no choice, uniform, loguniform, quniform, randint in it"),
        (["ewc(loguniform(1, 1e4)"], "not readable"),
        (["rehearsal(uniform(1, 9))"], "rehearsal.capacity = 1.0: capacity must be a whole number"),
        (["ewc(uniform(1, 2))", "--objective", "acc"], "unknown objective 'acc'; known: accuracy, forgetting"),
        (["ewc(uniform(1, 2))", "--first", "6"], "first asks for 6 experiences, and the stream has 5"),
        (["ewc(uniform(1, 2))", "--by", "gird"], "by must be one of random, grid, optuna, got 'gird'"),
        (["protonets", "--model", "mlp(choice(8, 9))", "--on", "sinusoid"], "prototypes are of classes"),
    ],
)
def test_a_search_that_cannot_be_is_refused(words, said):
    told = refused("tune", *words, "--no-tracking")
    assert said in told and "Traceback" not in told


def test_python_and_the_command_line_search_with_the_same_defaults():
    from perdure.platform.api.tune import tune

    shell = inspect.signature(main.tune).parameters
    for name, value in inspect.signature(tune).parameters.items():
        if name in shell and name not in ("method", "objective"):
            assert shell[name].default == value.default, name
