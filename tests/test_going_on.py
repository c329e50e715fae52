"""Fits that go on: further rows, further epochs, checkpoints; and fits that end too early."""

import copy
import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from tables import SMALL, ring

from ebgan_detect import (
    CalibrationWarning,
    Callback,
    EBGANDetector,
    EBGANWarning,
    InvalidInputError,
    InvalidParameterError,
    ModelFileError,
    TrainingDivergedError,
    load,
    save,
)
from ebgan_detect.base import calibration, contract
from ebgan_detect.baselines import VAEDetector
from ebgan_detect.model import EnergyModel
from ebgan_detect.networks import mlp_networks
from ebgan_detect.partition import row_positions

# --- further rows and epochs --------------------------------------------------------------------


def test_warm_start_goes_on_and_keeps_the_parts(table):
    detector = EBGANDetector(warm_start=True, **SMALL).fit(table)
    part, first = detector._partition, detector.energy(table)
    detector.fit(table)
    assert detector._partition == part
    assert detector.n_iter_ == 6
    assert detector.history_["epoch"] == [1, 2, 3, 4, 5, 6]
    assert not np.array_equal(detector.energy(table), first)


class Rewidened(EBGANDetector):
    """A class whose constructor settles some parameters and takes one of its own."""

    def __init__(self, *, width=16, checkpoint=None):
        super().__init__(**SMALL | {"hidden_sizes": (width,)}, checkpoint=checkpoint)
        self.width = width


def test_a_constructor_of_fewer_parameters_settles_the_others(table, tmp_path):
    detector = clone(Rewidened(width=7)).fit(table)
    expected = EBGANDetector(**SMALL | {"hidden_sizes": (7,)}).fit(table)
    np.testing.assert_array_equal(detector.energy(table), expected.energy(table))
    detector.hidden_sizes = (8,)
    with pytest.raises(InvalidParameterError, match=r"hidden_sizes must stay \(7,\)"):
        detector.partial_fit(table)
    Rewidened(checkpoint=tmp_path).fit(table)
    with pytest.raises(ModelFileError, match="hidden_sizes"):
        Rewidened(checkpoint=tmp_path, width=8).fit(table)


def test_health_is_judged_where_updates_suffice_and_kept_where_they_do_not(table):
    detector = EBGANDetector(**SMALL)
    assert detector.set_params(max_epochs=1).fit(table).health_ == (
        "not judged: 4 updates at a time, 500 needed"
    )
    verdict = detector.set_params(max_epochs=200).fit(table).health_
    assert not verdict.startswith("not judged")
    assert detector.partial_fit(table).health_ == verdict
    assert detector.set_params(max_epochs=1).fit(table).health_.startswith("not judged")


class Seen(Callback):
    """The scaled rows of every training."""

    def __init__(self):
        self.rows = []

    def on_train_begin(self, run):
        self.rows.append(run.rows.take(torch.arange(len(run.rows))))


def as_bytes(rows):
    """Rows as a set."""
    return {row.tobytes() for row in np.asarray(rows)}


def test_partial_fit_from_scratch_learns_and_keeps_calibration_rows_apart(table):
    seen = Seen()
    detector = EBGANDetector(
        calibration_fraction=0.2, callbacks=[seen], **SMALL | {"learning_rate": 1e-2}
    )
    energies = [
        detector.partial_fit(part).energy(table).mean()
        for _ in range(12)
        for part in np.split(table, 3)
    ]
    scaler = detector.model_.scaler
    calibrated = as_bytes(scaler(torch.from_numpy(detector._calibration_rows.values)))
    trained = as_bytes(torch.cat(seen.rows))
    assert not trained & calibrated
    assert trained | calibrated == as_bytes(scaler(torch.from_numpy(table)))
    assert detector.n_iter_ == 36
    assert len(detector.calibration_energies_) == 12 * len(calibrated)  # each call counts
    assert energies[-1] < energies[0] / 2


