"""One view over every kind of input."""

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
import torch
from PIL import Image

from ebgan_detect import data
from ebgan_detect.data import Rows, as_rows, to_tensor
from ebgan_detect.errors import InvalidInputError

CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("unchanged_global_random_state")


def read_all(rows, size=3, numbers=None):
    return torch.cat([chunk.double() for chunk in rows.tensors(size, CPU, numbers)]).numpy()


def check_reads(x, expected):
    """All ways to read an input give its numbers, and leave the input alone."""
    expected = np.asarray(expected, dtype=np.float64)
    rows = as_rows(x)
    assert len(rows) == len(expected)
    assert rows.shape == expected.shape
    for size in (1, 3, 1000):
        np.testing.assert_array_equal(read_all(rows, size), expected)
    numbers = np.array([3, 0, 3, 1])
    np.testing.assert_array_equal(read_all(rows, 3, numbers), expected[numbers])
    arrays = list(rows.arrays(3))
    assert all(isinstance(chunk, np.ndarray) for chunk in arrays)
    np.testing.assert_array_equal(np.concatenate(arrays).astype(np.float64), expected)


# --- arrays -----------------------------------------------------------------------------------

DTYPES = [
    np.float16,
    np.float32,
    np.float64,
    np.longdouble,
    ">f2",
    ">f4",
    ">f8",
    np.bool_,
    np.int8,
    np.uint8,
    np.int16,
    np.uint16,
    ">i2",
    ">u2",
    np.int32,
    np.uint32,
    np.int64,
    np.uint64,
]


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).str)
@pytest.mark.parametrize("shape", [(5, 2), (5, 2, 3), (5, 2, 3, 2)], ids=str)
def test_as_rows_takes_every_real_dtype_and_rank(dtype, shape, np_rng):
    x = np_rng.integers(0, 2, size=shape).astype(dtype)
    before = x.copy()
    check_reads(x, before)
    np.testing.assert_array_equal(x, before)
    assert as_rows(x).is_uint8 is (np.dtype(dtype) == np.uint8)


LAYOUTS = [
    "fortran",
    "rows reversed",
    "columns reversed",
    "strided",
    "transposed",
    "broadcast",
    "read-only",
    "read-only map",
    "copy-on-write map",
    "reversed map",
    "big-endian reversed",
]


def layouts(folder):
    base = np.random.default_rng(0).normal(size=(8, 6))
    path = folder / "rows.npy"
    np.save(path, base)
    read_only = base.copy()
    read_only.flags.writeable = False
    return {
        "fortran": np.asfortranarray(base),
        "rows reversed": base[::-1],
        "columns reversed": base[:, ::-1],
        "strided": base[::2, 1::2],
        "transposed": base[:6, :].T,
        "broadcast": np.broadcast_to(base[:1], (5, 6)),
        "read-only": read_only,
        "read-only map": np.load(path, mmap_mode="r"),
        "copy-on-write map": np.load(path, mmap_mode="c"),
        "reversed map": np.load(path, mmap_mode="r")[::-1],
        "big-endian reversed": base.astype(">f8")[:, ::-1],
    }


@pytest.mark.parametrize("name", LAYOUTS)
def test_as_rows_takes_every_layout_without_a_copy(name, tmp_path):
    x = layouts(tmp_path)[name]
    rows = as_rows(x)
    assert np.shares_memory(rows.values, x)
    assert np.shares_memory(rows.read(slice(1, 3)), x)
    before = np.array(x)
    check_reads(x, before)
    np.testing.assert_array_equal(x, before)


def test_rows_share_memory_down_to_the_tensor(np_rng):
    x = np_rng.normal(size=(10, 3))
    for chunk in as_rows(x).tensors(4, CPU):
        assert np.shares_memory(chunk.numpy(), x)
    tensor = torch.from_numpy(x)
    assert as_rows(tensor).values.data_ptr() == tensor.data_ptr()
    assert next(iter(as_rows(tensor).tensors(4, CPU))).data_ptr() == tensor.data_ptr()


def test_rows_of_a_memory_map_are_read_a_few_at_a_time(tmp_path):
    import tracemalloc

    path = tmp_path / "large.npy"
    stored = np.lib.format.open_memmap(path, mode="w+", dtype=np.float64, shape=(4096, 1024))
    stored[:] = 1
    stored.flush()
    x = np.load(path, mmap_mode="r")  # 32 MiB
    tracemalloc.start()
    try:
        rows = as_rows(x)
        rows.check_finite()
        total = sum(float(chunk[0, 0]) for chunk in rows.tensors(64, CPU))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == 64
    assert peak < 4 * 2**20


