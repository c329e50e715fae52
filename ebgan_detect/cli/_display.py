"""What commands tell the user, and how they fail."""

from __future__ import annotations

import warnings
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup
from typing_extensions import override

from ebgan_detect.errors import EBGANError
from ebgan_detect.report.facts import in_words

FAILED, INTERRUPTED = 1, 130


class Commands(TyperGroup):
    """Runs a command; errors and warnings become one line each on stderr."""

    @override
    def invoke(self, ctx: Any) -> Any:
        with warnings.catch_warnings():
            warnings.showwarning = once_per_place()
            try:
                return super().invoke(ctx)
            except KeyboardInterrupt:
                note("interrupted")
                raise typer.Exit(INTERRUPTED) from None
            except BrokenPipeError:
                raise  # `... | head`: typer ends the program without a word
            except (EBGANError, OSError) as error:
                note(f"error: {one_line(error)}")
                raise typer.Exit(FAILED) from None


def note(line: str) -> None:
    """Tell the user something that is not data."""
    typer.echo(line, err=True)


def one_line(error: BaseException) -> str:
    """The message of an error."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return "; ".join(line.strip() for line in str(error).splitlines() if line.strip())


def once_per_place() -> Any:
    """A way to show warnings that does not repeat one for every chunk of the data."""
    shown: set[tuple[type[Warning], str, int]] = set()

    def show(message: Any, category: Any, filename: str, lineno: int, *_: Any) -> None:
        if (category, filename, lineno) not in shown:
            shown.add((category, filename, lineno))
            note(f"warning: {one_line(message)}")

    return show


def print_facts(facts: dict[str, Any], title: str | None = None) -> None:
    """Names and values in two columns."""
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if value is not None:
            table.add_row(name.replace("_", " "), Text(in_words(value)))
    Console().print(table)