@pytest.mark.filterwarnings("ignore::ebgan_detect.CalibrationWarning")
@pytest.mark.parametrize("n_first", [1, 200])
def test_partial_fit_on_a_row_or_two_keeps_calibration_rows_apart(n_first, table):
    seen = Seen()
    detector = EBGANDetector(callbacks=[seen], **SMALL).partial_fit(table[:n_first])
    assert detector._calibration_rows.apart is (n_first == 200)
    del seen.rows[:]
    for start in range(200, 280, 2):
        detector.partial_fit(table[start : start + 2])
    rows = detector._calibration_rows
    assert rows.apart
    assert (rows.positions < detector._partition.calibration_below).all()
    scaler = detector.model_.scaler
    calibrated = as_bytes(scaler(torch.from_numpy(rows.values)))
    trained = as_bytes(torch.cat(seen.rows))
    assert not trained & calibrated
    new = scaler(torch.from_numpy(table[200:280]))
    parts = detector._partition.divide(row_positions([table[200:280]], detector._seed))
    assert as_bytes(new[parts.calibration]) == calibrated & as_bytes(new)
    assert as_bytes(new[parts.training]) == trained


@pytest.mark.filterwarnings("ignore::ebgan_detect.CalibrationWarning")
def test_call_without_a_row_to_train_on_only_calibrates(table):
    detector = EBGANDetector(keep_state="separation", **SMALL).partial_fit(table[:300])
    n_calibrated = len(detector.calibration_energies_)
    parts = detector._partition.divide(row_positions([table[300:]], detector._seed))
    before = detector.energy(table)
    for held_out in (parts.validation, parts.calibration):
        for number in held_out[:2]:
            detector.partial_fit(table[300 + number : 301 + number])
    np.testing.assert_array_equal(detector.energy(table), before)
    assert detector.n_iter_ == 1
    assert len(detector.calibration_energies_) > n_calibrated


def test_warm_start_on_rows_that_all_train_keeps_the_earlier_calibration_rows(table):
    detector = EBGANDetector(warm_start=True, **SMALL).fit(table)
    positions = detector._calibration_rows.positions
    new = ring(40, 1)
    parts = detector._partition.divide(row_positions([new], detector._seed))
    detector.fit(new[parts.training[:4]])
    np.testing.assert_array_equal(detector._calibration_rows.positions, positions)
    kept = detector.energy(detector._calibration_rows.values)
    np.testing.assert_array_equal(detector.calibration_energies_, np.sort(kept))


def test_criterion_scores_a_bounded_number_of_validation_rows(table, monkeypatch):
    lengths = []
    separation = contract.separation

    def watched(held_out, seed):
        lengths.append(len(held_out))
        return separation(held_out, seed)

    monkeypatch.setattr(contract, "separation", watched)
    monkeypatch.setattr(contract, "ROWS_TO_JUDGE", 7)
    EBGANDetector(keep_state="separation", **SMALL).fit(table)
    assert lengths == [7]


def test_members_that_are_added_count_their_own_epochs(table, tmp_path):
    detector = EBGANDetector(warm_start=True, **SMALL | {"max_epochs": 2}).fit(table)
    save(detector.set_params(n_estimators=2), tmp_path / "model.ebgan")
    loaded = load(tmp_path / "model.ebgan").set_params(warm_start=True, n_estimators=2)
    for each in (detector, loaded):
        history = each.fit(table).partial_fit(table).history_
        epochs = list(zip(history["member"], history["epoch"], strict=True))
        first, second = [(0, 3), (0, 4), (1, 1), (1, 2)], [(0, 5), (1, 3)]
        assert epochs == [(0, 1), (0, 2), *first, *second]
        assert each.n_iter_ == 5


def test_warm_start_refuses_fewer_members(table):
    detector = EBGANDetector(n_estimators=2, warm_start=True, **SMALL).fit(table)
    before = detector.energy(table)
    with pytest.raises(InvalidParameterError, match="at least the 2 members"):
        detector.set_params(n_estimators=1).fit(table)
    np.testing.assert_array_equal(detector.energy(table), before)


