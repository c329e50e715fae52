"""CSV and TSV files."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebgan_detect.datafiles._shared import (
    ROWS_AT_ONCE,
    DataRows,
    ReadOptions,
    optional_module,
    rows_in,
    select_columns,
)
from ebgan_detect.errors import InvalidInputError

CSV_SUFFIXES = (".csv", ".tsv")
WORDS = {"true": 1.0, "false": 0.0}
QUOTED = re.compile('"[^"]*"')


@dataclass(frozen=True)
class _CSVLayout:
    """What every line of a CSV file is read with."""

    path: Path
    delimiter: str
    names: list[str]
    has_header: bool
    positions: list[int]

    @classmethod
    def of(
        cls, path: Path, first: tuple[int, str], following: str, options: ReadOptions
    ) -> _CSVLayout:
        """Layout from the first line that is not blank, and the next such one."""
        number, line = first
        unquoted = QUOTED.sub("", line)
        delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=unquoted.count)
        place = f"{path}, line {number}"
        fields = _fields(line, delimiter, place)
        has_header = options.header
        if has_header is None:
            below = _fields(following, delimiter, f"{path}, the line after line {number}")
            has_header = _has_header(fields, below, options, place)
        if not has_header:
            names = [str(i) for i in range(len(fields))]
            return cls(path, delimiter, names, False, select_columns(path, names, options))
        names = [field or f"Unnamed: {i}" for i, field in enumerate(fields)]
        positions = select_columns(path, names, options)
        unnamed = [names[i] for i in positions if not fields[i]]
        if unnamed:
            raise InvalidInputError(
                f"{path}: every column must have a name, got none for column {unnamed[0]!r}, a "
                "saved index perhaps; name it or drop it"
            )
        return cls(path, delimiter, names, True, positions)


def csv_chunks(path: Path, options: ReadOptions, chunk_bytes: int) -> Iterator[DataRows]:
    """Rows of a text file, a block of lines at a time."""
    pandas = optional_module("pandas", "reading CSV")
    try:
        with path.open(encoding="utf-8-sig") as stream:
            lines = enumerate(stream, 1)
            first = next(((i, line) for i, line in lines if line.strip()), None)
            if first is None:
                return
            ahead = []
            for line in lines:
                ahead.append(line)
                if line[1].strip():
                    break
            layout = _CSVLayout.of(path, first, ahead[-1][1] if ahead else "", options)
            chosen = [layout.names[i] for i in layout.positions]
            rest = chain([] if layout.has_header else [first], ahead, lines)
            size = min(rows_in(chunk_bytes, len(layout.names)), ROWS_AT_ONCE)
            while block := list(islice(rest, size)):
                numbers, values = _parse(block, layout, pandas)
                if len(numbers):
                    table = pandas.DataFrame(values, columns=chosen)
                    yield DataRows(table if layout.has_header else values, numbers, "line")
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path} must be UTF-8 text, got {error}; convert it") from error


def _fields(line: str, delimiter: str, place: str) -> list[str]:
    """Fields of one line."""
    try:
        return [field.strip() for field in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error as error:
        raise _no_csv(place, error) from error


def _no_csv(place: str, error: csv.Error) -> InvalidInputError:
    """The error of a line that no CSV reader takes."""
    return InvalidInputError(
        f"{place} must be CSV of commas, semicolons or tabs, got {error}; correct it"
    )


def _has_header(fields: list[str], below: list[str], options: ReadOptions, place: str) -> bool:
    """Whether a first line holds names, given the next; refused where it may be a mistake."""
    text = [i for i, field in enumerate(fields) if field and _number(field) is None]
    is_mixed = text and any(_number(field) is not None for field in fields)
    is_known = any(fields[i] in (*options.columns, *options.drop) for i in text)
    numeric_below = all(i < len(below) and _number(below[i]) is not None for i in text)
    if is_mixed and numeric_below and not is_known:
        raise InvalidInputError(
            f"{place}, column '{text[0]}' must be a number as in the next line, got "
            f"{fields[text[0]]!r}; correct the line, or if it holds names, say so with "
            "header=True (--header)"
        )
    return bool(text)


def _parse(
    block: list[tuple[int, str]], layout: _CSVLayout, pandas: Any
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Line numbers and values of a block: by pandas if it is plain, else field by field."""
    text = "".join(line for _, line in block)
    delimiters = len(layout.names) - 1
    if '"' not in text and all(line.count(layout.delimiter) == delimiters for _, line in block):
        try:
            frame = pandas.read_csv(
                io.StringIO(text),
                sep=layout.delimiter,
                header=None,
                names=range(len(layout.names)),
                usecols=layout.positions,
                dtype=np.float64,
                na_filter=False,
            )
        except ValueError:
            frame = None  # some field is no number: the other way finds it
        if frame is not None and len(frame) == len(block):
            values = frame[layout.positions].to_numpy()
            if np.isfinite(values).all():
                return np.array([number for number, _ in block]), values
    return _parse_exactly(block, layout)


def _parse_exactly(
    block: list[tuple[int, str]], layout: _CSVLayout
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Line numbers and values of a block, or the place of its first mistake."""
    reader = csv.reader((line for _, line in block), delimiter=layout.delimiter, strict=True)
    numbers: list[int] = []
    values: list[list[float]] = []
    number = block[0][0] - 1
    while True:
        number += 1
        place = f"{layout.path}, line {number}"
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise _no_csv(place, error) from error
        if fields is None:
            break
        if reader.line_num > number - block[0][0] + 1:
            raise InvalidInputError(
                f"{place}: a row must be on one line, got a quoted field with a line break; "
                "remove the break"
            )
        if not fields or (len(fields) == 1 < len(layout.names) and not fields[0].strip()):
            continue
        if len(fields) != len(layout.names):
            raise InvalidInputError(
                f"{place} must have {len(layout.names)} fields, got {len(fields)}; correct or "
                "delete the line"
            )
        numbers.append(number)
        values.append([_checked(fields[i], place, layout.names[i]) for i in layout.positions])
    return np.array(numbers, np.int64), np.array(values, np.float64)


def _checked(field: str, place: str, column: str) -> float:
    """A field as a finite number."""
    value = _number(field)
    if value is None or not math.isfinite(value):
        got = repr(field.strip()) if field.strip() else "an empty field"
        raise InvalidInputError(
            f"{place}, column {column!r} must be a finite number, got {got}; correct the line or "
            "drop the column"
        )
    return value


def _number(field: str) -> float | None:
    """A field as a number, None where it is text."""
    word = field.strip().lower()
    try:
        return WORDS[word] if word in WORDS else None if "_" in word else float(word)
    except ValueError:
        return None
