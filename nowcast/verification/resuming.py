"""Going through an evaluation's batches so that what is done is kept: saved, stopped, gone on with.

What is done with a batch is a protocol's business (`offline`, `online`). The file holds what its
parts say of themselves and how many clips each batch had that is done; it ends with a CRC-32 of all
before it. It stays until whoever asked for the evaluation has kept what came out, and removes it.
"""

import io
import itertools
import logging
import signal
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from nowcast.errors import InputError, Stopped
from nowcast.files import replacing
from nowcast.progress import progress
from nowcast.verification.cases import Cases

log = logging.getLogger("nowcast")

FORMAT = 2

SECONDS_BETWEEN_SAVES = 60.0
"""Work that a kill may cost. Saving a network that learns on 480 × 480 pixels takes about one."""


@runtime_checkable
class HasState(Protocol):
    """Something whose state can be saved and taken up again."""

    def state_dict(self) -> dict[str, Any]:
        """The state, made of plain values and tensors."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Take up a state that `state_dict` gave."""
        ...


@runtime_checkable
class BatchesFromAnywhere(Protocol):
    """Batches that need not be read from the first on, and whose sizes are known before."""

    @property
    def batches(self) -> Sequence[Sized]:
        """The clips of each batch; only how many there are is looked at."""
        ...

    def from_batch(self, number: int) -> Iterable[Cases]:
        """The batches from that one on, counted from 0."""
        ...


@dataclass(frozen=True)
class SavedEvaluation:
    """Where the state of an evaluation is saved, and of which one it is.

    Args:
        path: the file; None saves nothing.
        fingerprint: what tells the evaluation from others, in text: its clips, methods, scores and
            protocol. The state of another one is refused.
        every_s: seconds of work between two savings, at least; 0 saves after every batch.
    """

    path: Path | None = None
    fingerprint: str = ""
    every_s: float = SECONDS_BETWEEN_SAVES

    def save(self, done: Sequence[int], parts: Mapping[str, HasState]) -> None:
        """Write the state beside what stands there, and replace it.

        Args:
            done: number of clips of each batch that is done.
            parts: what has changed with the batches, by name.
        """
        assert self.path is not None
        content = {
            "format": FORMAT,
            "fingerprint": self.fingerprint,
            "done": list(done),
            "parts": {name: part.state_dict() for name, part in parts.items()},
        }
        stream = io.BytesIO()
        torch.save(content, stream)
        written = stream.getvalue()
        with replacing(self.path) as temporary:
            temporary.write_bytes(written + zlib.crc32(written).to_bytes(4, "little"))

    def resume(
        self, parts: Mapping[str, HasState], sizes: Sequence[int] | None = None
    ) -> list[int]:
        """Put the parts into the state saved, if there is one of this evaluation.

        The state of another evaluation or of batches of other sizes is refused: it may be hours of
        work. A file that is damaged is passed over with a line in the log; the evaluation begins
        anew, and replaces it when it saves.

        Args:
            parts: what has a state, by name.
            sizes: number of clips of each batch; None where it is not known.

        Returns:
            How many clips each batch had that is done.

        Raises:
            InputError: the state is of another evaluation, or does not fit the parts of this one.
        """
        if self.path is None or not self.path.exists():
            return []
        content = self._read(self.path)
        if content is None:
            return []
        ours = (content["format"], content["fingerprint"]) == (FORMAT, self.fingerprint)
        if not ours or (sizes is not None and content["done"] != sizes[: len(content["done"])]):
            raise InputError(
                f"{self.path}: found the unfinished state of another evaluation (its methods, "
                "clips, scores, settings or this program have changed), expected that of this one; "
                "write elsewhere, or remove the file to start anew"
            )
        for name, part in parts.items():
            try:
                part.load_state_dict(content["parts"][name])
            except (InputError, KeyError, ValueError, RuntimeError) as error:
                reason = " ".join(str(error).split())[:200]
                raise InputError(
                    f"{self.path}: found a state that does not fit ({reason}); remove it to start "
                    "anew"
                ) from error
        return list(content["done"])

    def _read(self, path: Path) -> dict[str, Any] | None:
        written = path.read_bytes()
        content, checksum = written[:-4], int.from_bytes(written[-4:], "little")
        try:
            if len(written) < 4 or zlib.crc32(content) != checksum:
                raise ValueError("its checksum differs")
            found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            if not isinstance(found, dict) or not {"format", "fingerprint"} <= found.keys():
                raise ValueError("it holds something else")
        # PyTorch raises whatever comes, and advises to read it unsafely.
        except Exception as error:
            reason = f"{error}" if type(error) is ValueError else type(error).__name__
            log.warning(
                "%s: cannot be read as the state of an evaluation (%s); starting anew", path, reason
            )
            return None
        return found


