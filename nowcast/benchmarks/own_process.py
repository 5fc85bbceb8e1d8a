"""Work in a process of its own: built there once, run there each time it is called.

What one variant does to its process, such as settings of the C library, touches no other, and its
peak memory is its own. Called in turn, variants keep their rounds: while one runs, the others wait,
and waiting takes no CPU time.
"""

import gc
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection
from typing import Any

from nowcast.errors import InputError

SPAWN = get_context("spawn")


class OwnProcess:
    """A child process that does one piece of work as often as it is asked to.

    It never hears of Ctrl-C, and ends when this process does.

    Args:
        name: of the work, for messages.
        build: makes the work, something to be called; it runs in the child, where its module is
            imported anew.
    """

    def __init__(self, name: str, build: Callable[[], Callable[[], object]]) -> None:
        self.name = name
        self._pipe, childs = SPAWN.Pipe()
        self._process = SPAWN.Process(target=_serve, args=(childs, name, build), daemon=True)
        with _ctrl_c_waiting():
            self._process.start()
        childs.close()

    def wait(self) -> None:
        """Return when the work is built, which is before the first question.

        Raises:
            InputError: the child raised one.
            ChildProcessError: it failed otherwise, or was killed.
        """
        self._answer()

    def __call__(self) -> Any:
        """Do the work once; what it returns. Raises as `wait` does."""
        return self.ask(_run)

    def ask(self, question: Callable[[Any], Any]) -> Any:
        """What `question` returns of the work, in the child. Raises as `wait` does."""
        # A child that is gone says so where its answer is read.
        with suppress(BrokenPipeError):
            self._pipe.send(question)
        return self._answer()

    def close(self) -> None:
        """End the child, whatever it does."""
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def _answer(self) -> Any:
        try:
            answer, error = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            raise ChildProcessError(
                f"{self.name}: its process was killed (out of memory?)"
            ) from None
        if error is not None:
            raise error
        return answer


@contextmanager
def own_processes(
    builds: Mapping[str, Callable[[], Callable[[], object]]],
) -> Iterator[dict[str, OwnProcess]]:
    """Processes by the names of their work, all of it built; they end with the block.

    Args:
        builds: see `OwnProcess`; the children build at the same time.

    Raises:
        InputError: a child raised one.
        ChildProcessError: one failed otherwise, or was killed.
    """
    with ExitStack() as stack:
        processes = {}
        for name, build in builds.items():
            processes[name] = OwnProcess(name, build)
            stack.callback(processes[name].close)
        for process in processes.values():
            process.wait()
        yield processes


@contextmanager
def _ctrl_c_waiting() -> Iterator[None]:
    """Let Ctrl-C wait until the block is done; processes started in it never hear of it."""
    # Were it started with the first child, it would let Ctrl-C through again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: Connection, name: str, build: Callable[[], Callable[[], object]]) -> None:
    """Build the work, say so, then answer questions until the parent is gone."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        work = build()
        # What is there already need not be looked through again while work is timed.
        gc.collect()
        gc.freeze()
        pipe.send((None, None))
        while True:
            pipe.send((pipe.recv()(work), None))
    except EOFError:
        return
    except InputError as error:
        pipe.send((None, error))
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        pipe.send((None, ChildProcessError(f"{name}: {said}")))


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(work: Callable[[], object]) -> object:
    return work()
