"""An evaluation that is stopped, killed or damaged, and the same one again."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from broken_evaluations import (
    CLIPS,
    Batches,
    BreaksAt,
    Broken,
    Ensemble,
    SevenClips,
    assert_same,
    offline,
    online,
)
from made_up_cases import LastFrame, plain_kinds
from tiny_network import LEAD_TIMES, drifting_bands

from nowcast.errors import InputError, Stopped
from nowcast.verification.online import evaluate_online
from nowcast.verification.resuming import SavedEvaluation
from nowcast.verification.target_masks import NoiseRule


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """A small network waits for its threads more than they help."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def whole():
    return offline(None)


def test_clips_whose_forecast_was_replaced_are_counted(whole):
    brightness = [cases.inputs[:, -1].mean(dim=(1, 2, 3)) for cases in Batches()]
    expected = int((torch.cat(brightness) > 0.5).sum())
    assert 0 < expected < 14
    assert whole["ensemble"].replaced == {"odd": expected}
    assert whole["last"].replaced == {}


@pytest.fixture(scope="module")
def whole_online():
    return online(None)


@pytest.mark.parametrize("every", range(2, 8))
def test_stopped_after_every_kth_batch_the_scores_are_the_same_and_none_is_read_twice(
    every, whole, tmp_path
):
    path, done, found = tmp_path / "state", 0, None
    while found is None:
        batches = Batches()
        try:
            found = offline(path, every, batches)
        except Broken:
            assert path.exists()
            # The batch that broke is read again, those before are not.
            assert batches.read == list(range(done, done + every))
            done += every - 1
    assert batches.read == list(range(done, 7))
    assert_same(found, whole)


def test_what_is_done_is_kept_until_the_caller_has_written_it(whole, tmp_path):
    path = tmp_path / "state"
    assert_same(offline(path, save_every_s=1e9), whole)
    again = Batches()
    # A method that is asked for a forecast breaks.
    assert_same(offline(path, 1, again), whole)
    assert again.read == []
    path.unlink()
    assert_same(offline(path, batches=again), whole)
    assert again.read == list(range(7))


def test_online_what_is_done_is_kept_too(whole_online, tmp_path):
    first, _ = online(tmp_path / "state")
    assert_same(first, whole_online[0])
    found, learns = online(tmp_path / "state", 1, seed=5)
    assert_same(found, whole_online[0])
    expected = whole_online[1].state_dict()["network"]
    for name, weight in learns.network.state_dict().items():
        assert torch.equal(weight, expected[name])


@pytest.mark.parametrize("size", [1, 2, 5, 6, 7])
def test_with_batches_of_another_size_it_does_not_go_on(size, tmp_path):
    with pytest.raises(Broken):
        offline(tmp_path / "state", 2, SevenClips(4))
    with pytest.raises(InputError, match="unfinished state of another evaluation"):
        offline(tmp_path / "state", batches=SevenClips(size))
    (tmp_path / "state").unlink()
    assert offline(tmp_path / "state", batches=SevenClips(size))["last"].clips == 7


def test_batches_of_another_size_that_cannot_begin_anywhere_are_refused(tmp_path):
    with pytest.raises(Broken):
        offline(tmp_path / "state", 2, list(SevenClips(4)))
    # As many batches, and a list does not say of which sizes before they are read.
    message = r"state: found the state after batches of \[4\] clips, expected \[6\]; remove it to"
    with pytest.raises(InputError, match=message):
        offline(tmp_path / "state", batches=list(SevenClips(6)))


def test_clips_that_were_promised_and_did_not_come_are_noticed():
    class Short(SevenClips):
        def __iter__(self):
            yield from list(super().__iter__())[:-1]

    with pytest.raises(InputError, match="evaluation of 'ensemble': found 4 clips, expected 7"):
        offline(None, batches=Short(4))


def test_batches_that_cannot_begin_anywhere_are_passed_over(whole, tmp_path):
    with pytest.raises(Broken):
        offline(tmp_path / "state", 4, list(Batches()))
    assert_same(offline(tmp_path / "state", None, list(Batches())), whole)


