"""Division of the fitted rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from ebgan_detect.partition import Partition, part_sizes, row_positions

pytestmark = pytest.mark.usefixtures("unchanged_global_random_state")


def split(x, n_calibration, n_validation, seed=0):
    positions = row_positions([x], seed)
    partition = Partition.choose(
        positions, n_calibration=n_calibration, n_validation=n_validation, seed=seed
    )
    return partition, partition.divide(positions)


# --- cutoffs ----------------------------------------------------------------------------------


@given(n=st.integers(1, 60), data=st.data(), constant=st.booleans(), seed=st.integers(0, 2**31))
def test_parts_are_disjoint_exhaustive_and_exactly_sized(n, data, constant, seed):
    n_calibration = data.draw(st.integers(0, n - 1))
    n_validation = data.draw(st.integers(0, n - 1 - n_calibration))
    x = np.zeros((n, 2)) if constant else np.random.default_rng(seed).normal(size=(n, 2))
    _, parts = split(x, n_calibration, n_validation, seed)
    assert [len(part) for part in parts] == [
        n - n_calibration - n_validation,
        n_validation,
        n_calibration,
    ]
    assert sorted(np.concatenate(parts).tolist()) == list(range(n))
    assert all((np.diff(part) > 0).all() for part in parts)


def test_partition_of_new_rows_keeps_the_shares(np_rng):
    partition, _ = split(np_rng.normal(size=(2000, 3)), 400, 200)
    new = np_rng.normal(size=(20_000, 3))
    shares = [len(part) / 20_000 for part in partition.divide(row_positions([new], 0))]
    np.testing.assert_allclose(shares, [0.7, 0.1, 0.2], atol=0.05)


def test_partition_same_row_gets_same_part_in_later_calls(np_rng):
    x = np_rng.normal(size=(200, 3))
    partition, parts = split(x, 40, 20)
    part_of = np.empty(200, dtype=int)
    for k, part in enumerate(parts):
        part_of[part] = k
    # A later call brings some old rows, in another order, among new ones.
    old = np_rng.permutation(200)[:120]
    later = np.concatenate([np_rng.normal(size=(50, 3)), x[old], np_rng.normal(size=(9, 3))])
    found = np.empty(len(later), dtype=int)
    for k, part in enumerate(partition.divide(row_positions([later], partition.seed))):
        found[part] = k
    np.testing.assert_array_equal(found[50:170], part_of[old])


# --- sizes ------------------------------------------------------------------------------------

FRACTIONS = st.floats(0, 0.99)


@given(
    n=st.integers(1, 3000), calibration=FRACTIONS, validation=FRACTIONS, needed=st.integers(1, 999)
)
def test_part_sizes_keep_their_promises(n, calibration, validation, needed):
    n_calibration, n_validation = part_sizes(
        n, calibration_fraction=calibration, validation_fraction=validation, rows_needed=needed
    )
    assert n_calibration >= 0 <= n_validation
    assert n_calibration + n_validation <= n // 2
    wanted = round(calibration * n)
    if calibration == 0:
        assert n_calibration == 0
    else:
        assert n_calibration >= min(wanted, n // 2)
        assert n_calibration >= min(needed, n // 3)
        assert n_calibration <= max(wanted, needed)
    assert n_validation <= round(validation * n)
    # Validation is cut only when half of the rows are taken.
    assert n_validation == round(validation * n) or n_calibration + n_validation == n // 2


@pytest.mark.parametrize("n", [1, 2, 3])
def test_part_sizes_of_tiny_inputs_leave_rows_to_train(n):
    sizes = part_sizes(n, calibration_fraction=0.5, validation_fraction=0.5, rows_needed=19)
    assert sizes == (n // 2, 0)


# --- positions --------------------------------------------------------------------------------


def tables():
    rng = np.random.default_rng(0)
    n = 4000
    return {
        "normal": rng.normal(size=(n, 3)),
        "float32": rng.normal(size=(n, 3)).astype(np.float32),
        "one column": rng.normal(size=(n, 1)),
        "row numbers": np.arange(n)[:, None],
        "powers of two": 2.0 ** rng.integers(-300, 300, size=(n, 4)),
        "binary": rng.integers(0, 2, size=(n, 30)),
        "one-hot": np.eye(500, dtype=np.float32),
        "images": rng.integers(0, 256, size=(n, 2, 3, 3), dtype=np.uint8),
        "few values": rng.integers(0, 3, size=(n, 1)),
        "constant": np.ones((n, 5)),
    }


@pytest.mark.parametrize("name", tables())
def test_row_positions_are_uniform_and_distinct(name):
    x = tables()[name]
    for seed in (0, 1, 2):
        positions = row_positions([x], seed)
        assert positions.dtype == np.float64
        assert positions.min() >= 0
        assert positions.max() < 1
        assert len(np.unique(positions)) == len(x)
        assert kstest(positions, "uniform").pvalue > 1e-4


@pytest.mark.parametrize("name", tables())
def test_row_positions_of_neighbours_are_unrelated(name):
    positions = row_positions([tables()[name]], 0)
    assert abs(np.corrcoef(positions[:-1], positions[1:])[0, 1]) < 4 / np.sqrt(len(positions))


@pytest.mark.parametrize("name", tables())
def test_row_positions_do_not_depend_on_row_order(name, np_rng):
    # Among distinct rows; numbers whose float64 is mostly zeros must not collide.
    x = np.unique(tables()[name], axis=0)
    order = np_rng.permutation(len(x))
    np.testing.assert_array_equal(row_positions([x[order]], 5), row_positions([x], 5)[order])


def test_row_positions_of_equal_rows_do_not_depend_on_the_rest(np_rng):
    # As a set: which of the equal rows comes first does not matter.
    x = np.repeat(np_rng.normal(size=(20, 2)), 5, axis=0)
    order = np_rng.permutation(100)
    shuffled, straight = row_positions([x[order]], 1), row_positions([x], 1)
    for value in np.unique(x[:, 0]):
        assert set(shuffled[x[order][:, 0] == value]) == set(straight[x[:, 0] == value])


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int16, np.int64, np.float16, np.float32, ">f4", ">i2", np.longdouble]
)
def test_row_positions_do_not_depend_on_dtype(dtype, np_rng):
    x = np_rng.integers(0, 100, size=(50, 3))
    expected = row_positions([x.astype(np.float64)], 3)
    np.testing.assert_array_equal(row_positions([x.astype(dtype)], 3), expected)


@pytest.mark.parametrize("size", [1, 7, 50])
def test_row_positions_do_not_depend_on_chunks_or_layout(size, np_rng):
    x = np_rng.integers(0, 4, size=(50, 2, 3))
    expected = row_positions([x], 3)
    chunks = [x[i : i + size] for i in range(0, 50, size)]
    np.testing.assert_array_equal(row_positions(chunks, 3), expected)
    np.testing.assert_array_equal(row_positions([np.asfortranarray(x)], 3), expected)
    np.testing.assert_array_equal(row_positions([x[::-1]], 3).min(), expected.min())


def test_row_positions_negative_zero_is_zero():
    x = np.array([[0.0, 1.0]])
    np.testing.assert_array_equal(row_positions([x * [-1, 1]], 0), row_positions([x], 0))


def test_row_positions_tell_the_columns_apart(np_rng):
    x = np_rng.normal(size=(30, 2))
    assert not np.isin(row_positions([x[:, ::-1]], 0), row_positions([x], 0)).any()


def test_row_positions_of_another_seed_are_unrelated(np_rng):
    x = np_rng.normal(size=(4000, 2))
    first, second = row_positions([x], 0), row_positions([x], 1)
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(4000)
    np.testing.assert_array_equal(first, row_positions([x.copy()], 0))