def test_as_rows_takes_a_field_of_packed_records():
    records = np.zeros(5, dtype=[("label", "u1"), ("pixels", "f4", (3,))])
    records["pixels"] = np.arange(15).reshape(5, 3)
    check_reads(records["pixels"], np.arange(15).reshape(5, 3))


@pytest.mark.parametrize("container", [list, tuple])
def test_as_rows_takes_nested_sequences(container):
    check_reads(container([[1, 2.5], [3, 4], [5, 6], [7, 8]]), [[1, 2.5], [3, 4], [5, 6], [7, 8]])
    check_reads(container(np.eye(4)), np.eye(4))
    check_reads(container(torch.eye(4)), np.eye(4))
    assert as_rows([[1, 2]]).shape == (1, 2)


# --- tensors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float16,
        torch.float32,
        torch.float64,
        torch.bool,
        torch.int8,
        torch.uint8,
        torch.int16,
        torch.uint16,
        torch.int32,
        torch.uint32,
        torch.int64,
    ],
    ids=str,
)
def test_as_rows_takes_tensors_of_every_real_dtype(dtype):
    x = torch.eye(5).to(dtype)
    check_reads(x, np.eye(5))
    assert torch.equal(x, torch.eye(5).to(dtype))
    assert as_rows(x).is_uint8 is (dtype == torch.uint8)


def test_as_rows_takes_bfloat16_tensors():
    check_reads(torch.eye(5).bfloat16(), np.eye(5))


def test_as_rows_takes_the_imaginary_part_of_a_conjugate():
    x = torch.complex(torch.zeros(5, 5), torch.eye(5)).conj().imag
    check_reads(x, -np.eye(5))


def test_as_rows_takes_tensors_with_gradient_and_layout(rng):
    x = torch.rand(5, 3, generator=rng).requires_grad_()
    check_reads(x, x.detach().numpy())
    assert x.grad is None
    assert not next(iter(as_rows(x).tensors(2, CPU))).requires_grad
    (y,) = (torch.nn.Parameter(torch.ones(4, 2)),)
    check_reads(y, np.ones((4, 2)))
    check_reads(torch.eye(5)[:, ::2], np.eye(5)[:, ::2])
    check_reads(torch.ones(1, 3).expand(5, 3), np.ones((5, 3)))


# --- frames -----------------------------------------------------------------------------------


def test_as_rows_takes_pandas_frames():
    columns = {"a": [1, 2, 3, 4], "b": [0.5, 1.5, 2.5, 3.5], "c": [True, False, True, True]}
    frame = pd.DataFrame(columns, index=list("wxyz"))
    before = frame.copy()
    check_reads(frame, np.column_stack(list(columns.values())))
    pd.testing.assert_frame_equal(frame, before)
    nullable = pd.DataFrame({"a": pd.array([1, None, 3], dtype="Int64")})
    np.testing.assert_array_equal(next(as_rows(nullable).arrays(9)), [[1], [np.nan], [3]])


def test_as_rows_takes_polars_frames():
    columns = {"a": [1, 2, 3, 4], "b": [0.5, 1.5, 2.5, 3.5]}
    check_reads(pl.DataFrame(columns), np.column_stack(list(columns.values())))


def test_as_rows_takes_frames_of_numbers_that_are_objects():
    numbers = pd.DataFrame({"a": [1, 2, 1, 2], "b": [3, 3, 4, 4]})
    check_reads(numbers.astype("category"), numbers.to_numpy(float))
    decimals = pl.DataFrame(numbers.to_dict("list")).cast(pl.Decimal(10, 2))
    check_reads(decimals, numbers.to_numpy(float))
    alike = numbers[["a", "a"]].set_axis(["a", "b"], axis=1).astype("category")
    alike.loc[1, "b"] = None
    assert np.isnan(next(as_rows(alike).arrays(9))[1, 1])


# --- data sets --------------------------------------------------------------------------------


class Items(torch.utils.data.Dataset):
    def __init__(self, items):
        self.items = items
        self.calls = []

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        self.calls.append(index)
        return self.items[index]


def test_items_of_a_dataset_may_be_bfloat16():
    rows = as_rows(Items([torch.tensor([0.5, 2.0]).bfloat16()] * 3))
    np.testing.assert_array_equal(rows.read(slice(2)), [[0.5, 2], [0.5, 2]])


