"""One HTML page about a fitted detector and the rows that it scored."""

from ebgan_detect.report.page import write_report

__all__ = ["write_report"]
