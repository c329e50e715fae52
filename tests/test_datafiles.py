import os
import struct
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import ExifTags, Image, ImageOps

from ebgan_detect import InvalidInputError, MissingDependencyError
from ebgan_detect.datafiles import (
    ReadOptions,
    as_csv,
    check_output,
    read_rows,
    stream_rows,
    write_table,
)


@pytest.fixture
def table(rng):
    return pd.DataFrame(rng.normal(size=(50, 3)) * 10.0 ** rng.integers(-9, 9, 3), columns=[*"abc"])


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def written(path, text):
    path.write_text(text)
    return path


def picture(path, array, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    (image if mode is None else image.convert(mode)).save(path)
    return path


# --- CSV -----------------------------------------------------------------------------------------


def test_csv_with_header_keeps_names_values_and_line_numbers(tmp_path, table):
    table.to_csv(tmp_path / "x.csv", index=False)
    rows = read_rows(tmp_path / "x.csv")
    pd.testing.assert_frame_equal(rows.values, table, rtol=1e-15)
    assert rows.kind == "line"
    assert rows.names.tolist() == list(range(2, 52))


@pytest.mark.parametrize(("mark", "other"), [(",", ";"), (";", ","), (";", "\t")])
def test_csv_names_in_quotes_may_hold_another_delimiter(tmp_path, mark, other):
    names = [f"temp{other}{other} C", f'p{other} ""Pa""']
    lines = [mark.join(f'"{field}"' for field in row) for row in (names, ["1.5", "2"])]
    rows = read_rows(written(tmp_path / "x.csv", "\n".join(lines)))
    assert list(rows.values.columns) == [name.replace('""', '"') for name in names]
    np.testing.assert_array_equal(rows.values.to_numpy(), [[1.5, 2.0]])


def test_csv_without_header_is_an_array(tmp_path, table):
    table.to_csv(tmp_path / "x.csv", index=False, header=False)
    rows = read_rows(tmp_path / "x.csv")
    assert isinstance(rows.values, np.ndarray)
    np.testing.assert_allclose(rows.values, table.to_numpy(), rtol=1e-15)
    assert rows.names[0] == 1


@pytest.mark.parametrize(("header", "n"), [(None, 3), (False, 3), (True, 2)])
def test_csv_header_of_numbers_is_taken_as_told(tmp_path, header, n):
    path = written(tmp_path / "x.csv", "0,1\n5,6\n7,8\n")
    rows = read_rows(path, ReadOptions(header=header))
    assert len(rows.names) == n
    assert hasattr(rows.values, "columns") == (header is True)


@pytest.mark.parametrize(
    "text",
    [
        "a,b\n\n1,2\n3,4\n\n",
        "a;b\n1;2\n3;4",
        "a,b\r\n1, 2\r\n 3,4\r\n",
        '"a","b"\n"1",2\n3,"4"\n',
        "\ufeffa,b\n1e0,2.0\n3,4\n",
    ],
)
def test_csv_dialects_give_the_same_rows(tmp_path, text):
    path = tmp_path / "x.csv"
    path.write_bytes(text.encode())
    rows = read_rows(path)
    assert rows.values.columns.tolist() == ["a", "b"]
    assert rows.values.to_numpy().tolist() == [[1, 2], [3, 4]]
    lines = text.splitlines()
    assert all(lines[n - 1] for n in rows.names)


@pytest.mark.parametrize("gap", ["", "\n"])
@pytest.mark.parametrize(("first", "column"), [("n/a,2,3", 0), ("1,2,1e5x", 2), (",x,3", 1)])
def test_csv_with_a_mistake_in_its_first_line_loses_no_row(tmp_path, gap, first, column):
    path = written(tmp_path / "x.csv", f"\n{first}\n{gap}4,5,6\n7,8,9\n")
    got = first.split(",")[column]
    with pytest.raises(
        InvalidInputError,
        match=rf"line 2, column '{column}' must be a number .*, got '{got}'; .*header=True",
    ):
        read_rows(path)


@pytest.mark.parametrize("options", [{"header": True}, {"drop": ["a"]}, {"columns": ["2020", "a"]}])
def test_csv_header_of_names_and_numbers_is_taken_as_told(tmp_path, options):
    path = written(tmp_path / "x.csv", "a,2020,2021\n4,5,6\n7,8,9\n")
    with pytest.raises(InvalidInputError, match="say so with header=True"):
        read_rows(path)
    rows = read_rows(path, ReadOptions(**options))
    assert rows.names.tolist() == [2, 3]
    assert rows.values["2020"].tolist() == [5, 8]


def test_csv_header_of_names_and_numbers_above_text_is_one(tmp_path):
    path = written(tmp_path / "x.csv", "id,a,2020\nu,5,6\nv,8,9\n")
    with pytest.raises(InvalidInputError, match="line 2, column 'id' must be a finite number"):
        read_rows(path)
    assert read_rows(path, ReadOptions(columns=["a", "2020"])).names.tolist() == [2, 3]


def test_tsv_is_split_at_tabs(tmp_path):
    rows = read_rows(written(tmp_path / "x.tsv", "a\tb\n1\t2\n"))
    assert rows.values.to_numpy().tolist() == [[1, 2]]


def test_csv_of_one_column_skips_blank_lines(tmp_path):
    rows = read_rows(written(tmp_path / "x.csv", "1\n\n2\n"))
    assert rows.values.tolist() == [[1], [2]]
    assert rows.names.tolist() == [1, 3]


def test_csv_truth_values_count_as_numbers(tmp_path):
    rows = read_rows(written(tmp_path / "x.csv", "a,b\nTrue,1\nfalse,2.5\n"))
    assert rows.values.to_numpy().tolist() == [[1, 1], [0, 2.5]]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,2", r"line 4 must have 3 fields, got 2"),
        ("1,2,3,4", r"line 4 must have 3 fields, got 4"),
        ("1,oops,3", r"line 4, column 'b' must be a finite number, got 'oops'"),
        ("1,,3", r"line 4, column 'b' must be a finite number, got an empty field"),
        ("1,2,nan", r"line 4, column 'c' must be a finite number, got 'nan'"),
        ("1,2,1_0", r"line 4, column 'c' must be a finite number, got '1_0'"),
        ('1,2,"3', r"line 4 must be CSV"),
        ('"1\n",2,3', r"line 4(: a row must be on one line| must be CSV)"),
    ],
)
@pytest.mark.parametrize("chunk_bytes", [24, 2**20])
def test_csv_names_the_line_and_column_of_a_mistake(tmp_path, line, message, chunk_bytes):
    path = written(tmp_path / "x.csv", f"a,b,c\n1,2,3\n4,5,6\n{line}\n7,8,9\n")
    with pytest.raises(InvalidInputError, match=message):
        list(stream_rows(path, chunk_bytes=chunk_bytes))