def test_items_of_a_dataset_may_be_negated_views():
    of_a_conjugate = torch.tensor([1 + 2j, 3 - 4j]).conj().imag
    assert of_a_conjugate.is_neg()
    np.testing.assert_array_equal(as_rows(Items([of_a_conjugate])).read(slice(1)), [[-2, 4]])


@pytest.mark.parametrize("item", [torch.ones(3) * 1j, torch.eye(3).to_sparse()])
def test_items_that_are_no_dense_real_tensors_raise(item):
    with pytest.raises(InvalidInputError, match="must be dense real tensors, got one of"):
        as_rows(Items([item]))


def test_held_items_have_a_dtype_for_all_of_them():
    items = Items([np.ones(2, np.uint8), np.full(2, 0.5), np.full(2, 300, np.int16)])
    rows = as_rows(items)
    assert rows.is_uint8
    held = rows.held()
    assert not held.is_uint8
    np.testing.assert_array_equal(held.read(slice(3)), [[1, 1], [0.5, 0.5], [300, 300]])
    assert items.calls == [0, 0, 1, 2]
    array = as_rows(np.ones((3, 2)))
    assert array.held() is array


class ManyItems(Items):
    def __getitems__(self, indices):
        self.calls.append(("many", list(indices)))
        return [self.items[i] for i in indices]


ARRAY = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.mark.parametrize(
    "items",
    [
        list(ARRAY),
        [torch.from_numpy(row) for row in ARRAY],
        [torch.from_numpy(row.copy()).requires_grad_() for row in ARRAY],
        [(row, 7) for row in ARRAY],
        [[torch.from_numpy(row), "label", None] for row in ARRAY],
        [(row.tolist(),) for row in ARRAY],
    ],
    ids=["arrays", "tensors", "gradient", "tuples", "lists", "nested lists"],
)
def test_as_rows_takes_data_sets(items):
    check_reads(Items(items), ARRAY)
    assert not as_rows(Items(items)).is_uint8


def test_as_rows_takes_torch_data_sets():
    dataset = torch.utils.data.TensorDataset(torch.from_numpy(ARRAY), torch.zeros(4))
    check_reads(dataset, ARRAY)
    check_reads(torch.utils.data.Subset(dataset, [3, 2, 1, 0]), ARRAY[::-1])
    check_reads(torch.utils.data.ConcatDataset([dataset, dataset]), np.r_[ARRAY, ARRAY])


def test_as_rows_of_a_data_set_reads_only_what_is_asked_for():
    dataset = Items(list(ARRAY))
    rows = as_rows(dataset)
    assert dataset.calls == [0]  # its shape
    rows.read(np.array([2, 1]))
    rows.read(slice(1, 3))
    assert dataset.calls == [0, 2, 1, 1, 2]
    assert all(type(index) is int for index in dataset.calls)


def test_as_rows_of_a_data_set_reads_many_items_at_once():
    dataset = ManyItems(list(ARRAY))
    rows = as_rows(dataset)
    np.testing.assert_array_equal(rows.read(np.array([2, 0])), ARRAY[[2, 0]])
    np.testing.assert_array_equal(rows.read(slice(2, 4)), ARRAY[2:4])
    assert dataset.calls == [0, ("many", [2, 0]), ("many", [2, 3])]
    check_reads(dataset, ARRAY)


def test_as_rows_puts_the_channels_of_pictures_first(np_rng):
    colour = np_rng.integers(0, 256, size=(4, 5, 6, 3), dtype=np.uint8)
    pictures = Items([(Image.fromarray(picture), 0) for picture in colour])
    check_reads(pictures, np.moveaxis(colour, -1, 1))
    assert as_rows(pictures).is_uint8
    grey = colour[..., 0].copy()
    check_reads(Items([Image.fromarray(picture) for picture in grey]), grey)
    # An array has no bands: its axes are kept.
    check_reads(Items(list(colour)), colour)


def test_pictures_with_a_palette_are_read_as_colours():
    colour = np.random.default_rng(0).integers(0, 2, (4, 9, 10, 3), dtype=np.uint8) * 255
    pictures = [Image.fromarray(picture).quantize(8) for picture in colour]
    assert {picture.mode for picture in pictures} == {"P"}
    check_reads(Items(pictures), np.moveaxis(colour, -1, 1))


def test_pictures_of_one_bit_are_grey_ones_of_two_levels(np_rng):
    grey = (np_rng.random((6, 5, 4)) < 0.5).astype(np.uint8) * 255
    pictures = [Image.fromarray(picture) for picture in grey]
    mixed = pictures[:3] + [picture.convert("1") for picture in pictures[3:]]
    assert {picture.mode for picture in mixed} == {"1", "L"}
    check_reads(Items(mixed), grey)