@pytest.mark.filterwarnings("ignore::ebgan_detect.CalibrationWarning")
@pytest.mark.parametrize("seed", range(4))
def test_without_calibration_rows_all_training_rows_calibrate(seed, table):
    brief = {**SMALL, "random_state": seed, "max_epochs": 1, "margin": 1.0}
    detector = EBGANDetector(calibration_fraction=0, **brief).fit(table[:300])
    detector.partial_fit(table[300:])
    assert len(detector.calibration_energies_) == 600
    assert not detector._calibration_rows.apart


def test_partial_fit_after_fit_moves_gently(table):
    detector = EBGANDetector(**SMALL | {"max_epochs": 60}).fit(table)
    before = detector.energy(table).mean()
    detector.partial_fit(ring(200, 5))
    assert detector.energy(table).mean() < 3 * before + 0.01


def test_schedules_of_the_first_training_have_come_to_their_end(table):
    few, lax = ring(200, 1), {**SMALL, "false_alarm_rate": 0.4}
    detector = EBGANDetector(margin=(2.0, 0.5), **lax).fit(table)
    detector.partial_fit(few)
    assert detector.history_["margin"][0] > 1.5
    assert detector.history_["margin"][-1] == detector.model_.members[0].margin == 0.5
    sizes = {name: lax[name] for name in lax if name != "code_dim"}
    vae = VAEDetector(batch_size=512, **sizes).partial_fit(few)
    assert float(vae.model_.members[0].warmth) < 1
    vae.partial_fit(few)
    assert float(vae.model_.members[0].warmth) == 1


def test_calls_of_one_step_replace_the_snapshots(table):
    detector = EBGANDetector(n_snapshots=3, batch_size=64, false_alarm_rate=0.4, **SMALL)
    detector.partial_fit(table[:60])
    reached = []
    for _ in range(4):
        reached.append(detector.model_.members[0].decoder[-1].bias.detach().clone())
        detector.partial_fit(table[:60])
    kept = [state[1][-1].bias for state in detector.model_.members[0].earlier]
    assert [torch.equal(mine, theirs) for mine, theirs in zip(kept, reached[-2:], strict=True)]
    assert not torch.equal(*kept)


def test_checkpoint_is_of_fits_alone(table, tmp_path):
    detector = EBGANDetector(checkpoint=tmp_path, **SMALL).fit(table)
    other = EBGANDetector(checkpoint=tmp_path, **SMALL).partial_fit(table)
    assert other.n_iter_ == 1
    again = EBGANDetector(checkpoint=tmp_path, **SMALL).fit(table)
    np.testing.assert_array_equal(again.energy(table), detector.energy(table))


def test_checkpoint_of_the_same_rows_in_another_order_is_refused(table, tmp_path):
    EBGANDetector(checkpoint=tmp_path, **SMALL).fit(table)
    for seed in range(5):
        with pytest.raises(ModelFileError, match="was written with other training rows;"):
            EBGANDetector(checkpoint=tmp_path, **SMALL).fit(
                np.random.default_rng(seed).permutation(table)
            )


def test_checkpoint_takes_up_a_finished_fit(table, tmp_path):
    detector = EBGANDetector(checkpoint=tmp_path, n_estimators=2, **SMALL).fit(table)
    again = EBGANDetector(checkpoint=tmp_path, n_estimators=2, **SMALL).fit(table)
    np.testing.assert_array_equal(again.energy(table), detector.energy(table))
    assert again.history_ == detector.history_


def test_checkpoint_without_a_seed_keeps_its_own(table, tmp_path):
    first = EBGANDetector(checkpoint=tmp_path, **SMALL | {"random_state": None}).fit(table)
    again = EBGANDetector(checkpoint=tmp_path, **SMALL | {"random_state": None}).fit(table)
    np.testing.assert_array_equal(again.energy(table), first.energy(table))


def factory_with(width):
    """A network factory; another process makes another function object."""

    def factory(shape):
        return mlp_networks(shape, hidden_sizes=(width,), code_dim=2, latent_dim=2, bounded=False)

    return factory