def test_a_first_line_that_no_reader_takes_is_named(tmp_path):
    path = written(tmp_path / "x.csv", f"{' '.join(['0.25'] * 30_000)}\n" * 2)
    with pytest.raises(InvalidInputError, match=r"x.csv, line 1 must be CSV of commas, .* limit"):
        read_rows(path)


def test_csv_text_that_is_dropped_does_no_harm(tmp_path):
    path = written(tmp_path / "x.csv", 'id,a,b\n"x, y",1,2\nz,3,4\n')
    rows = read_rows(path, ReadOptions(drop=["id"]))
    assert rows.values.to_numpy().tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("text", ["1,2,3\n4,5,6\n", 'z,y,x\n1,2,3\n4,"5",6\n'])
def test_columns_are_taken_in_the_order_asked_for(tmp_path, text):
    names = text.splitlines()[0].split(",") if "z" in text else ["0", "1", "2"]
    path = written(tmp_path / "x.csv", text)
    rows = read_rows(path, ReadOptions(columns=[names[2], names[0]]))
    assert np.asarray(rows.values).tolist() == [[3, 1], [6, 4]]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a,a\n1,2\n", {}, "must be distinct, got 'a' twice"),
        (",a\n0,1\n", {}, "must have a name, got none for column 'Unnamed: 0'"),
        ("a,b\n1,2\n", {"drop": ["label"]}, r"drop must name columns of .* \(a, b\), got 'label'"),
        ("a,b\n1,2\n", {"drop": ["a", "b"]}, "at least one column must be left"),
        ("a,b\n", {}, "at least one row, got none"),
        ("\n\n", {}, "at least one row, got none"),
        ("a,b\n1,2\n", {"size": (8, 8)}, "among columns, drop, header, got size"),
    ],
)
def test_csv_refuses_what_has_no_meaning(tmp_path, text, options, message):
    path = written(tmp_path / "x.csv", text)
    with pytest.raises(InvalidInputError, match=message):
        read_rows(path, ReadOptions(**options))