def test_data_set_of_differing_shapes_raises():
    dataset = Items([np.zeros(3), np.zeros(3), np.zeros(4), np.zeros(3)])
    rows = as_rows(dataset)
    rows.read(slice(0, 2))
    with pytest.raises(InvalidInputError, match=r"all have shape \(3,\), got \[\(3,\), \(4,\)\]"):
        rows.read(slice(0, 4))


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter(ARRAY)


class SizedStream(Stream):
    def __len__(self):
        return len(ARRAY)


@pytest.mark.parametrize(
    "stream",
    [
        Stream(),
        pytest.param(
            SizedStream(),
        ),
    ],
    ids=["without length", "with length"],
)
def test_iterable_data_set_raises(stream):
    with pytest.raises(InvalidInputError, match=f"{type(stream).__name__}; collect"):
        as_rows(stream)


@pytest.mark.parametrize("item", ["text", 3, {"x": 1}, None, np.array(["a"]), 1j * np.ones(3)])
def test_data_set_of_other_items_raises(item):
    with pytest.raises(InvalidInputError, match="items of a Dataset must be arrays"):
        as_rows(Items([item]))


def test_empty_data_set_raises():
    with pytest.raises(InvalidInputError, match="empty Dataset"):
        as_rows(Items([]))


# --- refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones((2, 2), complex), "Complex data not supported"),
        (torch.ones(2, 2, dtype=torch.complex64), "complex"),
        (torch.eye(3).to_sparse(), "sparse"),
        (np.array([["a", "b"]]), "strings"),
        ([["a", "b"]], "strings"),
        (np.array([["a", 1]], dtype=object), "'a'"),
        (np.zeros((2, 2), "M8[s]"), "datetime64"),
        (pd.DataFrame({"n": [1, 2], "a": ["x", "y"]}), "got (str|object) in column 'a'"),
        (pl.DataFrame({"n": [1, 2], "a": ["x", "y"]}), "got String in column 'a'"),
        (pd.DataFrame({"a": pd.Categorical(["x", "y"])}), "got category in column 'a'"),
        (pd.DataFrame({"n": [1, 2], "a": pd.Categorical([3, None])}), "where some are missing"),
        (
            pl.DataFrame({"n": [1, 2], "a": pl.Series(["1", "2"], dtype=pl.Categorical)}),
            "got Categorical in column 'a'",
        ),
        (
            pd.DataFrame({"n": [1.5, 2], "when": pd.date_range("2020", periods=2)}),
            "got datetime64.* in column 'when'",
        ),
        (pd.DataFrame({"n": [1.5, 2], "z": [1j, 2j]}), "got complex128 in column 'z'"),
        (pd.DataFrame([[1, "x"]], columns=["a", "a"]), "got (str|object) in column 'a'"),
        (pd.DataFrame({"n": [1, pd.NA]}), "got object in column 'n'.* fill in what is missing"),
        (pl.LazyFrame({"a": [1, 2]}), "scalar"),
        (np.zeros(3), "Expected 2D array, got 1D array"),
        (torch.zeros(3), "Expected 2D array, got 1D array"),
        ([1.0, 2.0], "Expected 2D array, got 1D array"),
        (3.0, "scalar"),
        (torch.tensor(3.0), r"\(n, c, h, w\), got \(\)"),
        (np.zeros((1, 2, 3, 4, 5)), r"\(n, c, h, w\), got \(1, 2, 3, 4, 5\)"),
        (torch.zeros(1, 2, 3, 4, 5), r"\(n, c, h, w\), got \(1, 2, 3, 4, 5\)"),
        (np.zeros((0, 3)), "0 sample"),
        (torch.zeros(0, 3), "0 sample"),
        ([], "1D array"),
        (np.zeros((3, 0)), r"0 feature\(s\) \(shape=\(3, 0\)\) while a minimum of 1"),
        (torch.zeros(3, 2, 0), "0 feature"),
        ([[1, 2], [3]], "inhomogeneous"),
        (None, "array"),
        (
            pl.DataFrame({"n": [1.5, 2], "day": [date(2020, 1, 1), date(2020, 1, 2)]}),
            "got Date in column 'day'",
        ),
        (
            pl.DataFrame({"n": [1.5, 2], "t": pl.Series([1, 2], dtype=pl.Duration("ms"))}),
            "got Duration.* in column 't'",
        ),
        (torch.utils.data.DataLoader([1.0]), r"got a DataLoader; give its \.dataset"),
        ("rows.csv", "got 'rows.csv'; read the file first"),
        (Path("rows.csv"), r"got .*Path\('rows.csv'\); read the file first"),
    ],
)
def test_as_rows_of_unusable_input_raises(x, message):
    with pytest.raises(InvalidInputError, match=message):
        as_rows(x)


