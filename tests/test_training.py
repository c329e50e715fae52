"""The training loop: schedules, history, callbacks, checkpoints, device and precision."""

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ebgan_detect.errors import (
    EBGANWarning,
    InvalidParameterError,
    ModelFileError,
    TrainingDivergedError,
)
from ebgan_detect.files import read_sealed, write_sealed
from ebgan_detect.networks import build_networks, conv_networks, mlp_networks
from ebgan_detect.objectives import AutoEncoderObjective, EBGANObjective, Objective
from ebgan_detect.training import (
    SCHEDULES,
    Callback,
    Checkpoint,
    ProgressBar,
    ResidentRows,
    Trainer,
    autocast,
    fastest_precision,
    resolve_device,
)
from ebgan_detect.training.placement import place, sparing_threads

CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("unchanged_global_random_state")


class Counting(Objective):
    """Its weight counts updates."""

    metric_names = ("loss", "value")

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.batches = []
        self.progress = []

    def configure_optimizers(self, learning_rate):
        self.optimizers = {}

    def begin_step(self, progress):
        self.progress.append(progress)

    def update(self, real, rng):
        self.batches.append(real[:, 0].clone())
        with torch.no_grad():
            self.weight += 1
        value = self.weight.detach()[0].float()
        return torch.stack([1 / value, value])

    def energy(self, x):
        return x.double().mean(dim=1)


class Mean(Objective):
    """Finds the mean of the rows by gradient descent: a loss of this test's own."""

    metric_names = ("loss_of_my_own",)

    def __init__(self):
        super().__init__()
        self.center = nn.Parameter(torch.zeros(2))
        self.rate_factors = {"main": 0.5}
        self.rates = []

    def configure_optimizers(self, learning_rate):
        self.optimizers = {"main": torch.optim.SGD([self.center], lr=learning_rate)}

    def update(self, real, rng):
        self.rates.append(self.optimizers["main"].param_groups[0]["lr"])
        loss = (real - self.center).square().sum(dim=1).mean()
        self.optimizers["main"].zero_grad()
        loss.backward()
        self.optimizers["main"].step()
        return loss.detach()[None]

    def energy(self, x):
        return (x - self.center).square().sum(dim=1).double()


def numbered_rows(n=10):
    return ResidentRows(torch.arange(n, dtype=torch.float32)[:, None])


def random_rows(n=40, d=4):
    return ResidentRows(torch.randn(n, d, generator=torch.Generator().manual_seed(9)))


def trainer(**options):
    settings = {
        "max_epochs": 4,
        "batch_size": 8,
        "learning_rate": 0.01,
        "device": CPU,
        "seed": 5,
        **options,
    }
    return Trainer(**settings)


def make_game(kind="ebgan"):
    """A game that uses every part of a training's state."""
    family, shape, sizes = (
        (conv_networks, (1, 8, 8), (3,)) if kind == "conv" else (mlp_networks, (4,), (8,))
    )
    networks = build_networks(
        lambda s: family(s, hidden_sizes=sizes, code_dim=2, latent_dim=3, bounded=False),
        shape,
        latent_dim=3,
        seed=1,
    )
    if kind == "autoencoder":
        return AutoEncoderObjective(networks, noise=0.1, n_snapshots=3)
    return EBGANObjective(
        networks,
        input_shape=shape,
        latent_dim=3,
        margin=lambda progress: 2 - progress,
        replay_size=50,
        noise=0.1,
        n_snapshots=3,
    )


def state(game):
    return {name: value.detach().clone() for name, value in game.state_dict().items()}