@pytest.mark.parametrize("suffix", ["csv", "npy", "npz", "parquet"])
def test_column_that_is_asked_for_twice_is_refused(tmp_path, table, suffix):
    path = tmp_path / f"x.{suffix}"
    if suffix == "csv":
        table.to_csv(path, index=False)
    elif suffix == "parquet":
        table.to_parquet(path)
    else:
        {"npy": np.save, "npz": np.savez}[suffix](path, table.to_numpy())
    first, second = ("a", "b") if suffix in ("csv", "parquet") else ("0", "1")
    with pytest.raises(InvalidInputError, match=f"every column once, got '{first}' twice"):
        read_rows(path, ReadOptions(columns=[first, second, first]))


def test_csv_saved_index_can_be_dropped(tmp_path, table):
    table.to_csv(tmp_path / "x.csv")
    rows = read_rows(tmp_path / "x.csv", ReadOptions(drop=["Unnamed: 0"]))
    assert rows.values.columns.tolist() == [*"abc"]


def test_csv_in_another_encoding_is_named(tmp_path):
    (tmp_path / "x.csv").write_bytes("größe,b\n1,2\n".encode("latin-1"))
    with pytest.raises(InvalidInputError, match="must be UTF-8 text"):
        read_rows(tmp_path / "x.csv")


# --- arrays ------------------------------------------------------------------------------------


