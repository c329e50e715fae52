"""Command line of the image benchmarks."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import benchmarks.images
from benchmarks.common import RESULTS, positive
from benchmarks.images.methods import ABLATIONS, METHODS
from benchmarks.images.parallel import run_all
from benchmarks.images.protocols import DEVELOPMENT, TRAINED_SETS, Run, folder_case
from benchmarks.images.report import ablation, renew, report
from benchmarks.images.summary import summary
from ebgan_detect.errors import EBGANError
from ebgan_detect.files import write_atomically

SEEDS = (0, 1, 2)
LABELS = {"heldout-digit": "digit", "one-class": "class"}
LABELLED_SETS = (*TRAINED_SETS, "usps", "digits")


def case(protocol: str, text: str) -> dict[str, Any]:
    """A case as the command line names it."""
    if protocol == "out-of-manifold":
        sets = (*TRAINED_SETS, "digits")
        if text not in sets:
            raise argparse.ArgumentTypeError(f"must be one of {', '.join(sets)}, got {text}")
        return {"set": text}
    name, _, label = text.rpartition(":")
    name = name or "mnist"
    if name not in LABELLED_SETS or label not in tuple("0123456789"):
        raise argparse.ArgumentTypeError(
            f"must be like 4 or mnist:4, of {', '.join(LABELLED_SETS)}, got {text}"
        )
    return {"set": name, LABELS[protocol]: int(label)}


def cases(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The cases asked for, or all of the protocol's."""
    protocol = arguments.protocol
    if protocol == "folder":
        yield folder_case(arguments.folder, arguments.size)
    elif arguments.cases:
        yield from arguments.cases
    elif protocol == "out-of-manifold":
        yield from ({"set": name} for name in TRAINED_SETS)
    else:
        sets = ["mnist"] if protocol == "heldout-digit" else TRAINED_SETS
        yield from ({"set": s, LABELS[protocol]: label} for s, label in product(sets, range(10)))


def is_development(case: dict[str, Any]) -> bool:
    """Whether settings may be chosen on a case."""
    label = case.get("digit", case.get("class"))
    return label in DEVELOPMENT.get(case["set"], ())


def runs(arguments: argparse.Namespace) -> list[Run]:
    """Runs in order: every case with the first seed, then with the next."""
    chosen = list(cases(arguments))
    if arguments.development:
        chosen = [c for c in chosen if is_development(c) or c["set"] == "digits"]
        if not chosen:
            raise SystemExit(
                "--development must name development cases (MNIST digits 1 and 9, Fashion-MNIST "
                "classes 0 to 4): the others are reported once, unseen"
            )
    elif set(arguments.methods) & set(ABLATIONS):
        raise SystemExit("methods must be those of the tables unless --development is given")
    return [
        Run(
            arguments.protocol,
            case,
            method,
            seed,
            arguments.development,
            arguments.folder,
            arguments.size,
            arguments.keep,
        )
        for seed in arguments.seeds
        for case in chosen
        for method in arguments.methods
    ]


def parser() -> argparse.ArgumentParser:
    """The command line: one command for each protocol, and one for the tables."""
    main = argparse.ArgumentParser(
        prog="python -m benchmarks.images",
        description=benchmarks.images.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = main.add_subparsers(dest="protocol", required=True)
    for name in ("heldout-digit", "one-class", "out-of-manifold", "folder"):
        command = commands.add_parser(name)
        labelled = name in ("heldout-digit", "one-class")
        names = [*METHODS, *(ABLATIONS if labelled else ())]
        command.add_argument(
            "--methods",
            nargs="+",
            choices=names,
            metavar="METHOD",
            default=list(METHODS),
            help=f"of {' '.join(names)}; {' '.join(METHODS)} by default",
        )
        command.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
        command.add_argument("--jobs", type=positive, default=1, help="processes")
        command.add_argument("--threads", type=positive, default=1, help="of each process")
        command.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON")
        command.add_argument(
            "--keep", type=Path, help="folder for the detectors that this command trains"
        )
        command.set_defaults(development=False, folder=None, size=None, cases=None)
        if name == "folder":
            command.add_argument("folder", help="holds normal/ and anomaly/")
            command.add_argument("--size", type=int, nargs=2, help="height and width")
        else:
            form = {"heldout-digit": "4", "one-class": "mnist:4"}.get(name, "mnist")
            command.add_argument(
                "--cases",
                type=partial(case, name),
                nargs="+",
                metavar="CASE",
                help=f"such as {form}; all by default",
            )
        if labelled:
            command.add_argument(
                "--development",
                action="store_true",
                help="rows of the training file only, to choose settings by",
            )
    tables = commands.add_parser("report")
    tables.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=list(SEEDS),
        help="those of which a run that is not there is listed as missing",
    )
    tables.add_argument("--results", type=Path, default=RESULTS)
    tables.add_argument("--out", type=Path, help="Markdown file; printed where there is none")
    tables.add_argument("--ablation", type=Path, help="Markdown file whose table is renewed")
    tables.add_argument("--summary", type=Path, help="Markdown file whose tables are renewed")
    tables.add_argument("--figure", type=Path, help="PNG file for the figure")
    return main


def make_tables(arguments: argparse.Namespace) -> None:
    """Print or write what was asked for."""
    if not arguments.results.is_dir():
        raise SystemExit(f"--results must be a folder, got {arguments.results}")
    text = report(arguments.results, arguments.seeds)
    if arguments.out is None:
        print(text)
    else:
        write_atomically(arguments.out, text.encode())
    if arguments.ablation is not None:
        renew(arguments.ablation, ablation(arguments.results, arguments.seeds))
    if arguments.summary is not None:
        renew(arguments.summary, summary(arguments.results))
    if arguments.figure is not None:
        from benchmarks.images.figure import draw

        draw(arguments.results, arguments.figure)


def main(line: Sequence[str] | None = None) -> int:
    """Run what is missing, or make the tables; 1 if a run broke off."""
    arguments = parser().parse_args(line)
    if arguments.protocol == "report":
        make_tables(arguments)
        return 0
    if arguments.size is not None:
        arguments.size = tuple(arguments.size)
    try:
        asked = runs(arguments)
    except (EBGANError, OSError) as error:  # a folder of pictures that cannot be read
        raise SystemExit(str(error)) from error
    problems = run_all(asked, arguments.results, jobs=arguments.jobs, threads=arguments.threads)
    print("\n".join(problems) or "all runs done", flush=True)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