def go_through(
    batches: Iterable[Cases],
    act: Callable[[Cases], None],
    parts: Mapping[str, HasState],
    saved: SavedEvaluation,
    unit: str,
) -> None:
    """Act on batch after batch, from where an earlier attempt stopped.

    Where the state is saved, Ctrl-C and SIGTERM let the batch be finished, save, and stop. It is
    saved after the last batch too: another attempt then reads no clip.

    Args:
        batches: in an order that is the same every time; those done before are not read again if
            `from_batch` is there, and are passed over otherwise.
        act: what is done with a batch; it changes nothing but the parts.
        parts: what `act` changes, by name.
        saved: where the state is saved; it stays there.
        unit: what a batch is called.

    Raises:
        InputError: no batches, or batches of other sizes than those done before that have to be
            read to know it.
        Stopped: as asked for, once the state is saved.
    """
    total = number_of(batches)
    done = saved.resume(parts, sizes_of(batches))
    if done:
        of_total = "" if total is None else f" of {total:,}"
        log.info("%s: going on after %s %s%s", saved.path, unit, f"{len(done):,}", of_total)
    if done and len(done) == total:
        return
    left = None if total is None else total - len(done)
    remaining = _after(batches, list(done), saved)
    saved_batches, saved_at = len(done), time.monotonic()
    with _stop_asked_for(saved.path is not None, unit) as asked_to_stop:
        for cases in progress(remaining, "evaluating", total=left, unit=unit):
            act(cases)
            done.append(len(cases))
            if asked_to_stop():
                break
            if saved.path is not None and time.monotonic() - saved_at >= saved.every_s:
                saved.save(done, parts)
                saved_batches, saved_at = len(done), time.monotonic()
        if saved.path is not None and saved_batches < len(done):
            saved.save(done, parts)
        if asked_to_stop():
            raise Stopped(
                f"stopped after {unit} {len(done):,}; the same command goes on from there"
            )
    if not done:
        raise InputError("evaluation: found no clips, expected at least one")


def number_of(batches: Iterable[Cases]) -> int | None:
    """How many batches there are, None where that is not known before they are read."""
    return len(batches) if isinstance(batches, Sized) else None


def sizes_of(batches: Iterable[Cases]) -> list[int] | None:
    """How many clips each batch has, None where that is not known before they are read."""
    if not isinstance(batches, BatchesFromAnywhere):
        return None
    return [len(one) for one in batches.batches]


def _after(batches: Iterable[Cases], done: list[int], saved: SavedEvaluation) -> Iterator[Cases]:
    """The batches that follow those done, which are read only where there is no other way."""
    if done and isinstance(batches, BatchesFromAnywhere):
        yield from batches.from_batch(len(done))
        return
    remaining = iter(batches)
    passed = [len(cases) for cases in itertools.islice(remaining, len(done))]
    if passed != done:
        raise InputError(
            f"{saved.path}: found the state after batches of {_few(done)} clips, expected "
            f"{_few(passed)}; remove it to start anew"
        )
    yield from remaining


def _few(sizes: list[int]) -> str:
    return str(sizes) if len(sizes) < 9 else f"{str(sizes[:8])[:-1]}, …]"


@contextmanager
def _stop_asked_for(wanted: bool, unit: str) -> Iterator[Callable[[], bool]]:
    """Take over Ctrl-C and SIGTERM; yields whether one has come. A second one interrupts."""
    asked = threading.Event()

    def ask(number: int, frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        log.info("stopping after this %s; once more stops at once", unit)

    before: dict[signal.Signals, Any] = {}
    if wanted and threading.current_thread() is threading.main_thread():
        before = {one: signal.signal(one, ask) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