def test_checkpoint_knows_factories_and_numpy_integers_again(table, tmp_path):
    brief = {**SMALL, "checkpoint": tmp_path, "hidden_sizes": "auto", "latent_dim": 2}
    first = EBGANDetector(architecture=factory_with(4), batch_size=np.int64(64), **brief).fit(table)
    again = EBGANDetector(architecture=factory_with(4), batch_size=64, **brief).fit(table)
    np.testing.assert_array_equal(again.energy(table), first.energy(table))


def test_checkpoint_tells_functions_of_one_name_apart(table, tmp_path):
    EBGANDetector(margin=lambda p: 1.0, checkpoint=tmp_path, **SMALL).fit(table)
    with pytest.raises(ModelFileError, match=r"was written with margin='test_going_on"):
        EBGANDetector(margin=lambda p: 5.0, checkpoint=tmp_path, **SMALL).fit(table)
    factories = {**SMALL, "checkpoint": tmp_path / "factories", "latent_dim": 2}
    EBGANDetector(architecture=factory_with(4), **factories).fit(table)
    with pytest.raises(ModelFileError, match="was written with architecture="):
        EBGANDetector(architecture=factory_with(5), **factories).fit(table)


def test_checkpoint_says_what_differs(table, tmp_path):
    EBGANDetector(checkpoint=tmp_path, **SMALL).fit(table)
    with pytest.raises(ModelFileError, match="was written with other training rows;"):
        EBGANDetector(checkpoint=tmp_path, **SMALL).fit(table + 1)
    with pytest.raises(ModelFileError, match="was written with another random_state;"):
        EBGANDetector(checkpoint=tmp_path, **SMALL | {"random_state": 1}).fit(table)


class Folder(os.PathLike):
    """A path of another library's."""

    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return self.path


def test_checkpoint_may_be_any_path(table, tmp_path):
    folder = Folder(str(tmp_path / "new" / "folder"))
    EBGANDetector(checkpoint=folder, **SMALL).fit(table)
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == [
        "member-0.checkpoint"
    ]


@pytest.mark.parametrize(
    "checkpoint",
    ["", 3, b"x", Folder(b"x"), "file", Path("file") / "folder", "a\0"],
    ids=["empty", "number", "bytes", "path of bytes", "file", "below a file", "null byte"],
)
def test_checkpoint_that_cannot_be_written_is_refused_before_any_work(
    checkpoint, table, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    seen = Seen()
    detector = EBGANDetector(checkpoint=checkpoint, callbacks=[seen], **SMALL)
    with pytest.raises(InvalidParameterError, match=r"checkpoint must be .*folder.*, got "):
        detector.fit(table)
    assert seen.rows == []
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("adversarial", False), ("margin", 7.0), ("hidden_sizes", (8,)), ("scaling", "minmax")],
)
@pytest.mark.parametrize("is_loaded", [False, True], ids=["fitted", "loaded"])
def test_going_on_refuses_what_it_would_have_to_ignore(name, value, is_loaded, table, tmp_path):
    detector = EBGANDetector(warm_start=True, **SMALL).fit(table)
    if is_loaded:
        save(detector, tmp_path / "model.ebgan")
        detector = load(tmp_path / "model.ebgan")
    detector.set_params(**{name: value})
    for method in (detector.fit, detector.partial_fit):
        with pytest.raises(InvalidParameterError, match=f"{name} must stay .*, got ") as caught:
            method(table)
        assert f"got {value!r};" in str(caught.value)
    assert detector.set_params(warm_start=False).fit(table).n_iter_ == 3


def test_functions_that_a_file_does_not_hold_may_be_given_again(table, tmp_path):
    def margin(progress):
        return 3.0

    save(EBGANDetector(margin=margin, **SMALL).fit(table), tmp_path / "model.ebgan")
    detector = load(tmp_path / "model.ebgan").set_params(margin=margin)
    assert detector.partial_fit(table).margin_ == 3