def test_npy_is_mapped_into_memory_not_read(tmp_path, rng):
    x = rng.normal(size=(20, 3, 4)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    rows = read_rows(tmp_path / "x.npy")
    assert isinstance(rows.values, np.memmap)
    np.testing.assert_array_equal(rows.values, x)
    assert rows.names.tolist() == list(range(20))
    assert rows.kind == "row"


def test_npy_columns_go_by_number(tmp_path, rng):
    x = rng.normal(size=(20, 3))
    np.save(tmp_path / "x.npy", x)
    rows = read_rows(tmp_path / "x.npy", ReadOptions(drop=["1"]))
    np.testing.assert_array_equal(rows.values, x[:, [0, 2]])
    np.save(tmp_path / "x.npy", x[:, :, None])
    with pytest.raises(InvalidInputError, match=r"columns and drop need a table.*\(20, 3, 1\)"):
        read_rows(tmp_path / "x.npy", ReadOptions(drop=["1"]))


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00v\x00{'descr'"])
def test_npy_damaged_is_refused(tmp_path, content):
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"x\.npy must be an NPY file") as caught:
        read_rows(tmp_path / "x.npy")
    assert "pickle" not in str(caught.value)


def test_npy_with_objects_is_never_unpickled(tmp_path):
    np.save(tmp_path / "x.npy", np.array([[{}]]), allow_pickle=True)
    with pytest.raises(InvalidInputError, match=r"must be an NPY file of numbers, got .*objects"):
        read_rows(tmp_path / "x.npy")
    np.savez(tmp_path / "x.npz", x=np.array([[{}]]))
    with pytest.raises(InvalidInputError, match="must be an NPZ file of numbers, got objects;"):
        read_rows(tmp_path / "x.npz")


def test_npz_takes_its_only_array_or_the_key(tmp_path, rng):
    x = rng.normal(size=(20, 3))
    np.savez(tmp_path / "one.npz", x=x)
    np.savez(tmp_path / "two.npz", x=x, y=np.zeros(20))
    np.testing.assert_array_equal(read_rows(tmp_path / "one.npz").values, x)
    rows = read_rows(tmp_path / "two.npz", ReadOptions(key="x"))
    np.testing.assert_array_equal(rows.values, x)
    for key in (None, "z"):
        with pytest.raises(InvalidInputError, match=rf"key must name .* \(x, y\), got {key!r}"):
            read_rows(tmp_path / "two.npz", ReadOptions(key=key))
    with pytest.raises(InvalidInputError, match=r"must hold an array of shape .* got \(20,\)"):
        read_rows(tmp_path / "two.npz", ReadOptions(key="y"))


def test_npz_damaged_is_refused(tmp_path, rng):
    np.savez(tmp_path / "x.npz", x=rng.normal(size=(20, 3)))
    content = (tmp_path / "x.npz").read_bytes()
    for damaged in (content[:100], b"nothing", np.full(300, 7, np.uint8).tobytes()):
        (tmp_path / "x.npz").write_bytes(damaged)
        with pytest.raises(InvalidInputError, match=r"x\.npz must be an NPZ .* got another kind"):
            read_rows(tmp_path / "x.npz")


# --- Parquet -----------------------------------------------------------------------------------


def test_parquet_keeps_names_and_types_but_not_the_index(tmp_path, table):
    table["d"] = np.arange(50) % 2 == 0
    table.index = table.index + 7
    table.to_parquet(tmp_path / "x.parquet")
    rows = read_rows(tmp_path / "x.parquet", ReadOptions(columns=["d", "a"]))
    assert rows.values.columns.tolist() == ["d", "a"]
    assert np.asarray(rows.values).dtype == np.float64
    np.testing.assert_array_equal(rows.values, table[["d", "a"]].astype(float))
    assert read_rows(tmp_path / "x.parquet").values.columns.tolist() == [*"abcd"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0, None, 2.0], "row 1, column 'a' must be a number, got null"),
        (["x", "y", "z"], "column 'a' must hold numbers, got (large_)?string"),
    ],
)
def test_parquet_names_what_is_no_number(tmp_path, values, message):
    pq.write_table(pa.table({"a": values, "b": [1, 2, 3]}), tmp_path / "x.parquet")
    with pytest.raises(InvalidInputError, match=message):
        read_rows(tmp_path / "x.parquet")
    rows = read_rows(tmp_path / "x.parquet", ReadOptions(drop=["a"]))
    assert rows.values["b"].tolist() == [1, 2, 3]


def test_parquet_damaged_is_refused(tmp_path):
    path = written(tmp_path / "x.parquet", "not this")
    with pytest.raises(InvalidInputError, match="must be a Parquet file"):
        read_rows(path)


# --- pictures ------------------------------------------------------------------------------------


def test_pictures_come_in_the_order_of_their_paths(tmp_path, rng):
    grey = rng.integers(0, 256, (3, 8, 9), dtype=np.uint8)
    for name, array in zip(["b/2.png", "a.png", "b/1.bmp"], grey, strict=True):
        picture(tmp_path / name, array)
    written(tmp_path / "notes.txt", "no picture")
    written(tmp_path / "._a.png", "what macOS leaves behind")
    rows = read_rows(tmp_path)
    assert rows.names.tolist() == ["a.png", "b/1.bmp", "b/2.png"]
    assert rows.kind == "file"
    assert rows.values.dtype == np.uint8
    np.testing.assert_array_equal(rows.values, grey[[1, 2, 0]])


def test_pictures_in_colour_have_channels_first(tmp_path, rng):
    colour = rng.integers(0, 256, (8, 9, 3), dtype=np.uint8)
    picture(tmp_path / "a.png", colour)
    picture(tmp_path / "b.png", colour, "RGBA")
    picture(tmp_path / "c.png", colour, "P")
    picture(tmp_path / "d.jpg", colour)
    values = read_rows(tmp_path).values
    assert values.shape == (4, 3, 8, 9)
    np.testing.assert_array_equal(values[0], colour.transpose(2, 0, 1))
    np.testing.assert_array_equal(values[1], values[0])


