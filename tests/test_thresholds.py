"""Offsets, conformal thresholds and p-values."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.ensemble import IsolationForest

from ebgan_detect.errors import InvalidInputError, InvalidParameterError
from ebgan_detect.thresholds import (
    conformal_p_values,
    conformal_threshold,
    contamination_offset,
    p_value_table,
    rows_needed,
)

pytestmark = pytest.mark.usefixtures("unchanged_global_random_state")

# Written as a user writes them; the exact value of the fraction decides, not its rounding.
RATES = st.builds(Fraction, st.integers(1, 999), st.just(1000))
VALUES = st.floats(0, 100).map(lambda v: round(v, 1))  # ties are common
ENERGIES = hnp.arrays(np.float64, st.integers(1, 60), elements=VALUES)


def exact_rank(n, rate):
    return math.ceil((n + 1) * (1 - rate))


# --- threshold --------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [1e-310, 5e-324, 1 - 2**-53])
def test_rates_next_to_0_and_1_have_a_threshold(rate):
    expected = 3.0 if rate < 0.5 else 1.0
    assert conformal_threshold([2.0, 1.0, 3.0], rate) == expected
    assert rows_needed(rate) == (1 if rate > 0.5 else rows_needed(1e-300))


@given(rate=RATES)
def test_rows_needed_equals_brute_force(rate):
    smallest = next(n for n in range(1, 1001) if exact_rank(n, rate) <= n)
    assert rows_needed(float(rate)) == smallest


@pytest.mark.parametrize(
    ("rate", "n"), [(0.5, 1), (0.1, 9), (0.05, 19), (0.01, 99), (1e-3, 999), (1e-4, 9_999)]
)
def test_rows_needed_known_values(rate, n):
    assert rows_needed(rate) == n


@pytest.mark.parametrize("n", [39_999, 999_999])
def test_rows_needed_of_rare_alarms(n):
    assert rows_needed(1 / (n + 1)) == n


@given(energies=ENERGIES, rate=RATES)
def test_conformal_threshold_equals_oracle(energies, rate):
    rank = min(exact_rank(len(energies), rate), len(energies))
    expected = sorted(energies.tolist())[rank - 1]
    assert conformal_threshold(energies, float(rate)) == expected
    assert conformal_threshold(energies[::-1].tolist(), float(rate)) == expected


@given(energies=ENERGIES, rate=RATES)
def test_conformal_threshold_is_finite_and_exceeded_by_at_most_the_rate(energies, rate):
    threshold = conformal_threshold(energies, float(rate))
    assert threshold in energies
    if len(energies) >= rows_needed(float(rate)):
        # The new row's rank among n + 1 is uniform; it alarms at ranks above the threshold's.
        n_above = int((energies > threshold).sum()) + 1
        assert Fraction(n_above, len(energies) + 1) <= rate + Fraction(1, len(energies) + 1)
    else:
        assert threshold == energies.max()


def test_conformal_threshold_of_too_few_rows_is_the_largest_energy():
    assert conformal_threshold([3.0, 1.0, 2.0], 0.05) == 3.0
    assert conformal_threshold([7.0], 0.5) == 7.0


@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_conformal_threshold_false_alarm_rate_holds(rate):
    rng = np.random.default_rng(1)
    n, n_new, trials = 59, 200, 400
    alarms = [
        (energies[n:] > conformal_threshold(energies[:n], rate)).mean()
        for energies in rng.gamma(2.0, size=(trials, n + n_new))
    ]
    # Exactly floor((n + 1) * rate) / (n + 1) on average; both rates divide 60.
    error = np.std(alarms) / math.sqrt(trials)
    assert abs(np.mean(alarms) - rate) < 4 * error
    assert error < 0.004


def test_conformal_threshold_agrees_with_p_values(np_rng):
    calibration, new = np_rng.gamma(2.0, size=199), np_rng.gamma(2.0, size=1000)
    for rate in (0.01, 0.05, 0.3):
        alarms = new > conformal_threshold(calibration, rate)
        np.testing.assert_array_equal(conformal_p_values(calibration, new) <= rate + 1e-12, alarms)


# --- p-values ---------------------------------------------------------------------------------


@given(calibration=ENERGIES, new=ENERGIES)
def test_conformal_p_values_equal_oracle(calibration, new):
    expected = [
        (1 + sum(other >= energy for other in calibration)) / (len(calibration) + 1)
        for energy in new
    ]
    found = conformal_p_values(calibration, new)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-15)


@pytest.mark.parametrize("ties", [False, True])
def test_conformal_p_values_are_valid_for_exchangeable_energies(ties):
    levels = np.arange(1, 20) / 20
    exceeded = []
    for seed in range(2000):
        energies = np.random.default_rng(seed).lognormal(size=40)
        if ties:
            energies = energies.round(0)
        (p,) = conformal_p_values(energies[:-1], energies[-1:])
        exceeded.append(p <= levels + 1e-12)
    share = np.mean(exceeded, axis=0)
    error = np.sqrt(levels * (1 - levels) / len(exceeded))
    assert (share <= levels + 4 * error).all()
    if not ties:
        # 40 divides every level's denominator: without ties the p-value is exactly uniform.
        assert (share >= levels - 4 * error).all()


def test_conformal_p_values_fall_with_energy_and_keep_their_bounds():
    p = conformal_p_values(np.arange(9.0), [-np.inf, 0.0, 4.0, 4.5, 8.0, 9.0, np.inf])
    np.testing.assert_allclose(p, [1.0, 1.0, 0.6, 0.5, 0.2, 0.1, 0.1])


def test_conformal_p_values_count_infinite_energies_as_equal():
    p = conformal_p_values([1.0, np.inf, np.inf, -np.inf], [np.inf, 1.0, -np.inf])
    np.testing.assert_array_equal(p, [3 / 5, 4 / 5, 1])


def test_conformal_p_values_of_nothing_are_empty():
    assert conformal_p_values([1.0], []).shape == (0,)


# --- tabulated p-values -------------------------------------------------------------------------


def look_up(table, energies):
    """What a reader of the table does, one comparison at a time."""
    known, p_values = table
    return np.array([p_values[sum(k < energy for k in known)] for energy in energies])


@given(calibration=ENERGIES, new=ENERGIES)
def test_p_value_table_that_holds_all_energies_is_exact(calibration, new):
    table = p_value_table(calibration, size=60)
    np.testing.assert_array_equal(look_up(table, new), conformal_p_values(calibration, new))


@given(calibration=ENERGIES, new=ENERGIES, size=st.integers(1, 20))
def test_p_value_table_is_never_below_the_exact_p_value(calibration, new, size):
    table = p_value_table(calibration, size)
    new = np.concatenate([new, calibration, [np.inf]])
    found, exact = look_up(table, new), conformal_p_values(calibration, new)
    assert len(table[0]) <= size
    assert (found >= exact).all()
    assert found.max() <= 1
    assert found[-1] == exact[-1] == 1 / (len(calibration) + 1)


@pytest.mark.parametrize(
    ("n", "n_exact", "ratio"), [(1025, 980, 1.002), (20_000, 180, 1.011), (10**6, 100, 1.021)]
)
def test_p_value_table_is_exact_in_the_tail_and_close_elsewhere(n, n_exact, ratio):
    calibration = np.arange(1.0, n + 1)
    table = p_value_table(calibration, size=1024)
    known, p_values = table
    assert 1000 < len(known) <= 1024
    new = np.concatenate([calibration[-n_exact:], [n + 1.0]])
    np.testing.assert_array_equal(look_up(table, new), conformal_p_values(calibration, new))
    # Just above one tabulated energy, up to the next: the largest and smallest p-values there.
    just_above_the_next = conformal_p_values(calibration, known[1:])
    assert (p_values[1:-1] / just_above_the_next).max() < ratio


def test_p_value_table_of_an_infinite_energy():
    energies, p_values = p_value_table([1.0, np.inf], size=2)
    assert p_values.tolist() == [1.0, 2 / 3, 1 / 3]
    assert energies[0] == 1.0
    assert energies[1] == np.finfo(np.float64).max


@pytest.mark.parametrize("size", [0, -3])
def test_p_value_table_without_room_raises(size):
    with pytest.raises(InvalidParameterError, match=f"size must be .*got {size}"):
        p_value_table([1.0], size)


# --- contamination ----------------------------------------------------------------------------


@pytest.mark.parametrize("contamination", [0.01, 0.1, 0.25, 0.5])
def test_contamination_offset_is_isolation_forests(contamination, np_rng):
    x = np_rng.normal(size=(101, 2))
    forest = IsolationForest(n_estimators=5, contamination=contamination, random_state=0).fit(x)
    scores = forest.score_samples(x)
    assert contamination_offset(scores, contamination) == pytest.approx(forest.offset_, rel=1e-12)


@given(
    scores=hnp.arrays(np.float64, st.integers(1, 80), elements=st.floats(-50, 0), unique=True),
    contamination=st.floats(0.01, 0.5),
)
def test_contamination_offset_leaves_the_share_below(scores, contamination):
    offset = contamination_offset(scores, contamination)
    below = int((scores < offset).sum())
    assert abs(below - contamination * (len(scores) - 1)) <= 1
    assert contamination_offset(scores[::-1].tolist(), contamination) == offset


# --- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0, 1, -0.1, 1.5, 0.0, float("nan"), float("inf")])
def test_false_alarm_rate_outside_unit_interval_raises(rate):
    for call in (rows_needed, lambda r: conformal_threshold([1.0], r)):
        with pytest.raises(InvalidParameterError, match=r"false_alarm_rate .*\(0, 1\)") as caught:
            call(rate)
        assert str(caught.value).endswith(f"got {rate!r}")


@pytest.mark.parametrize("contamination", [0, -0.1, 0.51, 1, float("nan")])
def test_contamination_outside_its_interval_raises(contamination):
    with pytest.raises(InvalidParameterError, match=r"contamination .*\(0, 0\.5\]") as caught:
        contamination_offset([1.0, 2.0], contamination)
    assert str(caught.value).endswith(f"got {contamination!r}")


@pytest.mark.parametrize("energies", [[], [np.nan], [1.0, np.nan, 2.0]])
def test_thresholds_of_no_or_nan_energies_raise(energies):
    for call in (
        lambda: conformal_threshold(energies, 0.1),
        lambda: conformal_p_values(energies, [1.0]),
        lambda: contamination_offset(energies, 0.1),
        lambda: p_value_table(energies, 1),
    ):
        with pytest.raises(InvalidInputError, match="at least one value and no nan"):
            call()


def test_thresholds_leave_their_input_in_order():
    energies = np.array([3.0, 1.0, 2.0])
    conformal_threshold(energies, 0.1)
    conformal_p_values(energies, energies)
    contamination_offset(energies, 0.1)
    p_value_table(energies, 2)
    assert energies.tolist() == [3.0, 1.0, 2.0]