@pytest.mark.parametrize("kind", ["csr_array", "coo_matrix"])
def test_as_rows_of_sparse_input_raises(kind):
    # scikit-learn's checks expect its TypeError or ValueError.
    with pytest.raises((TypeError, ValueError), match=r"[Ss]parse .*dense"):
        as_rows(getattr(scipy.sparse, kind)(np.eye(3)))


# --- finite values ----------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
@pytest.mark.parametrize("size", [1, 4, 100])
def test_check_finite_names_the_first_bad_row(bad, dtype, size, monkeypatch):
    monkeypatch.setattr(data, "VALUES_AT_ONCE", 6 * size)
    x = np.zeros((10, 2, 3), dtype=dtype)
    x[7, 1, 0] = x[9, 0, 0] = bad
    with pytest.raises(InvalidInputError, match=r"NaN or infinity.*first in row 7;"):
        as_rows(x).check_finite()


@pytest.mark.parametrize("size", [1, 2, 5])
def test_check_finite_returns_the_range(size, monkeypatch):
    monkeypatch.setattr(data, "VALUES_AT_ONCE", 2 * size)
    x = np.array([[3.0, -4.0], [0.5, 8.0], [1.0, 1.0]])
    assert as_rows(x).check_finite() == (-4.0, 8.0)
    assert as_rows(torch.from_numpy(x)).check_finite() == (-4.0, 8.0)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, bool])
def test_check_finite_reads_integers_only_on_request(dtype):
    rows = as_rows(np.eye(3).astype(dtype))
    assert np.isnan(rows.check_finite()).all()
    assert rows.check_finite(integers=True) == (0, 1)


def test_check_finite_does_not_overflow_in_half_precision():
    x = np.full((1000, 3), 60_000, dtype=np.float16)
    assert as_rows(x).check_finite() == (60_000.0, 60_000.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
@pytest.mark.parametrize("size", [1, 4, 100])
def test_tensors_name_the_first_bad_row_and_yield_none_of_its_chunk(bad, dtype, size):
    x = np.zeros((10, 2, 3), dtype=dtype)
    x[7, 1, 0] = x[8, 0, 1] = x[9, 0, 0] = bad
    x[8, 0, 1] = -bad
    chunks = []
    with pytest.raises(InvalidInputError, match=r"NaN or infinity.*first in row 7;"):
        chunks.extend(as_rows(x).tensors(size, torch.device("cpu")))
    assert sum(map(len, chunks)) == 7 // size * size


@pytest.mark.parametrize(
    ("dtype", "value"), [(np.float16, 6e4), (np.float32, 3e38), (float, 1e308)]
)
def test_tensors_take_values_whose_sum_overflows(dtype, value):
    x = np.full((1000, 3), value, dtype=dtype)
    np.testing.assert_array_equal(read_all(as_rows(x)), x)


# --- batches for training ---------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).str)
def test_to_tensor_keeps_values_and_dtypes_that_torch_knows(dtype):
    chunk = np.eye(3).astype(dtype)
    tensor = to_tensor(chunk, CPU)
    np.testing.assert_array_equal(tensor.double().numpy(), np.eye(3))
    size = np.dtype(dtype).itemsize
    assert tensor.element_size() == (size if size <= 8 else 8)


def test_to_tensor_keeps_the_precision_of_large_integers():
    large = np.array([[2**53 + 1, -(2**62)]])
    assert to_tensor(large, CPU).tolist() == large.tolist()


def test_rows_of_mixed_requests_agree(np_rng):
    x = np_rng.normal(size=(9, 2))
    for rows in (Rows(x), Rows(torch.from_numpy(x)), as_rows(Items(list(x)))):
        assert [len(chunk) for chunk in rows.chunks(4)] == [4, 4, 1]
        assert [len(chunk) for chunk in rows.chunks(4, np.arange(8))] == [4, 4]
        assert list(rows.chunks(4, np.arange(0))) == []
        np.testing.assert_array_equal(rows.read(slice(2, 5)), rows.read(np.arange(2, 5)))
