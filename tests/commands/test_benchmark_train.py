"""Part train of the benchmark: steps in processes of their own, and the same step in all."""

import itertools
import operator
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import torch

from nowcast.benchmarks.own_process import OwnProcess, own_processes
from nowcast.benchmarks.train import plain_step
from nowcast.benchmarks.training_step import StepShape, own_step
from nowcast.errors import InputError

PROC = Path("/proc")
needs_proc = pytest.mark.skipif(
    not (PROC / "self" / "task").is_dir(), reason="only Linux tells of other processes"
)


def works(function, *arguments):
    """What a child builds into `partial(function, *arguments)`."""
    return partial(partial, function, *arguments)


def fields_of(process):
    """Of /proc/PID/stat, the state first; None once the process is gone."""
    try:
        return (PROC / str(process) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def runs(process):
    # Nobody may be there to take note of an orphan's end: it stays as a zombie.
    return (fields_of(process) or "Z")[0] not in "ZX"


def process_of(own_process):
    return own_process._process.pid


def children_of(process):
    tasks = (PROC / str(process) / "task").glob("*/children")
    return {int(child) for task in tasks for child in task.read_text().split()}


def wait_until(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_work_lives_on_in_one_process_of_its_own():
    counting = works(next, itertools.count(7))
    with own_processes({"process": works(os.getpid), "count": counting}) as processes:
        children = {processes["process"]() for _ in range(3)}
        counted = [processes["count"]() for _ in range(3)]
        asked = processes["count"].ask(operator.attrgetter("func.__name__"))
    assert len(children) == 1
    assert os.getpid() not in children
    assert counted == [7, 8, 9]
    assert asked == "next"
    wait_until(lambda: not runs(*children))


def test_failures_of_the_work_are_one_line_that_names_it():
    wrong = partial(StepShape, (4, 6, 6), 31, 2, 3, 4)
    expected = "side: found 31, expected a multiple of 30"
    with pytest.raises(InputError, match=expected), own_processes({"wrong": wrong}):
        pass
    with own_processes({"division": works(operator.truediv, 1, 0)}) as processes:
        with pytest.raises(ChildProcessError) as raised:
            processes["division"]()
        assert str(raised.value) == "division: ZeroDivisionError: division by zero"


@pytest.mark.parametrize("moment", ["while it works", "before it is asked"])
def test_a_killed_process_is_named(moment):
    work = works(signal.raise_signal, signal.SIGKILL)
    with own_processes({"a step": work}) as processes:
        if moment == "before it is asked":
            child = process_of(processes["a step"])
            os.kill(child, signal.SIGKILL)
            wait_until(lambda: not runs(child))
        with pytest.raises(ChildProcessError, match=r"^a step: its process was killed"):
            processes["a step"]()


@needs_proc
def test_a_step_that_waits_uses_no_cpu_time(monkeypatch):
    """Nor do threads that helped it: those of OpenMP may spin until there is work again."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)

    def cpu_seconds(process):
        return sum(map(int, fields_of(process)[11:13])) / os.sysconf("SC_CLK_TCK")

    step = partial(own_step, StepShape((4, 6, 6), 60, 2, 1, 1), torch.device("cpu"), bf16=False)
    with own_processes({"step": step}) as processes:
        process = process_of(processes["step"])
        for _ in range(2):
            processes["step"]()
        worked = cpu_seconds(process)
        time.sleep(1.0)
        waited = cpu_seconds(process) - worked
    # A thread that spins takes a second of it, or what share of a core it gets.
    assert waited <= 0.05


@needs_proc
def test_a_process_ends_with_a_killed_parent_even_while_it_works():
    code = (
        "import sys, time\n"
        "from functools import partial\n"
        "from nowcast.benchmarks.own_process import own_processes\n"
        "with own_processes({'sleep': partial(partial, time.sleep, 600)}) as processes:\n"
        "    print('built', flush=True)\n"
        "    processes['sleep']()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline() == b"built\n"
        children = children_of(parent.pid)
        assert children
        parent.kill()
    wait_until(lambda: not any(map(runs, children)), seconds=30)


@needs_proc
@pytest.mark.slow
def test_ctrl_c_ends_command_and_processes_in_one_line():
    """It reaches the whole process group, as a terminal sends it."""
    arguments = ["train", "--hidden=[4, 6, 6]", "--side=30", "--batch=1", "--repeats=100000"]
    command = "import sys; from nowcast.commands.benchmark import main; sys.exit(main())"
    parent = subprocess.Popen(
        [sys.executable, "-c", command, *arguments, "--variants=[plain fp32, ours bf16]"],
        start_new_session=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        # Progress is told only once the rounds run.
        assert "training steps" in parent.stderr.readline()
        children = children_of(parent.pid)
        assert len(children) >= 2
        os.killpg(parent.pid, signal.SIGINT)
        out, err = parent.communicate(timeout=60)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(parent.pid, signal.SIGKILL)
    assert parent.returncode == 130
    assert out == ""
    lines = [line for line in err.splitlines() if not line.startswith("training steps: ")]
    assert len(lines) == 1, err
    assert lines[0].startswith("interrupted")
    wait_until(lambda: not any(map(runs, children)), seconds=30)


@pytest.mark.parametrize("settings", [{}, {"inputs_at_once": True}, {"memory_kept": True}])
def test_plain_steps_and_ours_train_the_same_network(settings):
    """Float32 on both sides: losses of several updates agree to rounding, weights as far."""
    shape, cpu = StepShape((4, 6, 6), 30, 2, 3, 4), torch.device("cpu")
    plain, ours = plain_step(shape, cpu, **settings), own_step(shape, cpu, bf16=False)
    first = [p.detach().clone() for p in ours.network.parameters()]
    for number in range(3):
        plain()
        ours()
        assert float(plain.loss) == pytest.approx(float(ours.loss), rel=2e-6), number
    moved = [
        float((p.detach() - before).abs().max())
        for p, before in zip(ours.network.parameters(), first, strict=True)
    ]
    assert min(moved) > ours.settings.learning_rate / 2
    for theirs, mine in zip(plain.network.parameters(), ours.network.parameters(), strict=True):
        torch.testing.assert_close(theirs, mine, rtol=0, atol=1e-6)


def test_a_process_is_closed_while_it_works():
    process = OwnProcess("sleep", works(time.sleep, 600))
    process.wait()
    child = process_of(process)
    process._pipe.send(operator.call)
    process.close()
    assert not runs(child)