def test_list_that_changes_later_changes_no_fitted_detector(table, tmp_path):
    widths = [16]
    detector = EBGANDetector(**SMALL | {"hidden_sizes": widths}).fit(table)
    detector.set_params(hidden_sizes=(16,)).partial_fit(table)  # equal
    widths.append(8)
    save(detector, tmp_path / "model.ebgan")
    found = load(tmp_path / "model.ebgan").energy(table)
    np.testing.assert_array_equal(found, detector.energy(table))


@pytest.mark.filterwarnings("ignore::ebgan_detect.CalibrationWarning")  # of the first calls
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_rows_that_repeat_over_calls_raise_no_more_false_alarms(seed):
    rng = np.random.default_rng(seed)

    def draw(n):
        x = rng.normal(size=(n, 3))
        x[rng.random(n) < 0.3] = 30.0  # as a sensor that idles
        return x

    detector = EBGANDetector(**SMALL | {"random_state": seed})
    for _ in range(80):
        detector.partial_fit(draw(20))
    assert (detector.p_values(draw(2000)) <= 0.1).mean() < 0.15
    kept = detector._calibration_rows
    assert kept.calls == 80
    assert (np.diff(kept.positions) >= 0).all()


def test_kept_calibration_rows_are_a_sample_of_all_calls(table, monkeypatch, tmp_path):
    monkeypatch.setattr(calibration, "KEPT_ROWS", 40)
    detector = EBGANDetector(**SMALL).fit(table)
    for call in range(30):
        if call == 15:  # a file knows how many calls there were
            save(detector, tmp_path / "model.ebgan")
            detector = load(tmp_path / "model.ebgan")
        detector.partial_fit(table)
        assert len(detector._calibration_rows.values) == 40
    # About twenty rows calibrate in each call, always the same.
    counts = np.unique(detector._calibration_rows.values, axis=0, return_counts=True)[1]
    assert counts.max() < 10
    assert len(counts) > 15


def test_kept_calibration_rows_are_a_sample_of_all_calls_however_many_each_has(monkeypatch):
    monkeypatch.setattr(calibration, "KEPT_ROWS", 200)
    detector = EBGANDetector(**SMALL | {"calibration_fraction": 0.5}).fit(ring(400))
    for call in range(1, 8):
        rows = ring(1000, seed=call)
        rows[:, 0] += 10 * call
        detector.partial_fit(rows)
    of_call = np.bincount((detector._calibration_rows.values[:, 0] / 10).round().astype(int))
    assert of_call[1:].min() > 10
    assert of_call.max() < 60


def test_rows_too_large_to_compute_with_are_refused_by_name(table):
    table = table.copy()
    table[7, 1] = np.finfo(float).max
    for method in ("fit", "partial_fit"):
        with pytest.raises(InvalidInputError, match=r"up to 3.4e\+38, got 1.8e\+308 in row 7,"):
            getattr(EBGANDetector(**SMALL), method)(table)
    fitted = EBGANDetector(**SMALL).fit(ring(200))
    with pytest.raises(InvalidInputError, match="in row 7,"):
        fitted.partial_fit(table)
    assert fitted.predict(table)[7] == -1


def test_threshold_beyond_all_numbers_is_told(table):
    positions = row_positions([table[:60]], EBGANDetector(**SMALL).fit(table[:60])._seed)
    far = table[:60].copy()
    for value in 1e30 * np.arange(1, 9):  # until one calibrates
        far[0] = value
        if row_positions([far], EBGANDetector(**SMALL).fit(table[:60])._seed)[0] < positions.min():
            break
    with pytest.warns(CalibrationWarning, match="the threshold is beyond all numbers"):
        EBGANDetector(**SMALL).fit(far)


def test_calibration_rows_that_are_kept_are_bounded(table, monkeypatch):
    monkeypatch.setattr(calibration, "KEPT_ROWS", 25)
    detector = EBGANDetector(**SMALL).partial_fit(table[:300]).partial_fit(table[300:])
    assert len(detector.calibration_energies_) == 25


# --- fits that end too early ----------------------------------------------------------------------


