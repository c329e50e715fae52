"""Checkpoints of training."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from games import Interrupt, Recorder, check_equal, make_game, random_rows, state, trainer

from ebgan_detect.errors import (
    EBGANWarning,
    ModelFileError,
)
from ebgan_detect.files import read_sealed, write_sealed
from ebgan_detect.training import (
    SCHEDULES,
    Callback,
    Checkpoint,
    ResidentRows,
)

pytestmark = pytest.mark.usefixtures("unchanged_global_random_state")


SETTINGS = {"width": 8, "rate": 0.1, "name": "x"}
VARIANTS = {
    "final": {},
    "average": {"average_decay": 0.9},
    "criterion": {
        "criterion": lambda game: -abs(float(game.encoder[0].weight.detach().sum()) - 0.5)
    },
    "cosine": {"schedule": SCHEDULES["cosine"], "precision": "bf16-mixed"},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", ["ebgan", "conv", "autoencoder"])
def test_resumed_training_is_bit_identical(kind, variant, tmp_path):
    rows = random_rows()
    if kind == "conv":
        rows = ResidentRows(random_rows(40, 64).scaled.reshape(40, 1, 8, 8))
    options = VARIANTS[variant]
    whole = make_game(kind)
    expected = trainer(**options).fit(whole, rows)
    checkpoint = Checkpoint(tmp_path / "folder" / "state", SETTINGS)
    with pytest.raises(LookupError):
        trainer(checkpoint=checkpoint, callbacks=[Interrupt(3, LookupError)], **options).fit(
            make_game(kind), rows
        )
    assert checkpoint.read().epoch == 2
    resumed, log = make_game(kind), []
    run = trainer(checkpoint=checkpoint, callbacks=[Recorder(log, "a")], **options).fit(
        resumed, rows
    )
    assert log[0] == ("a", "begin", 2, len(expected.history))
    check_equal(state(resumed), state(whole))
    for name in expected.history.keys() - {"seconds"}:
        assert run.history[name] == expected.history[name], name
    assert run.epoch == 4


def train_until_killed(path):
    """Body of the process that the next test kills: it hangs in the middle of epoch 3."""
    torch.set_num_threads(1)

    class Hang(Callback):
        def on_step_end(self, run):
            if run.epoch == 2:
                sys.stdout.write("in epoch 3\n")
                sys.stdout.flush()
                time.sleep(600)

    trainer(checkpoint=Checkpoint(path, SETTINGS), callbacks=[Hang()], average_decay=0.9).fit(
        make_game(), random_rows()
    )


def test_resumed_training_after_kill_9_is_bit_identical(tmp_path):
    path = tmp_path / "state"
    body = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); "
        f"import test_checkpoint; test_checkpoint.train_until_killed({str(path)!r})"
    )
    with subprocess.Popen(
        [sys.executable, "-c", body],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        try:
            assert process.stdout.readline() == "in epoch 3\n"
        finally:
            process.kill()
        assert process.wait() == -signal.SIGKILL
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]
    whole, resumed = make_game(), make_game()
    trainer(average_decay=0.9).fit(whole, random_rows())
    checkpoint = Checkpoint(path, SETTINGS)
    assert checkpoint.read().epoch == 2
    trainer(checkpoint=checkpoint, average_decay=0.9).fit(resumed, random_rows())
    check_equal(state(resumed), state(whole))


def test_resumed_training_that_was_complete_trains_no_more(tmp_path):
    checkpoint = Checkpoint(tmp_path / "state", SETTINGS)
    first, again, log = make_game(), make_game(), []
    expected = trainer(checkpoint=checkpoint, average_decay=0.9).fit(first, random_rows())
    run = trainer(checkpoint=checkpoint, average_decay=0.9, callbacks=[Recorder(log, "a")]).fit(
        again, random_rows()
    )
    assert [entry[1] for entry in log] == ["begin", "end"]
    assert run.history == expected.history
    check_equal(state(again), state(first))


class StopAfter(Callback):
    """Ends training after an epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, run):
        run.stop = run.epoch >= self.epoch


def test_resumed_training_that_was_stopped_goes_on_unless_it_is_stopped_again(tmp_path):
    checkpoint = Checkpoint(tmp_path / "state", SETTINGS)
    games = [make_game() for _ in range(4)]
    for game in games[:2]:
        run = trainer(checkpoint=checkpoint, callbacks=[StopAfter(2)]).fit(game, random_rows())
        assert run.epoch == 2
    check_equal(state(games[1]), state(games[0]))
    trainer(checkpoint=checkpoint).fit(games[2], random_rows())
    trainer().fit(games[3], random_rows())
    check_equal(state(games[2]), state(games[3]))


