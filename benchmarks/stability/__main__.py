"""Train the classifier, perform what is missing of the study, report on what there is.

    python -m benchmarks.stability train
    python -m benchmarks.stability run --count 24 --max-width 800 --jobs 2
    python -m benchmarks.stability report --count 24 --max-width 800

``--fraction 1`` on all widths is the paper's grid: 512 runs of either EBGAN, 6,144 of the GAN.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from benchmarks.common import RESULTS, positive
from benchmarks.stability.classifier import Judge, mnist, train_judge
from benchmarks.stability.grid import CONTROLS, SYSTEMS, choose
from benchmarks.stability.report import draw_histograms, draw_samples, stored, summary
from benchmarks.stability.runs import BENCHMARK, Run, perform_all
from ebgan_detect.files import write_atomically

STEPS, BATCH_SIZE = 1_500, 64


def runs_of(arguments: argparse.Namespace) -> list[Run]:
    """The chosen runs, one of every system in turn, so that a stopped study is balanced."""
    chosen = {
        system: choose(
            system,
            max_width=arguments.max_width,
            count=arguments.count,
            fraction=arguments.fraction,
        )
        for system in arguments.systems
    }
    longest = max(len(cells) for cells in chosen.values())
    if not longest:
        raise SystemExit(
            f"no network of the grid is as narrow as --max-width {arguments.max_width}"
        )
    return [
        Run(system, cells[i], arguments.steps, BATCH_SIZE)
        for i in range(longest)
        for system, cells in chosen.items()
        if i < len(cells)
    ]


def train(arguments: argparse.Namespace) -> None:
    """Train the classifier that judges samples."""
    record = train_judge(mnist()).record
    print(f"accuracy {record['accuracy']:.4f} on the test file; real images: {record['real']}")


def run(arguments: argparse.Namespace) -> None:
    """Perform what is missing."""
    Judge.read()
    runs = runs_of(arguments)
    for i, (done, result) in enumerate(perform_all(runs, jobs=arguments.jobs), 1):
        figures = f"I' {result['score']:.3f}, {result['modes']} modes, {result['seconds']:.0f} s"
        print(f"{i}/{len(runs)} {done.file().stem}: {figures}", flush=True)


def report(arguments: argparse.Namespace) -> None:
    """Print the tables, draw the pictures, and keep both."""
    results, missing = stored(runs_of(arguments))
    tables = summary(results, missing, Judge.read().record)
    print(tables)
    if results:
        folder = RESULTS / BENCHMARK
        made_by = f"`{command_of(arguments)}`, then `report` with the same options"
        title = f"# Stability study\n\nMade by {made_by}.\n\n"
        write_atomically(folder / "report.md", f"{title}{tables}\n".encode())
        draw_histograms(results, folder / "histograms.png")
        draw_samples(results, folder / "samples.png")


def command_of(arguments: argparse.Namespace) -> str:
    """The command that makes the runs of a report."""
    names = ("count", "fraction", "max_width", "steps")
    given = {name.replace("_", "-"): getattr(arguments, name) for name in names}
    options = [f"--{name} {value}" for name, value in given.items() if value is not None]
    return " ".join(["python -m benchmarks.stability run", *options])


def share(text: str) -> float:
    """A share of a grid."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must lie in (0, 1], got {text}")
    return value


def main(words: Sequence[str] | None = None) -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stability", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    which = argparse.ArgumentParser(add_help=False)
    part = which.add_mutually_exclusive_group()
    part.add_argument("--count", type=positive, help="configurations of each system")
    part.add_argument("--fraction", type=share, help="share of each system's grid, in (0, 1]")
    which.add_argument("--max-width", type=positive, help="leave out wider networks (CPU: 800)")
    which.add_argument("--steps", type=positive, default=STEPS, help="updates of each run")
    which.add_argument("--systems", nargs="+", choices=SYSTEMS + CONTROLS, default=SYSTEMS)
    commands = parser.add_subparsers(required=True)
    commands.add_parser("train", help=train.__doc__).set_defaults(command=train)
    performing = commands.add_parser("run", parents=[which], help=run.__doc__)
    performing.add_argument("--jobs", type=positive, default=1, help="processes")
    performing.set_defaults(command=run)
    commands.add_parser("report", parents=[which], help=report.__doc__).set_defaults(command=report)
    arguments = parser.parse_args(words)
    arguments.command(arguments)


if __name__ == "__main__":
    main()
