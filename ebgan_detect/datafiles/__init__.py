"""Rows from files and folders, for programs that start from a path; tables of scores to files."""

from ebgan_detect.datafiles._shared import DataRows, ReadOptions
from ebgan_detect.datafiles.reading import read_rows, stream_rows
from ebgan_detect.datafiles.writing import as_csv, check_output, write_table

__all__ = [
    "DataRows",
    "ReadOptions",
    "as_csv",
    "check_output",
    "read_rows",
    "stream_rows",
    "write_table",
]