def check_equal(found, expected):
    """Bit for bit."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        assert found[name].numpy().tobytes() == value.numpy().tobytes(), name


# --- epochs, batches, schedules ---------------------------------------------------------------


def test_training_makes_the_planned_updates():
    game = Counting()
    run = trainer(max_epochs=3, batch_size=4).fit(game, numbered_rows(10))
    assert game.weight.item() == 6  # two full batches an epoch
    assert (run.epoch, run.max_epochs, run.steps_per_epoch) == (3, 3, 2)
    assert not run.interrupted
    assert not game.training


def test_training_draws_each_row_once_an_epoch():
    game = Counting()
    trainer(max_epochs=30, batch_size=5).fit(game, numbered_rows(10))
    epochs = torch.cat(game.batches).reshape(30, 10)
    assert torch.equal(epochs.sort(dim=1).values, torch.arange(10.0).expand(30, 10))
    assert len({tuple(epoch.tolist()) for epoch in epochs}) == 30, "no new shuffle"


def test_training_leftover_rows_get_their_turn_in_other_epochs():
    game = Counting()
    trainer(max_epochs=20, batch_size=4).fit(game, numbered_rows(7))
    assert {len(batch) for batch in game.batches} == {4}
    assert set(torch.cat(game.batches).tolist()) == set(range(7))


@pytest.mark.parametrize("n", [1, 2, 7])
def test_training_with_fewer_rows_than_a_batch_works(n):
    game = Counting()
    trainer(max_epochs=3, batch_size=8).fit(game, numbered_rows(n))
    assert [sorted(batch.tolist()) for batch in game.batches] == [list(range(n))] * 3
    real = make_game()
    run = trainer().fit(real, random_rows(n))
    assert np.isfinite(run.history["loss_discriminator"]).all()


def test_training_ends_an_epoch_after_its_most_steps():
    game = Counting()
    run = trainer(max_epochs=2, batch_size=2, max_steps_per_epoch=3).fit(game, numbered_rows(100))
    assert game.weight.item() == 6
    assert run.steps_per_epoch == 3


def test_training_reports_progress_to_the_game():
    game = Counting()
    trainer(max_epochs=2, batch_size=5).fit(game, numbered_rows(10))
    assert game.progress == [0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("constant", [1, 1, 1, 1, 1]),
        ("linear", [1, 1, 1, 0.5, 0]),
        ("cosine", [1, 0.5 + 0.125**0.5, 0.5, 0.5 - 0.125**0.5, 0]),
    ],
)
def test_schedule_values(name, values):
    assert [SCHEDULES[name](p) for p in (0, 0.25, 0.5, 0.75, 1)] == pytest.approx(values)


def test_training_sets_each_players_rate():
    game = Mean()
    run = trainer(max_epochs=2, batch_size=20, learning_rate=0.1, schedule=lambda p: 1 - p).fit(
        game, random_rows(40, 2)
    )
    assert game.rates == pytest.approx([0.05, 0.0375, 0.025, 0.0125])
    # The history holds the base rate at an epoch's last update.
    assert run.history["learning_rate"] == pytest.approx([0.075, 0.025])


def test_training_fills_a_rate_that_lives_in_a_tensor():
    class OnDevice(Mean):
        def configure_optimizers(self, learning_rate):
            rate = torch.tensor(learning_rate)
            self.optimizers = {"main": torch.optim.SGD([self.center], lr=rate)}
            self.rate = rate

        def update(self, real, rng):
            assert self.optimizers["main"].param_groups[0]["lr"] is self.rate
            self.rates.append(self.rate.item())
            return super().update(real, rng)

    game, plain = OnDevice(), Mean()
    trainer(max_epochs=2).fit(game, random_rows(40, 2))
    trainer(max_epochs=2).fit(plain, random_rows(40, 2))
    assert game.rates[::2] == pytest.approx(plain.rates)
    torch.testing.assert_close(game.center, plain.center)


def test_training_schedule_runs_on_over_epochs():
    game = make_game()
    rates = []

    class Spy(Callback):
        def on_step_end(self, run):
            rates.append(game.optimizers["generator"].param_groups[0]["lr"])

    game.rate_factors["generator"] = 2.0
    trainer(callbacks=[Spy()], learning_rate=0.01).fit(game, random_rows(16))
    expected = [0.02 * SCHEDULES["linear"](step / 8) for step in range(8)]
    assert rates == pytest.approx(expected)


def test_training_knows_no_loss():
    rows = random_rows(64, 2)
    game = Mean()
    run = trainer(max_epochs=20, learning_rate=0.5, schedule=SCHEDULES["linear"]).fit(game, rows)
    torch.testing.assert_close(game.center.detach(), rows.scaled.mean(dim=0), rtol=0, atol=0.05)
    losses = run.history["loss_of_my_own"]
    assert losses[-1] < losses[0]


def test_training_is_reproducible_by_seed():
    first, again, other = (make_game() for _ in range(3))
    trainer().fit(first, random_rows())
    trainer().fit(again, random_rows())
    trainer(seed=6).fit(other, random_rows())
    check_equal(state(again), state(first))
    assert not torch.equal(other.encoder[0].weight, first.encoder[0].weight)


# --- history ----------------------------------------------------------------------------------


def test_history_holds_one_entry_an_epoch():
    started = time.perf_counter()
    run = trainer(max_epochs=3, batch_size=5).fit(Counting(), numbered_rows(10))
    elapsed = time.perf_counter() - started
    assert run.history.keys() == {"epoch", "loss", "value", "learning_rate", "seconds"}
    assert run.history["epoch"] == [1, 2, 3]
    assert run.history["value"] == [1.5, 3.5, 5.5]  # means over an epoch's updates
    assert run.history["loss"] == pytest.approx([(1 + 1 / 2) / 2, (1 / 3 + 1 / 4) / 2, 11 / 60])
    assert all(seconds > 0 for seconds in run.history["seconds"])
    assert sum(run.history["seconds"]) < elapsed


def test_history_holds_plain_numbers():
    run = trainer(criterion=lambda game: 1.0).fit(make_game(), random_rows())
    assert all(type(v) in (int, float) for values in run.history.values() for v in values)
    assert all(len(values) == 4 for values in run.history.values())


# --- callbacks --------------------------------------------------------------------------------


class Recorder(Callback):
    def __init__(self, log, name):
        self.log, self.name = log, name

    def on_train_begin(self, run):
        self.log.append((self.name, "begin", run.epoch, len(run.history)))

    def on_step_end(self, run):
        self.log.append((self.name, "step", run.epoch))

    def on_epoch_end(self, run):
        self.log.append((self.name, "epoch", run.epoch, len(run.history["epoch"])))

    def on_train_end(self, run):
        self.log.append((self.name, "end", run.epoch, run.objective.training))


def test_callbacks_are_called_in_order():
    log = []
    recorders = [Recorder(log, "a"), Recorder(log, "b")]
    trainer(max_epochs=2, batch_size=5, callbacks=recorders).fit(Counting(), numbered_rows(10))
    of_a = [entry[1:] for entry in log if entry[0] == "a"]
    assert of_a == [
        ("begin", 0, 0),
        ("step", 0),
        ("step", 0),
        ("epoch", 1, 1),
        ("step", 1),
        ("step", 1),
        ("epoch", 2, 2),
        ("end", 2, False),
    ]
    assert [entry[0] for entry in log] == ["a", "b"] * 8
    assert [entry[1:] for entry in log if entry[0] == "b"] == of_a


def test_callback_without_hooks_changes_nothing():
    game, plain = make_game(), make_game()
    trainer(callbacks=[Callback()]).fit(game, random_rows())
    trainer().fit(plain, random_rows())
    check_equal(state(game), state(plain))


@pytest.mark.parametrize("hook", ["on_step_end", "on_epoch_end"])
def test_callback_stops_training_after_the_epoch(hook):
    class Stop(Callback):
        pass

    def stop(self, run):
        # From a step this is the first of epoch 2, from an epoch the end of epoch 2.
        run.stop = run.epoch >= (1 if hook == "on_step_end" else 2)

    setattr(Stop, hook, stop)
    log = []
    game = Counting()
    run = trainer(max_epochs=9, batch_size=5, callbacks=[Stop(), Recorder(log, "a")]).fit(
        game, numbered_rows(10)
    )
    assert run.epoch == 2
    assert game.weight.item() == 4
    assert log[-1][1] == "end"
    assert not run.interrupted


def test_callback_end_sees_the_state_to_keep():
    seen = []

    class Spy(Callback):
        def on_train_end(self, run):
            seen.append(run.objective.weight.item())

    game = Counting()
    trainer(callbacks=[Spy()], criterion=lambda g: -abs(g.weight.item() - 2)).fit(
        game, numbered_rows(8)
    )
    assert seen == [2]


def test_callback_error_passes_through():
    class Fail(Callback):
        def on_epoch_end(self, run):
            raise LookupError("mine")

    game = make_game()
    with pytest.raises(LookupError, match="mine"):
        trainer(callbacks=[Fail()]).fit(game, random_rows())
    assert not game.training


def test_progress_bar_counts_updates_and_shows_energies(capsys):
    bar = ProgressBar("my fit")
    trainer(callbacks=[bar]).fit(make_game(), random_rows())
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "my fit" in shown.err
    assert "20/20" in shown.err
    assert "epoch=4/4" in shown.err
    assert all(name in shown.err for name in ("real=", "generated=", "margin="))


def test_training_is_silent_without_a_progress_bar(capsys):
    trainer().fit(make_game(), random_rows())
    assert capsys.readouterr() == ("", "")


# --- the state to keep ------------------------------------------------------------------------


def test_running_average_is_kept():
    game = Counting()
    trainer(max_epochs=2, batch_size=5, average_decay=0.75).fit(game, numbered_rows(10))
    average = 0.0
    # Early on the average forgets faster: its decay is at most (1 + t) / (10 + t).
    for t, weight in enumerate((1, 2, 3, 4)):
        decay = min(0.75, (1 + t) / (10 + t))
        average = decay * average + (1 - decay) * weight
    assert game.weight.item() == pytest.approx(average, rel=1e-6)


def test_running_average_takes_statistics_of_batches_along():
    """Averaged weights would else be normalised by the statistics of others."""
    kept = {}

    class Keep(Callback):
        def on_step_end(self, run):
            for layer in run.objective.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    kept.setdefault(layer, []).append(layer.running_mean.clone())

    game = make_game("conv")
    start = {m: m.running_mean.clone() for m in game.modules() if isinstance(m, nn.BatchNorm2d)}
    assert start
    rows = ResidentRows(torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(9)))
    trainer(max_epochs=2, batch_size=8, average_decay=0.75, callbacks=[Keep()]).fit(game, rows)
    for layer, average in start.items():
        for t, statistic in enumerate(kept[layer]):
            decay = min(0.75, (1 + t) / (10 + t))
            average = decay * average + (1 - decay) * statistic
        torch.testing.assert_close(layer.running_mean, average)


def test_running_average_does_not_steer_training():
    final, averaged = make_game(), make_game()
    first = trainer().fit(final, random_rows())
    second = trainer(average_decay=0.9).fit(averaged, random_rows())
    assert first.history["loss_generator"] == second.history["loss_generator"]
    assert not torch.equal(final.encoder[0].weight, averaged.encoder[0].weight)


@pytest.mark.parametrize(("target", "epoch"), [(1, 1), (5.5, 3), (100, 4)])
def test_criterion_keeps_the_best_state(target, epoch):
    game = Counting()
    run = trainer(
        batch_size=5, criterion=lambda g: -abs(g.weight.item() - target), average_decay=0.5
    ).fit(game, numbered_rows(10))
    assert game.weight.item() == 2 * epoch
    assert run.history["criterion"] == [-abs(weight - target) for weight in (2, 4, 6, 8)]
    assert run.epoch == 4


def test_criterion_of_equal_value_keeps_the_first():
    game = Counting()
    trainer(batch_size=5, criterion=lambda g: 1.0).fit(game, numbered_rows(10))
    assert game.weight.item() == 2


def test_criterion_sees_the_game_in_evaluation_and_updates_in_training_mode():
    modes = []

    class Spy(Counting):
        def update(self, real, rng):
            modes.append(self.training)
            return super().update(real, rng)

    def criterion(game):
        modes.append(game.training)
        return 0.0

    trainer(max_epochs=2, batch_size=10, criterion=criterion).fit(Spy(), numbered_rows(10))
    assert modes == [True, False, True, False]


# --- divergence and interruption --------------------------------------------------------------


class Breaking(Counting):
    """Its loss is spoilt from one update on."""

    def __init__(self, at, value):
        super().__init__()
        self.at, self.value = at, value

    def update(self, real, rng):
        metrics = super().update(real, rng)
        if self.weight.item() >= self.at:
            metrics[0] = self.value
        return metrics


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_divergence_names_epoch_step_and_rate(value):
    with pytest.raises(TrainingDivergedError) as caught:
        trainer(batch_size=2, learning_rate=0.02).fit(Breaking(8, value), numbered_rows(10))
    message = str(caught.value)
    assert message == (f"loss became {value} at epoch 2, step 3; lower learning_rate (now 0.02)")


def test_divergence_of_a_real_game_is_noticed():
    with pytest.raises(TrainingDivergedError, match=r"(loss|energy) .* became (nan|inf) at epoch"):
        trainer(learning_rate=1e30).fit(make_game(), random_rows())


def test_divergence_writes_no_checkpoint_of_that_epoch(tmp_path):
    checkpoint = Checkpoint(tmp_path / "state", {})
    with pytest.raises(TrainingDivergedError):
        trainer(batch_size=2, checkpoint=checkpoint).fit(Breaking(8, math.nan), numbered_rows(10))
    assert checkpoint.read().epoch == 1


class Interrupt(Callback):
    """Ctrl-C in the middle of an epoch."""

    def __init__(self, epoch, error=KeyboardInterrupt):
        self.epoch, self.error = epoch, error
        self.kept = None
        self.steps = 0

    def on_step_end(self, run):
        self.steps += 1
        if run.epoch == self.epoch - 1 and self.steps % run.steps_per_epoch == 3:
            raise self.error

    def on_epoch_end(self, run):
        self.kept = state(run.objective)


def test_interrupt_keeps_the_last_full_epochs_state():
    game = make_game()
    interrupt, log = Interrupt(epoch=3), []
    with pytest.warns(EBGANWarning, match="after epoch 2 of 5 is kept"):
        run = trainer(max_epochs=5, callbacks=[interrupt, Recorder(log, "a")]).fit(
            game, random_rows()
        )
    check_equal(state(game), interrupt.kept)
    assert run.interrupted
    assert run.epoch == 2
    assert run.history["epoch"] == [1, 2]
    assert all(len(values) == 2 for values in run.history.values())
    assert not game.training
    assert log[-1][1:3] == ("end", 2)


def test_interrupt_keeps_the_last_full_epochs_average():
    game, shorter = Counting(), Counting()
    options = {"batch_size": 2, "average_decay": 0.5}
    with pytest.warns(EBGANWarning, match="epoch 2 of 4"):
        trainer(callbacks=[Interrupt(epoch=3)], **options).fit(game, numbered_rows(10))
    trainer(max_epochs=2, **options).fit(shorter, numbered_rows(10))
    assert game.weight.item() == shorter.weight.item()


def test_interrupt_keeps_the_best_state_so_far():
    game = Counting()
    with pytest.warns(EBGANWarning):
        trainer(
            batch_size=2, callbacks=[Interrupt(epoch=3)], criterion=lambda g: -g.weight.item()
        ).fit(game, numbered_rows(10))
    assert game.weight.item() == 5


def test_interrupt_before_the_first_epoch_is_passed_on():
    game = make_game()
    with pytest.raises(KeyboardInterrupt):
        trainer(callbacks=[Interrupt(epoch=1)]).fit(game, random_rows())
    assert not game.training


@pytest.mark.usefixtures("interruptible")
def test_interrupt_of_a_real_process_by_signal():
    # What Ctrl-C does in a terminal: the handler raises between two lines of the loop.
    class Signal(Callback):
        def on_step_end(self, run):
            if run.epoch == 2:
                os.kill(os.getpid(), signal.SIGINT)

    game = make_game()
    with pytest.warns(EBGANWarning, match="epoch 2 of 4"):
        run = trainer(callbacks=[Signal()]).fit(game, random_rows())
    assert run.interrupted


# --- checkpoints ------------------------------------------------------------------------------

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
        f"import test_training; test_training.train_until_killed({str(path)!r})"
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


def test_resumed_training_in_the_same_process_goes_on(tmp_path):
    # The game keeps its optimisers; the checkpoint's moments replace theirs.
    checkpoint = Checkpoint(tmp_path / "state", SETTINGS)
    game, whole = make_game(), make_game()
    with pytest.warns(EBGANWarning):
        trainer(checkpoint=checkpoint, callbacks=[Interrupt(3)]).fit(game, random_rows())
    trainer(checkpoint=checkpoint).fit(game, random_rows())
    trainer().fit(whole, random_rows())
    check_equal(state(game), state(whole))


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


# --- device and precision ---------------------------------------------------------------------


class Synchronisations(TorchDispatchMode):
    """Counts operations whose result the host must wait for."""

    WAITING = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "unique")

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket.__name__.split("::")[-1] in self.WAITING:
            self.seen.append(str(function))
        return function(*args, **(kwargs or {}))


HOST_METHODS = [
    "item", "cpu", "numpy", "tolist", "__bool__", "__float__", "__int__", "__index__", "__array__",
]  # fmt: skip


@pytest.mark.parametrize("average_decay", [0.0, 0.9])
@pytest.mark.parametrize("kind", ["ebgan", "conv", "autoencoder"])
def test_step_makes_the_host_wait_for_nothing(kind, average_decay, monkeypatch):
    rows = random_rows()
    if kind == "conv":
        rows = ResidentRows(random_rows(40, 64).scaled.reshape(40, 1, 8, 8))
    calls = []
    watched = []

    def counted(name, original):
        def method(self, *args, **kwargs):
            if watched:
                calls.append(name)
            return original(self, *args, **kwargs)

        return method

    for name in HOST_METHODS:
        monkeypatch.setattr(torch.Tensor, name, counted(name, getattr(torch.Tensor, name)))

    class Watch(Callback):
        """Looks at every step but an epoch's first: the end of an epoch may wait."""

        def __init__(self):
            self.steps = 0

        def on_step_end(self, run):
            self.steps += 1
            watched[:] = [True] if self.steps % run.steps_per_epoch else []
            mode.seen.clear() if self.steps % run.steps_per_epoch == 1 else None
            if not watched:
                at_epoch_ends.extend(mode.seen)

    at_epoch_ends = []
    with Synchronisations() as mode:
        trainer(max_epochs=2, callbacks=[Watch()], average_decay=average_decay, batch_size=8).fit(
            make_game(kind), rows
        )
    assert calls == []
    assert at_epoch_ends == []