@pytest.mark.parametrize("every", [2, 5, 9, 13])
def test_online_a_network_goes_on_learning_as_if_it_had_not_been_stopped(
    every, whole_online, tmp_path
):
    path, found, attempts = tmp_path / "state", None, 0
    while found is None:
        attempts += 1
        try:
            # Another network: what it has learned comes from the file, the first time apart.
            found, learns = online(path, every, seed=0 if attempts == 1 else attempts)
        except Broken:
            assert path.exists()
    assert attempts == -(-(CLIPS - 1) // (every - 1)) + ((CLIPS - 1) % (every - 1) == 0)
    assert_same(found, whole_online[0])
    expected = whole_online[1].state_dict()
    for name, weight in learns.network.state_dict().items():
        assert torch.equal(weight, expected["network"][name])


def test_what_learns_decides_on_the_scores(whole_online):
    """Otherwise the test above could not fail for a network that is not restored."""
    other, _ = online(None, seed=3)
    found, _ = whole_online
    assert (
        other["learns"].total("errors").sums["squared_error"]
        != found["learns"].total("errors").sums["squared_error"]
    ).all()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_it_finishes_the_batch_saves_and_says_so(number, whole, tmp_path):
    class Asking(BreaksAt):
        def forecast(self, frames, lead_times):
            if self.calls == 2:
                os.kill(os.getpid(), number)
            return super().forecast(frames, lead_times)

    methods = {"ensemble": Ensemble(), "last": Asking(None)}
    before = signal.getsignal(number)
    with pytest.raises(Stopped, match="stopped after batch 3; the same command goes on"):
        offline(tmp_path / "state", methods=methods, save_every_s=1e9)
    assert signal.getsignal(number) is before
    batches = Batches()
    assert_same(offline(tmp_path / "state", batches=batches, save_every_s=1e9), whole)
    assert batches.read == [3, 4, 5, 6]


def test_asked_to_stop_in_the_last_batch_it_keeps_all_and_says_so(whole, tmp_path):
    class Asking(BreaksAt):
        def forecast(self, frames, lead_times):
            if self.calls == 6:
                os.kill(os.getpid(), signal.SIGINT)
            return super().forecast(frames, lead_times)

    with pytest.raises(Stopped, match="stopped after batch 7"):
        offline(tmp_path / "state", methods={"ensemble": Ensemble(), "last": Asking(None)})
    batches = Batches()
    assert_same(offline(tmp_path / "state", batches=batches), whole)
    assert batches.read == []


def test_asked_twice_it_stops_at_once(tmp_path):
    class Impatient(LastFrame):
        def forecast(self, frames, lead_times):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
            raise AssertionError("not interrupted")

    with pytest.raises(KeyboardInterrupt):
        offline(tmp_path / "state", methods={"m": Impatient()})


def test_it_saves_from_time_to_time_only(tmp_path):
    with pytest.raises(Broken):
        offline(tmp_path / "state", 4, save_every_s=1e9)
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, signal, sys
sys.path[:0] = [{here!r}, {above!r}]
from pathlib import Path
import torch
import broken_evaluations as t
torch.set_num_threads(1)

class Killed(t.BreaksAt):
    def forecast(self, frames, lead_times):
        self.calls += 1
        if self.calls == 13:
            os.kill(os.getpid(), signal.SIGKILL)
        return t.LastFrame.forecast(self, frames, lead_times)

t.BreaksAt = Killed
t.online(Path({path!r}))
"""


def test_killed_in_the_midst_it_goes_on_to_the_same_scores(whole_online, tmp_path):
    here = Path(__file__).parent
    script = KILLED.format(here=str(here), above=str(here.parent), path=str(tmp_path / "state"))
    child = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert (tmp_path / "state").exists()
    found, _ = online(tmp_path / "state", seed=9)
    assert_same(found, whole_online[0])


@pytest.mark.parametrize(
    "changes",
    [
        {"fingerprint": "other clips"},
        {"region": (0, 3, 0, 3)},
        {"methods": {"last": LastFrame()}},
        {"batches": list(Batches())[:-1]},
    ],
)
def test_the_state_of_another_evaluation_is_refused_and_kept(changes, whole, tmp_path):
    with pytest.raises(Broken):
        offline(tmp_path / "state", 4)
    kept = (tmp_path / "state").read_bytes()
    with pytest.raises(InputError, match="unfinished state of another evaluation"):
        offline(tmp_path / "state", **changes)
    assert (tmp_path / "state").read_bytes() == kept
    assert_same(offline(tmp_path / "state"), whole)


def test_damage_is_said_in_one_line_and_it_starts_anew(whole, tmp_path, caplog):
    path = tmp_path / "state"
    with pytest.raises(Broken):
        offline(path, 4)
    written = path.read_bytes()
    random = np.random.default_rng(0)
    spoiled = [b"", b"no", written[:-1], written[: len(written) // 2], b"x" * 5000]
    for _ in range(20):
        place, bit = int(random.integers(len(written))), int(random.integers(8))
        changed = bytearray(written)
        changed[place] ^= 1 << bit
        spoiled.append(bytes(changed))
    for content in spoiled:
        path.write_bytes(content)
        caplog.clear()
        assert_same(offline(path), whole)
        warnings = [record for record in caplog.records if record.levelname == "WARNING"]
        assert len(warnings) == 1
        message = warnings[0].getMessage()
        assert message.startswith(f"{path}: cannot be read as the state of an evaluation (")
        assert message.endswith("; starting anew")
        assert "\n" not in message


def test_nothing_in_the_file_is_run(tmp_path, caplog):
    class Malicious:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "run"),))

    class Part:
        def state_dict(self):
            return {"evil": Malicious()}

    SavedEvaluation(tmp_path / "state", "made up").save([2], {"scores": Part()})
    offline(tmp_path / "state")
    assert not (tmp_path / "run").exists()
    assert "cannot be read as the state of an evaluation (UnpicklingError)" in caplog.text


def test_a_state_whose_scores_are_other_ones_is_refused_by_name(tmp_path):
    with pytest.raises(Broken):
        offline(tmp_path / "state", 4)
    other = plain_kinds(LEAD_TIMES)
    object.__setattr__(other, "ensemble", None)
    with pytest.raises(InputError, match=r"state: found a state that does not fit \(found scores"):
        offline(tmp_path / "state", kinds=other)


def test_something_to_adapt_that_cannot_be_saved_is_refused_before_any_work(tmp_path):
    with pytest.raises(InputError, match="what adapts 'm': found no state_dict"):
        evaluate_online(
            {"m": LastFrame()},
            drifting_bands(1, 3),
            adapts={"m": lambda *fields: None},
            lead_times=LEAD_TIMES,
            step_minutes=6,
            kinds=plain_kinds(LEAD_TIMES),
            target_mask=NoiseRule(),
            save_to=tmp_path / "state",
        )
