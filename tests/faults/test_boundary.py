"""Whatever a plugin raises, returns or changes is named, costs no more than it must, and never looks like success."""

from __future__ import annotations

import random
import re
import signal
import sys
import threading

import numpy as np
import pytest
import torch

from rosd_kit.cli import main
from rosd_kit.components.localizers import Full
from rosd_kit.errors import ComponentError, RunError, UserInterrupt, is_users_interrupt, own_fault, say
from rosd_kit.faults import Faults, check_located
from rosd_kit.faults.surroundings import ITEMS, Surroundings
from rosd_kit.files import read_json_lines
from rosd_kit.run.interrupts import user_interrupts
from rosd_kit.types import TokenWeights
from tests.faults.test_hostile_plugins import HEALTHY, MORE, PLUGIN
from tests.run.conftest import TINY

ENDS = {
    "SystemExit": "exec('raise SystemExit(0)')",
    "KeyboardInterrupt": "exec('raise KeyboardInterrupt')",
    "GeneratorExit": "exec('raise GeneratorExit')",
    "StopIteration": "next(iter(()))",
    "MemoryError": "exec('raise MemoryError')",
    "RecursionError": "(lambda f: f(f))(lambda f: f(f))",
    "Mute": "exec('raise Mute')",
}
MUTE = """
class Mute(Exception):
    def __str__(self):
        raise ValueError("mute")


"""


@pytest.fixture
def train(tmp_path, capsys, monkeypatch):
    """Run with a plugin in a slot; return the exit code or exception, the errors and the folder."""

    def train(slot, bad, every, *changes, code=None):
        base, method, arguments, good = HEALTHY[slot]
        file, more = tmp_path / "bad.py", MORE.get(slot, "")
        text = PLUGIN.format(base=base, method=method, arguments=arguments, good=good, bad=bad, every=every, more=more)
        file.write_text(text.replace("class Bad", MUTE + "class Bad"))
        sizes = ["steps=2", "sampling.max_new_tokens=8", f"{slot}=bad", "--plugin", str(file)]
        try:
            main(["run", "rosd", *TINY, *sizes, *changes, "--out", str(tmp_path), "--name", "run", "--quiet"])
            result: object = 0
        except SystemExit as exit:
            result = exit.code or 0
        except Exception as error:
            result = error
        return result, capsys.readouterr().err, tmp_path / "run"

    return train


def test_a_component_that_exits_costs_only_its_sample(train):
    """Every third call ends, in another way each time."""
    in_turn = " else ".join(f"({end}) if turn % {len(ENDS)} == {index}" for index, end in enumerate(ENDS.values()))
    code, errors, folder = train("localizer", f"(lambda turn: {in_turn} else 0)(calls // 3)", 3, "problems_per_step=6")
    assert code == 0, errors
    steps = list(read_json_lines(folder / "metrics.jsonl"))
    assert [line["step"] for line in steps] == [1, 2]
    ended = int((folder.parent / "bad.py.calls").read_text()) // 3
    assert sum(line["fault/localizer"] for line in steps) == ended >= len(ENDS)
    assert "localizer 'bad' failed on" in errors and "Traceback" not in errors


@pytest.mark.parametrize("end", ENDS)
def test_a_fault_names_how_a_component_ended(end):
    def call():
        exec(MUTE + ENDS[end], {})

    faults = Faults()
    with user_interrupts():
        assert faults.attempt(Full(), "a rollout", call, lambda value: None) is None
    assert f"localizer 'full' failed on one; first on a rollout: {end}" in faults.messages()[0]


@pytest.mark.parametrize(
    ("slot", "end"),
    [("verifier", "SystemExit"), ("context", "KeyboardInterrupt"), ("context", "GeneratorExit"), ("verifier", "StopIteration")],
)
def test_a_component_that_always_exits_ends_the_run_with_an_error_that_names_it(train, slot, end):
    code, errors, folder = train(slot, ENDS[end], every=1)
    assert code == 2, code
    assert re.search(rf"error: {slot} 'bad' of plugin \S+/bad\.py, in ", errors) and f"raised {end}" in errors
    assert not (folder / "model").exists()


def test_a_component_that_exits_outside_samples_is_named(tmp_path, capsys):
    code, errors = run_class(tmp_path, capsys, "Teacher", "teacher", "def after_step(self, student): raise SystemExit(0)")
    assert code == 2 and re.search(r"error: teacher 'bad' of plugin \S+/bad\.py, in after_step, ", errors)
    assert "in after_step, raised SystemExit: 0" in errors and not (tmp_path / "run/model").exists()