def test_synchronisation_is_noticed():
    with Synchronisations() as mode:
        float(torch.ones(3).sum())
        torch.ones(3).nonzero()
    assert len(mode.seen) == 2


def test_epoch_reads_its_metrics_once(monkeypatch):
    calls = []
    original = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda t: calls.append(t.shape) or original(t))
    run = trainer(max_epochs=3).fit(make_game(), random_rows())
    assert calls == [(5, 7)] * 3
    assert run.epoch == 3


@pytest.mark.parametrize("device", ["cpu", CPU, "auto"], ids=["name", "device", "auto"])
def test_resolve_device_finds_what_is_there(device):
    has_gpu = torch.cuda.is_available()
    expected = "cuda" if device == "auto" and has_gpu else "cpu"
    assert resolve_device(device).type == expected


@pytest.mark.parametrize("device", ["", "gpu", "cpu:x", "cuda:99", 3.5, None])
def test_resolve_device_of_absent_device_raises(device):
    with pytest.raises(InvalidParameterError, match="device must be 'auto'") as caught:
        resolve_device(device)
    assert f"got {device!r}" in str(caught.value)


def test_autocast_runs_products_in_bfloat16_only_on_request():
    x = torch.ones(2, 2)
    with autocast(CPU, "float32"):
        assert (x @ x).dtype == torch.float32
    with autocast(CPU, "bf16-mixed"):
        assert (x @ x).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"amx_bf16": True}, "bf16-mixed"), ({"amx_bf16": False}, "float32"), ({}, "float32")],
)
def test_fastest_precision_of_a_cpu_follows_its_capabilities(capabilities, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert fastest_precision(CPU) == expected


def test_training_in_mixed_precision_keeps_float32_weights_and_similar_losses():
    exact, mixed = make_game(), make_game()
    first = trainer().fit(exact, random_rows())
    second = trainer(precision="bf16-mixed").fit(mixed, random_rows())
    assert {p.dtype for p in mixed.parameters()} == {torch.float32}
    np.testing.assert_allclose(
        second.history["energy_real"], first.history["energy_real"], rtol=0.05
    )
    assert second.history["energy_real"] != first.history["energy_real"]


def test_place_puts_convolutions_in_channels_last():
    game = make_game("conv")
    before = state(game)
    place(game, CPU)
    kernel = game.encoder[0].weight
    assert kernel.is_contiguous(memory_format=torch.channels_last)
    assert all(torch.equal(value, before[name]) for name, value in game.state_dict().items())


# --- threads ----------------------------------------------------------------------------------


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("module", "batch_size", "expected"),
    [
        (nn.Linear(32, 64), 128, 1),
        (nn.Linear(1024, 1024), 128, 2),
        (nn.Linear(1024, 1024), 4, 1),
        (nn.Conv2d(1, 4, 4), 128, 1),
        (nn.Conv2d(32, 64, 4), 128, 2),
    ],
    ids=["small", "wide", "few rows", "few channels", "many channels"],
)
def test_small_networks_train_on_one_thread(two_threads, module, batch_size, expected):
    with sparing_threads(module, batch_size):
        assert torch.get_num_threads() == expected
    assert torch.get_num_threads() == 2


def test_threads_are_given_back_after_a_failed_training(two_threads):
    seen = []

    class Failing(Callback):
        def on_step_end(self, run):
            seen.append(torch.get_num_threads())
            raise ValueError("stop here")

    game = AutoEncoderObjective(
        build_networks(
            lambda shape: mlp_networks(
                shape, hidden_sizes=(4,), code_dim=2, latent_dim=2, bounded=False
            ),
            (3,),
            latent_dim=2,
            seed=0,
        )
    )
    trainer = Trainer(1, 8, 1e-3, CPU, 0, callbacks=[Failing()])
    with pytest.raises(ValueError, match="stop here"):
        trainer.fit(game, random_rows(20, 3))
    assert seen == [1]
    assert torch.get_num_threads() == 2