def test_interrupted_fit_is_usable_and_says_so(table):
    class Interrupt(Callback):
        def on_step_end(self, run):
            if run.epoch == 2:
                raise KeyboardInterrupt

    with pytest.warns(EBGANWarning, match="interrupted; the state after epoch 2 of 3"):
        detector = EBGANDetector(callbacks=[Interrupt()], **SMALL).fit(table)
    assert detector.n_iter_ == 2
    assert np.isfinite(detector.offset_)
    assert set(detector.predict(table)) == {-1, 1}


class InterruptFirstEpochOfRun(Callback):
    """Press Ctrl-C in the first epoch of the n-th training that callbacks see."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.begun = 0

    def on_train_begin(self, run):
        self.begun += 1

    def on_step_end(self, run):
        if self.begun == self.n:
            raise KeyboardInterrupt


def test_interrupt_before_the_first_epoch_is_passed_on(table):
    detector = EBGANDetector(callbacks=[InterruptFirstEpochOfRun(1)], **SMALL)
    with pytest.raises(KeyboardInterrupt):
        detector.fit(table)
    with pytest.raises(NotFittedError):
        detector.energy(table)


def test_interrupt_in_a_later_member_keeps_the_earlier_ones(table):
    detector = EBGANDetector(n_estimators=3, callbacks=[InterruptFirstEpochOfRun(2)], **SMALL)
    with pytest.warns(EBGANWarning, match="1 of 3 members"):
        detector.fit(table)
    assert len(detector.model_.members) == 1
    assert np.isfinite(detector.energy(table)).all()


class InterruptFirstStep(Callback):
    """Press Ctrl-C."""

    def on_step_end(self, run):
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"callbacks": [InterruptFirstStep()]}, KeyboardInterrupt),
        ({"learning_rate": 1e30}, TrainingDivergedError),
    ],
    ids=["interrupted", "diverged"],
)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_continuation_that_fails_leaves_the_detector_as_it_was(method, changed, error, table):
    detector = EBGANDetector(warm_start=True, **SMALL | {"max_epochs": 5}).fit(table)
    before, threshold = detector.energy(table), detector.offset_
    detector.set_params(**changed)
    with pytest.raises(error):
        getattr(detector, method)(ring(600, 1))
    np.testing.assert_array_equal(detector.energy(table), before)
    assert detector.offset_ == threshold
    assert detector.n_iter_ == 5
    detector.set_params(callbacks=None, learning_rate=1e-3).partial_fit(table)
    assert np.isfinite(detector.energy(table)).all()


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"callbacks": [InterruptFirstStep()]}, KeyboardInterrupt),
        ({"learning_rate": 1e30}, TrainingDivergedError),
        ({"architecture": "conv"}, InvalidParameterError),
        ({"random_state": None, "checkpoint": "junk"}, ModelFileError),
    ],
    ids=["interrupted", "diverged", "architecture", "checkpoint"],
)
def test_refit_that_fails_leaves_the_detector_as_it_was(changed, error, table, tmp_path):
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk" / "member-0.checkpoint").write_bytes(b"junk")
    if "checkpoint" in changed:
        changed = changed | {"checkpoint": tmp_path / "junk"}
    frame = pd.DataFrame(table, columns=["a", "b"])
    detector = EBGANDetector(**SMALL).fit(frame)
    before, params = vars(detector).copy(), detector.get_params()
    energies = detector.energy(frame)
    detector.set_params(**changed)
    with pytest.raises(error):
        detector.fit(np.c_[ring(300, 1), ring(300, 2)])
    detector.set_params(**params)
    assert vars(detector).keys() == before.keys()
    for name in ("offset_", "history_", "health_", "n_iter_", "settings_", "input_shape_"):
        assert getattr(detector, name) == before[name], name
    assert detector.feature_names_in_.tolist() == ["a", "b"]
    np.testing.assert_array_equal(detector.energy(frame), energies)
    assert detector.partial_fit(frame).n_iter_ == 4


def test_refused_rows_leave_the_optimisers_alone(table):
    """A bad batch in a stream of them costs nothing that was learnt."""
    detector = EBGANDetector(**SMALL).partial_fit(table)
    (game,) = detector.model_.games()
    for method in (detector.fit, detector.partial_fit):
        with pytest.raises(InvalidInputError):
            method(table * np.nan)
        assert detector.model_.games() == [game]
        assert game.optimizers
        assert int(game.replay.n_stored) > 0


def strictly(function, *arguments):
    """Call a function that raises what it would warn of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        function(*arguments)


