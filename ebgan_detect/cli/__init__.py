"""The command line, `ebgan-detect`."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line, or say what it lacks."""
    try:
        import rich  # noqa: F401
        import typer  # noqa: F401
    except ImportError as error:
        sys.exit(f"error: the command line needs {error.name}: pip install 'ebgan-detect[cli]'")
    from ebgan_detect.cli._program import app

    app(prog_name="ebgan-detect")