TEACHER = """
    def attach(self, student): ...

    def scoring(self, student):
        import contextlib
        return contextlib.nullcontext((rk.TeacherModel(student.model),))
"""
CLASS = '''
import os, random, signal, sys, warnings
import numpy as np
import torch
import rosd_kit as rk


class Bad(rk.{base}):
    """Bad."""

    name = "bad"
    {more}
    {code}


@rk.hookimpl
def rosd_kit_components():
    return [Bad]
'''
BODIES = {
    "Teacher": TEACHER,
    "Support": "may_change_teacher = True",
    "Divergence": "may_be_negative = True",
    "Correction": 'provides = frozenset({"off_policy"})',
    "Objective": "needs_teacher = True\n    def token_weights(self, sample): return sample.token_weights",
    "Task": 'provides = frozenset({"oracle", "solution"})\n    def suites(self, *, count, seed): return {}',
}


def run_class(tmp_path, capsys, base, slot, code, *changes, name="run"):
    file = tmp_path / "bad.py"
    file.write_text(CLASS.format(base=base, more=BODIES[base], code=code))
    try:
        main(
            [
                "run",
                "rosd",
                *TINY,
                "steps=2",
                "sampling.max_new_tokens=6",
                f"{slot}=bad",
                *changes,
                "--plugin",
                str(file),
                "--out",
                str(tmp_path),
                "--name",
                name,
                "--quiet",
            ]
        )
        return 0, capsys.readouterr().err
    except SystemExit as exit:
        return exit.code or 0, capsys.readouterr().err