@pytest.mark.parametrize("orientation", range(10))
def test_picture_is_turned_upright(tmp_path, rng, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    held = Image.fromarray(rng.integers(0, 256, (8, 9), dtype=np.uint8))
    held.save(tmp_path / "x.png", exif=exif)
    with Image.open(tmp_path / "x.png") as opened:
        upright = np.asarray(ImageOps.exif_transpose(opened))
    np.testing.assert_array_equal(read_rows(tmp_path).values[0], upright)


@pytest.mark.parametrize("tag", [ExifTags.Base.ImageWidth, ExifTags.Base.Software])
def test_picture_is_turned_upright_whatever_else_the_camera_noted(tmp_path, rng, tag):
    pixels = rng.integers(0, 256, (8, 9), dtype=np.uint8)
    # Two entries: a fraction where that tag has another type, and a quarter turn.
    noted = struct.pack(">2sHIHHHIIHHIHHI", b"MM", 42, 8, 2, tag, 5, 1, 38, 0x112, 3, 1, 6, 0, 0)
    noted += struct.pack(">II", 9, 1)
    Image.fromarray(pixels).save(tmp_path / "x.png", exif=b"Exif\0\0" + noted)
    np.testing.assert_array_equal(read_rows(tmp_path).values[0], np.rot90(pixels, 3))


def test_pictures_in_hidden_folders_are_left_aside_and_folders_are_no_pictures(tmp_path):
    for name in ("x.png", ".cache/x.png", "scan.tif/y.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        picture(tmp_path / name, np.zeros((8, 9), np.uint8))
    assert read_rows(tmp_path).names.tolist() == ["scan.tif/y.png", "x.png"]


def test_picture_whose_name_is_no_text_can_be_scored(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    try:
        picture(path, np.zeros((8, 9), np.uint8))
    except OSError:
        pytest.skip("no file here may have such a name")
    rows = read_rows(tmp_path)
    assert rows.names.tolist() == ["caf\\xe9.png"]
    assert "caf\\xe9.png" in as_csv({"file": rows.names})


def test_picture_alone_is_one_row(tmp_path):
    rows = read_rows(picture(tmp_path / "x.png", np.zeros((8, 9), np.uint8)))
    assert rows.values.shape == (1, 8, 9)
    assert rows.names.tolist() == ["x.png"]


def test_pictures_of_odd_size_are_named_or_resized(tmp_path):
    for i, side in enumerate((8, 8, 12)):
        picture(tmp_path / f"{i}.png", np.full((side, side), 40 * i, np.uint8))
    with pytest.raises(InvalidInputError, match=r"2\.png must have .* 8x8 grey, got 12x12 grey"):
        read_rows(tmp_path)
    rows = read_rows(tmp_path, ReadOptions(size=(6, 10)))
    assert rows.values.shape == (3, 6, 10)
    assert rows.values.mean(axis=(1, 2)).tolist() == [0, 40, 80]


def test_pictures_of_odd_colour_are_named(tmp_path):
    picture(tmp_path / "a.png", np.zeros((8, 8), np.uint8))
    picture(tmp_path / "b.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(InvalidInputError, match=r"b\.png .* 8x8 grey, got 8x8 RGB"):
        read_rows(tmp_path)


def test_picture_broken_or_deep_is_named(tmp_path, rng):
    path = picture(tmp_path / "a.png", rng.integers(0, 256, (40, 40), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(InvalidInputError, match=r"a\.png must be a whole picture"):
        read_rows(tmp_path)
    path.write_text("text")
    with pytest.raises(InvalidInputError, match=r"a\.png must be a whole picture"):
        read_rows(tmp_path)
    picture(path, np.zeros((8, 8), np.uint16))
    with pytest.raises(InvalidInputError, match=r"a\.png must have 8 bits a channel"):
        read_rows(tmp_path)


def test_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="must hold pictures"):
        read_rows(tmp_path)


# --- any kind ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "npy", "npz", "parquet", "png"])
def test_streaming_gives_the_same_rows_in_pieces(tmp_path, table, kind):
    path = tmp_path / f"x.{kind}"
    if kind == "csv":
        table.to_csv(path, index=False)
    elif kind == "npy":
        np.save(path, table)
    elif kind == "npz":
        np.savez(path, table)
    elif kind == "parquet":
        table.to_parquet(path)
    else:
        path = tmp_path
        for i in range(50):
            picture(tmp_path / f"{i:02}.png", np.full((1, 3), i, np.uint8))
    whole = read_rows(path)
    parts = list(stream_rows(path, chunk_bytes=7 * 3 * 8))
    assert [len(part.names) for part in parts] == [7] * 7 + [1]
    pieces = np.concatenate([np.asarray(part.values) for part in parts])
    np.testing.assert_array_equal(pieces, np.asarray(whole.values))
    np.testing.assert_array_equal(np.concatenate([part.names for part in parts]), whole.names)


@pytest.mark.parametrize("frame", [True, False])
def test_reading_joins_the_blocks_of_a_long_file(tmp_path, monkeypatch, table, frame):
    monkeypatch.setattr("ebgan_detect.datafiles._text.ROWS_AT_ONCE", 8)
    table.to_csv(tmp_path / "x.csv", index=False, header=frame)
    rows = read_rows(tmp_path / "x.csv")
    np.testing.assert_allclose(np.asarray(rows.values), table.to_numpy(), rtol=1e-15)
    assert len(rows.names) == 50
    if frame:
        assert rows.values.index.tolist() == list(range(50))


def test_streaming_names_the_row_that_is_not_finite(tmp_path, rng):
    x = rng.normal(size=(20, 3))
    x[13, 1] = np.inf
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(InvalidInputError, match=r"x\.npy, row 13: every value must be finite"):
        list(stream_rows(tmp_path / "x.npy", chunk_bytes=100))


def test_absent_path_is_not_found(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        read_rows(tmp_path / "absent.csv")


def test_file_without_a_suffix_is_no_picture(tmp_path):
    for name in ("table", ".csv", "table."):
        path = written(tmp_path / name, "a,b\n1,2\n")
        with pytest.raises(
            InvalidInputError, match=r"a folder of pictures or a file ending in \.bmp"
        ):
            read_rows(path)


def test_unknown_suffix_is_told_the_known_ones(tmp_path):
    path = written(tmp_path / "x.xlsx", "")
    with pytest.raises(InvalidInputError, match=r"\.csv, .*\.npy, .*\.parquet, .*got .*x\.xlsx"):
        read_rows(path)


@pytest.mark.parametrize(
    ("module", "name", "message"),
    [
        ("pandas", "x.csv", r"reading CSV needs pandas: pip install 'ebgan-detect\[cli\]'"),
        ("pyarrow", "x.parquet", r"reading Parquet needs pyarrow: pip install"),
        ("PIL.Image", "x.png", r"reading pictures needs pillow: .*\[images\]"),
    ],
)
def test_missing_package_is_named_with_its_extra(tmp_path, monkeypatch, module, name, message):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=message):
        read_rows(written(tmp_path / name, "1,2\n"))


# --- writing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_written_table_reads_back_exactly(tmp_path, rng, suffix):
    table = {
        "file": np.array(["a,b.png", "c.png"], dtype=object),
        "score": rng.normal(size=2) * 1e-9,
        "label": np.array([1, -1]),
    }
    path = tmp_path / f"t{suffix}"
    write_table(path, table)
    frame = pd.read_csv(path) if suffix == ".csv" else pd.read_parquet(path)
    assert list(frame) == list(table)
    for name, values in table.items():
        assert frame[name].tolist() == values.tolist()
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_csv_text_can_go_without_header():
    assert as_csv({"row": np.array([1, 2]), "x": np.array([0.1, -np.inf])}, header=False) == (
        "1,0.1\n2,-inf\n"
    )


def test_output_is_checked_before_work(tmp_path):
    with pytest.raises(InvalidInputError, match=r"ending in \.csv or \.parquet, got .*t\.txt"):
        check_output(tmp_path / "t.txt")
    with pytest.raises(FileNotFoundError, match="absent"):
        check_output(tmp_path / "absent" / "t.csv")
    check_output(tmp_path / "t.csv")