def test_resumed_training_in_the_same_process_goes_on(tmp_path):
    # The game keeps its optimisers; the checkpoint's moments replace theirs.
    checkpoint = Checkpoint(tmp_path / "state", SETTINGS)
    game, whole = make_game(), make_game()
    with pytest.warns(EBGANWarning):
        trainer(checkpoint=checkpoint, callbacks=[Interrupt(3)]).fit(game, random_rows())
    trainer(checkpoint=checkpoint).fit(game, random_rows())
    trainer().fit(whole, random_rows())
    check_equal(state(game), state(whole))


def test_resumed_training_on_another_kind_of_device_draws_noise_of_its_own(tmp_path):
    rows, checkpoint = random_rows(), Checkpoint(tmp_path / "state", SETTINGS)
    with pytest.raises(LookupError):
        trainer(checkpoint=checkpoint, callbacks=[Interrupt(3, LookupError)]).fit(make_game(), rows)
    written = checkpoint.read()
    of_gpu = torch.arange(16, dtype=torch.uint8)  # a CUDA generator's state: seed and offset
    checkpoint.write(replace(written, tensors=written.tensors | {"random/noise": of_gpu}))
    ends = []
    for _ in range(2):
        game = make_game()
        assert trainer(checkpoint=checkpoint).fit(game, rows).epoch == 4
        ends.append(state(game))
        checkpoint.write(replace(written, tensors=written.tensors | {"random/noise": of_gpu}))
    check_equal(*ends)


def test_checkpoint_is_written_every_epoch(tmp_path):
    epochs = []
    checkpoint = Checkpoint(tmp_path / "state", SETTINGS)

    class Spy(Callback):
        def on_epoch_end(self, run):
            epochs.append(checkpoint.read().epoch)

    trainer(checkpoint=checkpoint, callbacks=[Spy()]).fit(make_game(), random_rows())
    assert epochs == [1, 2, 3, 4]


def test_checkpoint_returns_what_was_written(tmp_path):
    checkpoint = Checkpoint(tmp_path / "state", SETTINGS)
    assert checkpoint.read() is None
    game = make_game()
    rising = iter([0.25, 0.5, 0.75, 1.0])
    run = trainer(checkpoint=checkpoint, criterion=lambda g: next(rising)).fit(game, random_rows())
    found = checkpoint.read()
    assert found.epoch == 4
    assert found.best == 1.0
    assert found.settings == SETTINGS
    assert found.history == run.history
    assert found.objective_tensors().keys() == game.state_dict().keys()


def test_checkpoint_does_not_change_training(tmp_path):
    plain, kept = make_game(), make_game()
    trainer().fit(plain, random_rows())
    trainer(checkpoint=Checkpoint(tmp_path / "state", {})).fit(kept, random_rows())
    check_equal(state(kept), state(plain))


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "state"
    trainer(max_epochs=1, checkpoint=Checkpoint(path, SETTINGS)).fit(make_game(), random_rows())
    return path


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"width": 9}, "width=8, got 9"),
        ({"rate": 0.2}, "rate=0.1, got 0.2"),
        ({"name": None}, "name='x', got None"),
        ({"new": 1}, "new=None, got 1"),
    ],
)
def test_checkpoint_of_other_settings_is_refused(written, settings, words):
    before = written.read_bytes()
    with pytest.raises(ModelFileError, match="checkpoint state was written with") as caught:
        trainer(checkpoint=Checkpoint(written, {**SETTINGS, **settings})).fit(
            make_game(), random_rows()
        )
    assert words in str(caught.value)
    assert written.read_bytes() == before


def test_checkpoint_of_other_networks_is_refused(written):
    game = make_game()
    del game.hinge_weight  # as in a version that had none
    game.register_buffer("weight_of_later", torch.zeros(()))
    with pytest.raises(ModelFileError, match=r"state does not fit its networks: [^$]*folder"):
        trainer(checkpoint=Checkpoint(written, SETTINGS)).fit(game, random_rows())


def test_checkpoint_of_a_newer_format_is_refused(written):
    tensors, header = read_sealed(written)
    write_sealed(written, tensors, {**header, "format": 2})
    with pytest.raises(ModelFileError, match=r"format 2, this version reads up to 1; upgrade"):
        Checkpoint(written, SETTINGS).read()


def test_checkpoint_of_another_kind_is_refused(written):
    tensors, header = read_sealed(written)
    write_sealed(written, tensors, {**header, "kind": "model"})
    with pytest.raises(ModelFileError, match="state must be a checkpoint, got a model file"):
        Checkpoint(written, SETTINGS).read()


def test_checkpoint_that_is_damaged_is_refused(written):
    content = bytearray(written.read_bytes())
    content[len(content) // 2] ^= 1
    written.write_bytes(content)
    with pytest.raises(ModelFileError, match="digest"):
        trainer(checkpoint=Checkpoint(written, SETTINGS)).fit(make_game(), random_rows())