KL = "(student.exp() * (student - teacher)).sum(-1)"
PER_TOKEN = "def per_token(self, student, teacher):\n        "
WRONG = {
    "a scalar": ("Divergence", PER_TOKEN + f"return {KL}.mean()", "per_token returned shape [] for"),
    "a forgotten sum": ("Divergence", PER_TOKEN + "return student.exp() * (student - teacher)", "per_token returned shape ["),
    "a list": ("Divergence", PER_TOKEN + f"return {KL}.tolist()", "per_token returned no tensor but ["),
    "integers": ("Divergence", PER_TOKEN + f"return {KL}.long()", "of dtype torch.int64; it must be a floating-point"),
    "NaN": ("Divergence", PER_TOKEN + f"return {KL} * float('nan')", "not finite in the first step, for example nan"),
    "detached": ("Divergence", PER_TOKEN + f"return {KL}.detach() + 1", "returned losses without a gradient"),
    "gradients off": (
        "Divergence",
        PER_TOKEN + f"torch.set_grad_enabled(False)\n        return {KL} + 1",
        "returned losses without a gradient",
    ),
    "changed in place": ("Divergence", PER_TOKEN + f"teacher -= 9\n        return {KL}", "changed its argument '1' in place"),
    "changed by data": (
        "Divergence",
        PER_TOKEN + f"student.data.sub_(9)\n        return {KL}",
        "changed its argument '0' in place",
    ),
    "negative weights": (
        "Correction",
        "def weigh(self, behaviour, current): return -torch.ones_like(current)",
        "weigh returned negative weights, for example -1; an importance weight is",
    ),
    "infinite weights": (
        "Correction",
        "def weigh(self, behaviour, current): return current / 0",
        "weigh returned weights that are not finite in the first step, for example -inf",
    ),
    "one weight": ("Correction", "def weigh(self, behaviour, current): return current.mean()", "weigh returned shape [] for"),
    "a pair": (
        "Support",
        "def project(self, student, teacher, sampled): return student, teacher",
        "project returned no Projection but (",
    ),
    "one row": (
        "Support",
        "def project(self, student, teacher, sampled): return rk.Projection(student[:1, 0], teacher[:1, 0])",
        "whose student has the shape [1] for",
    ),
    "probabilities": (
        "Support",
        "def project(self, student, teacher, sampled): return rk.Projection(student.exp(), teacher.exp())",
        "returned student values that are no log-probs, for example",
    ),
    "student in place": (
        "Objective",
        "def per_token(self, scores):\n        scores.student.detach().mul_(3.0)\n        return -scores.current",
        "per_token changed its argument 'student' in place",
    ),
    "detached losses": ("Objective", "def per_token(self, scores): return -scores.current.detach()", "without a gradient"),
    "an advantage in words": (
        "Objective",
        "def advantage(self, sample): return 'high'\n    def per_token(self, scores): return -scores.current",
        "advantage returned no number but 'high'",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_tensor_of_the_loss_is_an_error_with_component_and_file(tmp_path, capsys, wrong):
    base, code, message = WRONG[wrong]
    exit_code, errors = run_class(tmp_path, capsys, base, base.lower(), code)
    assert exit_code == 2, errors
    assert re.search(rf"error: {base.lower()} 'bad' of plugin \S+/bad\.py: ", errors) and message in errors
    assert not (tmp_path / "run/checkpoints").exists()


@pytest.mark.parametrize("wrong", ["a scalar", "one weight", "detached losses"])
def test_a_dry_run_finds_it_before_a_run(tmp_path, capsys, wrong):
    base, code, message = WRONG[wrong]
    exit_code, errors = run_class(tmp_path, capsys, base, base.lower(), code, "--dry-run")
    assert exit_code == 2, errors
    assert re.search(rf"error: {base.lower()} 'bad' of plugin \S+/bad\.py: ", errors) and message in errors


def test_a_dry_run_asks_the_teacher_and_names_the_plugin_whose_code_raises(tmp_path, capsys):
    nothing = "def scoring(self, student):\n        import contextlib\n        return contextlib.nullcontext(())"
    exit_code, errors = run_class(tmp_path, capsys, "Teacher", "teacher", nothing, "--dry-run")
    assert exit_code == 2 and "scoring yielded no network, so there is no teacher to learn from" in errors
    exit_code, errors = run_class(tmp_path, capsys, "Divergence", "divergence", PER_TOKEN + "return 1 / 0", "--dry-run")
    assert exit_code == 1
    assert re.search(r"ZeroDivisionError: division by zero; raised in divergence 'bad', of plugin \S+/bad\.py", errors)


PROBLEM = "rk.Problem(id={id}, suite='train', messages=(rk.Message(role='user', content='1 + 1 ='),), answer='2')"
BATCHES = {
    "none": ("[]", "train_batch returned no problem for step 0"),
    "nothing": ("None", "train_batch returned no list of problems but None"),
    "text": ("['1 + 1']", "train_batch returned among the problems '1 + 1'"),
    "twice": (f"[{PROBLEM.format(id='1')!s}] * 2".replace("id=1", "id='a'"), "returned 1 ids more than once, the first is 'a'"),
}


@pytest.mark.parametrize("batch", BATCHES)
def test_a_batch_without_problems_or_with_equal_ids_is_an_error(tmp_path, capsys, batch):
    code, message = BATCHES[batch]
    exit_code, errors = run_class(
        tmp_path, capsys, "Task", "task", f"def train_batch(self, *, step, count, seed): return {code}"
    )
    assert exit_code == 2 and re.search(r"error: task 'bad' of plugin \S+/bad\.py: ", errors) and message in errors


def test_a_teacher_without_networks_is_an_error(tmp_path, capsys):
    code = "def scoring(self, student):\n        import contextlib\n        return contextlib.nullcontext(())"
    exit_code, errors = run_class(tmp_path, capsys, "Teacher", "teacher", code)
    assert exit_code == 2 and "scoring yielded no network, so there is no teacher to learn from" in errors


CHANGES = {
    "gradients": "torch.set_grad_enabled(False)",
    "torch's default dtype": "torch.set_default_dtype(torch.float64)",
    "torch's number of threads": "torch.set_num_threads(2)",
    "deterministic algorithms": "torch.use_deterministic_algorithms(True)",
    "cudnn.benchmark": "setattr(torch.backends.cudnn, 'benchmark', True)",
    "the precision of matrix products": "torch.set_float32_matmul_precision('medium')",
    "the working directory": "os.chdir('/')",
    "sys.stdout": "setattr(sys, 'stdout', None)",
    "sys.stderr": "setattr(sys, 'stderr', None)",
    "the environment (ROSD_BAD)": "os.environ.update(ROSD_BAD='1')",
    "warnings filters": "warnings.simplefilter('error')",
    "signal handlers": "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
    "the recursion limit": "sys.setrecursionlimit(5000)",
    "the random state of python": "random.random()",
    "the random state of numpy": "np.random.rand()",
    "the random state of torch": "torch.rand(1)",
}


@pytest.fixture(scope="module")
def undisturbed(run, tmp_path_factory):
    return run(tmp_path_factory.mktemp("runs") / "undisturbed", "steps=2")


def test_what_a_plugin_changes_is_named_and_undone(run, same, tmp_path, undisturbed, warned):
    """All changes in one run: each of them alone would cost a run."""
    file = tmp_path / "bad.py"
    file.write_text(
        CLASS.format(base="Localizer", more="locates = False", code=LOCATE.format(code="; ".join(CHANGES.values())))
    )
    warnings = warned(tmp_path / "run", "steps=2", "localizer=bad", plugins=[file])
    for what in CHANGES:
        [message] = [text for text in warnings if f"changed {what}" in text]
        assert message.startswith(f"localizer 'bad' of plugin {file}")
        assert "in locate; it was put back" in message
    assert torch.is_grad_enabled() and torch.get_default_dtype() is torch.float32
    folder = run(tmp_path / "run", "steps=2", "localizer=bad", plugins=[file], resume=True)
    assert same(folder.weights(), undisturbed.weights())


LOCATE = """
    def locate(self, case):
        {code}
        return rk.TokenWeights(weights=(1.0,) * len(case.rollout.completion.token_ids), outcome="full")
"""


@pytest.mark.parametrize("what", CHANGES)
def test_each_change_is_noticed_and_undone(what):
    import os
    import sys
    import warnings

    names = {"torch": torch, "os": os, "sys": sys, "warnings": warnings, "signal": signal, "random": random, "np": np}
    before, now = Surroundings.now(), [item.read() for item in ITEMS]
    exec(CHANGES[what], names)
    [changed] = before.put_back()
    assert changed.startswith(what)
    assert [item.read() for item in ITEMS] == now and Surroundings.now().put_back() == []


def test_unchanged_surroundings_give_no_warning():
    before = Surroundings.now()
    state = random.getstate()
    random.random()
    random.setstate(state)
    with torch.no_grad():
        pass
    assert before.put_back() == []


def test_a_hook_that_changes_something_is_named(tmp_path, warned):
    file = tmp_path / "hook.py"
    file.write_text("import os\nimport rosd_kit as rk\n\n@rk.hookimpl\ndef rosd_kit_step_end(run): os.chdir('/')\n")
    warnings = warned(tmp_path / "run", "steps=2", plugins=[file])
    [message] = [text for text in warnings if "working directory" in text]
    assert "rosd_kit_step_end changed the working directory" in message and "hook.py" in message


@pytest.mark.parametrize("raised", ["SystemExit(0)", "KeyboardInterrupt", "GeneratorExit"])
def test_a_hook_that_exits_is_named_and_the_run_continues(tmp_path, warned, raised):
    file = tmp_path / "hook.py"
    file.write_text(f"import rosd_kit as rk\n\n@rk.hookimpl\ndef rosd_kit_step_end(run): raise {raised}\n")
    warnings = warned(tmp_path / "run", "steps=1", plugins=[file])
    assert any("rosd_kit_step_end raised" in text and "hook.py" in text for text in warnings)


def test_the_users_interrupt_differs_from_one_that_a_component_raises():
    with user_interrupts():
        assert not is_users_interrupt(KeyboardInterrupt())
        with pytest.raises(UserInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert is_users_interrupt(KeyboardInterrupt())
    try:
        try:
            raise UserInterrupt
        except KeyboardInterrupt:
            raise SystemExit(0)  # noqa: B904
    except SystemExit as error:
        with pytest.raises(SystemExit):
            own_fault(error, "a component")
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(is_users_interrupt(KeyboardInterrupt())))
    thread.start()
    thread.join()
    assert found == [False]


def test_an_error_without_a_text_is_reported():
    class Mute(Exception):
        def __str__(self):
            raise SystemExit(0)

    assert say(Mute()) == "Mute: (no text: its __str__ raised SystemExit)"
    assert isinstance(own_fault(SystemExit(0), "x"), ComponentError) and issubclass(ComponentError, RunError)


def test_a_component_that_always_returns_a_wrong_shape_is_named_with_its_file():
    faults = Faults()
    for rollout in ("a rollout", "another"):
        faults.attempt(Full(), rollout, lambda: TokenWeights(weights=(1.0,), outcome="x"), check_located(2))
    file = sys.modules[Full.__module__].__file__
    text = f"2 of 2; first on a rollout: ValueError: 1 weights for 2 tokens. Mend it in {file}, or choose another localizer."
    with pytest.raises(RunError, match=re.escape(text)):
        faults.raise_if_all_failed()
