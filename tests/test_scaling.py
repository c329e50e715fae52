"""Input scaling."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from ebgan_detect.errors import InvalidParameterError
from ebgan_detect.scaling import SCALINGS, Scaler, fit_scaler

pytestmark = pytest.mark.usefixtures("unchanged_global_random_state")


def fit(x, kind="auto", *, chunk=7):
    x = np.asarray(x)
    chunks = (x[i : i + chunk] for i in range(0, len(x), chunk))
    return fit_scaler(chunks, x.shape[1:], kind, is_uint8=x.dtype == np.uint8)


def table(rng, n=50):
    return rng.normal([5.0, -300.0, 0.001], [2.0, 90.0, 1e-5], size=(n, 3))


# --- what is learned --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["auto", "standard"])
def test_standard_scaling_of_a_table_is_scikit_learns(kind, np_rng):
    x = table(np_rng)
    scaled = fit(x, kind)(torch.from_numpy(x))
    assert scaled.dtype == torch.float32
    np.testing.assert_allclose(scaled, StandardScaler().fit_transform(x), atol=1e-5)
    np.testing.assert_allclose(scaled.mean(dim=0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(dim=0, correction=0), 1, atol=1e-5)


def test_minmax_scaling_of_a_table_maps_each_column_onto_unit_interval(np_rng):
    x = table(np_rng)
    scaler = fit(x, "minmax")
    scaled = scaler(torch.from_numpy(x))
    assert scaler.bounded
    assert scaled.amin(dim=0).tolist() == [0.0, 0.0, 0.0]
    assert scaled.amax(dim=0).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("shape", [(6, 5), (3, 4, 5)])
def test_scaling_of_images_shares_one_scale_over_all_pixels(shape, np_rng):
    x = np_rng.normal(40, 10, size=(20, *shape))
    x[:, ..., 0] += 100  # columns differ, and must stay different
    standard, minmax = fit(x, "standard"), fit(x, "minmax")
    for scaler in (standard, minmax):
        assert scaler.scale.numel() == 1
    assert minmax.bounded
    assert not standard.bounded
    scaled = standard(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose([scaled.mean(), scaled.std()], [0, 1], atol=1e-5)
    assert minmax(torch.from_numpy(x)).min() == 0
    assert minmax(torch.from_numpy(x)).max() == 1


def test_auto_scaling_of_uint8_images_divides_by_255(np_rng):
    x = np_rng.integers(3, 200, size=(4, 5, 5), dtype=np.uint8)
    scaler = fit(x)
    assert scaler.bounded
    assert (scaler.low, scaler.high) == (0.0, 255.0)
    np.testing.assert_allclose(scaler(torch.from_numpy(x)), x / 255.0, atol=1e-7)
    # The scale belongs to the values, whatever their dtype when scoring.
    np.testing.assert_allclose(scaler(torch.from_numpy(x.astype(float))), x / 255.0, atol=1e-7)


def test_auto_scaling_of_a_uint8_table_treats_numbers_as_numbers(np_rng):
    x = np_rng.integers(0, 10, size=(40, 3), dtype=np.uint8)
    scaled = fit(x)(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(scaled, StandardScaler().fit_transform(x.astype(float)), atol=1e-5)


def test_auto_scaling_of_unit_images_changes_nothing(np_rng):
    x = np_rng.uniform(size=(6, 4, 4)).astype(np.float32)
    scaler = fit(x)
    assert scaler.bounded
    assert torch.equal(scaler(torch.from_numpy(x)), torch.from_numpy(x))


@pytest.mark.parametrize("low", [-1.0, 0.5])
def test_auto_scaling_of_other_images_is_minmax(low, np_rng):
    x = np_rng.uniform(low, 12, size=(6, 4, 4))
    scaled = fit(x)(torch.from_numpy(x))
    assert scaled.min() == 0
    assert scaled.max() == 1


@pytest.mark.parametrize(
    ("shape", "high", "bounded"), [((9,), 1, False), ((3, 3), 1, True), ((3, 3), 2, False)]
)
def test_none_scaling_changes_nothing(shape, high, bounded, np_rng):
    x = np_rng.uniform(0, high, size=(50, *shape)).astype(np.float32)
    scaler = fit(x, "none")
    assert torch.equal(scaler(torch.from_numpy(x)), torch.from_numpy(x))
    assert scaler.bounded is bounded


@pytest.mark.parametrize("kind", SCALINGS)
@pytest.mark.parametrize("shape", [(3,), (4, 2)])
def test_scaling_does_not_depend_on_the_chunks(kind, shape, np_rng):
    x = np_rng.normal(2, 3, size=(31, *shape))
    whole, parts = fit(x, kind, chunk=31), fit(x, kind, chunk=4)
    torch.testing.assert_close(whole.shift, parts.shift)
    torch.testing.assert_close(whole.scale, parts.scale)
    assert (whole.low, whole.high, whole.bounded) == (parts.low, parts.high, parts.bounded)


@pytest.mark.parametrize("kind", ["auto", "standard", "minmax", "none"])
def test_scaling_records_the_fitted_range(kind, np_rng):
    x = table(np_rng)
    scaler = fit(x, kind)
    assert (scaler.low, scaler.high) == (x.min(), x.max())


def test_scaling_of_unknown_kind_raises():
    with pytest.raises(InvalidParameterError, match=r"scaling must be one of .* got 'robust'"):
        fit(np.ones((2, 2)), "robust")


# --- arithmetic -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["standard", "minmax"])
@pytest.mark.parametrize("shape", [(2,), (3, 3)])
@pytest.mark.parametrize("value", [0.0, 7.0, 1e8, -3e-9, 1_700_000_000_123_456_789.0, 1e100])
@pytest.mark.parametrize("n", [10, 3000])
def test_constant_input_stays_harmless(kind, shape, value, n):
    x = np.full((n, *shape), value)
    scaler = fit(x, kind)
    scaled = scaler(torch.from_numpy(x))
    assert (scaler.scale > 0).all()
    np.testing.assert_allclose(scaled, 0, atol=1e-6)
    # A new value is as far away as its difference says, not infinitely far.
    assert scaler(torch.from_numpy(x[:1] + 1)).abs().max() <= 1


def test_constant_column_beside_others_leaves_them_alone(np_rng):
    x = table(np_rng)
    x[:, 1] = 42.0
    scaled = fit(x, "standard")(torch.from_numpy(x))
    assert (scaled[:, 1] == 0).all()
    np.testing.assert_allclose(scaled[:, [0, 2]].std(dim=0, correction=0), 1, atol=1e-5)


def test_scaling_runs_in_float64(np_rng):
    # Seconds since 1970 with a spread of seconds: float32 knows them only to 128 s.
    x = 1.7e9 + np_rng.uniform(0, 10, size=(100, 1))
    scaled = fit(x, "standard")(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(scaled, (x - x.mean()) / x.std(), atol=1e-5)


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.float32, torch.float64, torch.uint8, torch.int64, torch.bool]
)
def test_scaling_takes_any_real_dtype(dtype):
    scaler = Scaler(torch.tensor([1.0]), torch.tensor([2.0]), bounded=False, low=0.0, high=1.0)
    x = torch.tensor([[0], [1]]).to(dtype)
    scaled = scaler(x)
    assert scaled.dtype == torch.float32
    assert scaled.tolist() == [[-0.5], [0.0]]
    assert x.tolist() == [[0], [1]]  # the input itself is left alone


def test_scaling_never_clips_nor_changes_its_input(np_rng):
    x = np_rng.uniform(size=(9, 2))
    scaler = fit(x, "minmax")
    far = torch.tensor([[1e6, -1e6]], dtype=torch.float64)
    kept = far.clone()
    assert scaler(far)[0, 0] > 1e5
    assert scaler(far)[0, 1] < -1e5
    scaler.inverse(far)
    assert torch.equal(far, kept)


@given(shift=st.floats(-1e6, 1e6), scale=st.floats(1e-3, 1e6), value=st.floats(-1e3, 1e3, width=32))
def test_inverse_undoes_scaling(shift, scale, value):
    scaler = Scaler(torch.tensor([shift]), torch.tensor([scale]), bounded=False, low=0.0, high=1.0)
    raw = scaler.inverse(torch.tensor([[value]]))
    assert raw.dtype == torch.float64
    assert scaler(raw).item() == pytest.approx(
        value, rel=1e-6, abs=1e-12 + abs(shift / scale) * 1e-14
    )


def test_scaler_buffers_are_float64_and_in_the_state_dict():
    scaler = Scaler(torch.zeros(2), torch.ones(2), bounded=True, low=0.0, high=1.0)
    assert {name: v.dtype for name, v in scaler.state_dict().items()} == {
        "shift": torch.float64,
        "scale": torch.float64,
    }
    assert list(scaler.parameters()) == []


# --- contradictions ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fitted", "new", "expected"),
    [
        ((0, 255), (0, 1), True),
        ((0, 1), (0, 255), True),
        ((0, 1), (-255, 0), True),
        ((-1, 1), (0, 255), True),
        ((0, 255), (0, 255), False),
        ((0, 255), (10, 20), False),  # dark pictures
        ((0, 1), (0, 49), False),
        ((0, 1), (0.03, 0.04), False),
        ((0, 0), (0, 255), False),  # nothing was learned about the range
        ((0, 255), (0, 0), False),  # black pictures
        ((0, 255), ("nan", "nan"), False),  # a range that is not known
    ],
)
def test_contradicts_tells_another_scale_from_other_values(fitted, new, expected):
    low, high = map(float, fitted)
    scaler = Scaler(torch.zeros(1), torch.ones(1), bounded=True, low=low, high=high)
    assert scaler.contradicts(max(abs(float(end)) for end in new)) is expected
