"""The training loop: epochs, schedules, history, callbacks, the state to keep."""

import math
import os
import signal
import time

import numpy as np
import pytest
import torch
from games import (
    Counting,
    Interrupt,
    Mean,
    Recorder,
    check_equal,
    make_game,
    numbered_rows,
    random_rows,
    state,
    trainer,
)
from torch import nn

from ebgan_detect.errors import (
    TrainingDivergedError,
    TrainingInterruptedWarning,
)
from ebgan_detect.training import (
    SCHEDULES,
    Callback,
    Checkpoint,
    ProgressBar,
    ResidentRows,
)

pytestmark = pytest.mark.usefixtures("unchanged_global_random_state")


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


class FailAt(Callback):
    """Fails in one hook."""

    def __init__(self, hook):
        setattr(self, hook, self.fail)

    def fail(self, run):
        raise LookupError("mine")


@pytest.mark.parametrize(
    ("hook", "ended"), [("on_train_begin", "a"), ("on_step_end", "ab"), ("on_train_end", "ab")]
)
def test_callbacks_that_have_begun_come_to_their_end_whatever_fails(hook, ended):
    log = []
    callbacks = [Recorder(log, "a"), FailAt(hook), Recorder(log, "b"), ProgressBar()]
    with pytest.raises(LookupError, match="mine"):
        trainer(callbacks=callbacks, max_epochs=1).fit(make_game(), random_rows())
    assert [name for name, event, *_ in log if event == "end"] == list(ended)
    assert callbacks[-1]._bar is None or callbacks[-1]._bar.disable  # closed


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
        measured = super().update(real, rng)
        if self.weight.item() >= self.at:
            measured["loss"] = torch.tensor(self.value)
        return measured


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_divergence_names_epoch_step_and_rate(value):
    with pytest.raises(TrainingDivergedError) as caught:
        trainer(batch_size=2, learning_rate=0.02).fit(Breaking(8, value), numbered_rows(10))
    message = str(caught.value)
    assert message == (f"loss became {value} at epoch 2, step 3; lower learning_rate (now 0.02)")


@pytest.mark.parametrize("n_updates", [255, 256, 257, 600])
def test_metrics_of_long_epochs_count_every_update_once(n_updates):
    run = trainer(max_epochs=1, batch_size=1).fit(Counting(), numbered_rows(n_updates))
    assert run.history["value"] == [(n_updates + 1) / 2]


def test_divergence_is_found_far_into_an_epoch():
    with pytest.raises(TrainingDivergedError, match="epoch 1, step 300;"):
        trainer(batch_size=1).fit(Breaking(300, math.nan), numbered_rows(600))


def test_divergence_of_a_real_game_is_noticed():
    with pytest.raises(TrainingDivergedError, match=r"(loss|energy) .* became (nan|inf) at epoch"):
        trainer(learning_rate=1e30).fit(make_game(), random_rows())


def test_divergence_writes_no_checkpoint_of_that_epoch(tmp_path):
    checkpoint = Checkpoint(tmp_path / "state", {})
    with pytest.raises(TrainingDivergedError):
        trainer(batch_size=2, checkpoint=checkpoint).fit(Breaking(8, math.nan), numbered_rows(10))
    assert checkpoint.read().epoch == 1


def test_interrupt_keeps_the_last_full_epochs_state():
    game = make_game()
    interrupt, log = Interrupt(epoch=3), []
    with pytest.warns(TrainingInterruptedWarning, match="after epoch 2 of 5 is kept"):
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
    with pytest.warns(TrainingInterruptedWarning, match="epoch 2 of 4"):
        trainer(callbacks=[Interrupt(epoch=3)], **options).fit(game, numbered_rows(10))
    trainer(max_epochs=2, **options).fit(shorter, numbered_rows(10))
    assert game.weight.item() == shorter.weight.item()


def test_interrupt_keeps_the_best_state_so_far():
    game = Counting()
    with pytest.warns(TrainingInterruptedWarning):
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
    with pytest.warns(TrainingInterruptedWarning, match="epoch 2 of 4"):
        run = trainer(callbacks=[Signal()]).fit(game, random_rows())
    assert run.interrupted