def test_failure_after_the_training_leaves_the_detector_as_it_was(table):
    detector = EBGANDetector(**SMALL).fit(table)
    before, history = detector.energy(table), copy.deepcopy(detector.history_)
    detector.set_params(false_alarm_rate=0.001)
    with pytest.raises(CalibrationWarning):
        strictly(detector.partial_fit, ring(50, 3))
    np.testing.assert_array_equal(detector.energy(table), before)
    assert detector.n_iter_ == 3
    assert detector.history_ == history
    new = EBGANDetector(false_alarm_rate=0.001, **SMALL)
    with pytest.raises(CalibrationWarning):
        strictly(new.partial_fit, ring(50, 3))
    with pytest.raises(NotFittedError):
        new.predict(table)


def test_interrupt_in_a_later_member_that_goes_on_is_passed_on(table):
    detector = EBGANDetector(n_estimators=2, **SMALL).fit(table)
    before = detector.energy(table)
    detector.set_params(callbacks=[InterruptFirstEpochOfRun(2)])
    with pytest.raises(KeyboardInterrupt):
        detector.partial_fit(ring(300, 1))
    np.testing.assert_array_equal(detector.energy(table), before)


@pytest.mark.parametrize(
    "bad", [ring(50) * np.nan, np.zeros((50, 5)) + np.inf, np.zeros((50, 3, 3, 3, 3))]
)
def test_refused_rows_leave_the_detector_as_it_was(bad, table):
    detector = EBGANDetector(**SMALL).fit(table)
    before = detector.energy(table)
    with pytest.raises(InvalidInputError):
        detector.fit(bad)
    np.testing.assert_array_equal(detector.energy(table), before)
    assert detector.n_features_in_ == 2


# --- what a fitted detector holds ----------------------------------------------------------------


def test_model_that_only_scores_allocates_no_replay(table, tmp_path):
    save(EBGANDetector(**SMALL).fit(table), tmp_path / "model.ebgan")
    detector = load(tmp_path / "model.ebgan")
    detector.energy(table)
    (game,) = detector.model_.games()
    assert sum(b.numel() for name, b in game.named_buffers() if "replay" in name) == 1
    detector.partial_fit(table)
    assert len(game.replay.rows) == game.replay.capacity > 1000


def test_weights_are_not_moved_in_inference_mode(table, monkeypatch):
    """Weights that are moved in it cannot train any more, as after a change of device."""
    detector = EBGANDetector(**SMALL).fit(table)
    modes = []
    to = EnergyModel.to

    def watched(self, *args):
        modes.append(torch.is_inference_mode_enabled())
        return to(self, *args)

    monkeypatch.setattr(EnergyModel, "to", watched)
    with torch.inference_mode():
        detector.energy(table)
    assert modes == [False]


def test_moments_on_another_device_than_the_weights_start_anew(table):
    detector = EBGANDetector(**SMALL).fit(table)
    (game,) = detector.model_.games()
    for optimizer in game.optimizers.values():
        for moments in optimizer.state.values():
            moments["exp_avg"] = moments["exp_avg"].to("meta")
    detector.partial_fit(table)
    moments = [m for o in game.optimizers.values() for m in o.state.values()]
    assert {m["exp_avg"].device.type for m in moments} == {"cpu"}


def test_fit_on_a_cpu_seeds_no_gpu(table, monkeypatch):
    """torch.random.manual_seed would seed every GPU of the caller, for good."""
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    monkeypatch.setattr(torch.cuda, "manual_seed", seeded.append)
    EBGANDetector(device="cpu", **SMALL).fit(table)
    assert seeded == []
