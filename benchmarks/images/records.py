"""Stored runs, and questions to them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.images.methods import PLAIN

SAME_NETWORKS = ("control", "denoising", "untrained")
NETWORK_SETTINGS = ("architecture", "hidden_sizes", "code_dim")
AUTOENCODER_SETTINGS = (*NETWORK_SETTINGS, "noise", "precision", "max_updates", "n_snapshots")
"""Those that matter without an adversary."""


@dataclass(frozen=True)
class Records:
    """Some runs of one benchmark.

    Attributes
    ----------
    all : list of dict
        The runs as stored, failed ones too.
    """

    all: list[dict[str, Any]]

    @classmethod
    def read(cls, results: Path, benchmark: str) -> Records:
        """All runs of a benchmark, those that were scored in two ways once for each."""
        files = sorted((results / benchmark).glob("*.json"))
        found = {}
        for stored in (json.loads(file.read_text()) for file in files):
            for record in (stored, _by_plain_error(stored)):
                found[_case(record), record["method"], record["seed"]] = record
        return cls(list(found.values()))

    @property
    def done(self) -> list[dict[str, Any]]:
        """Runs that did not fail."""
        return [record for record in self.all if "failed" not in record]

    def only(self, **case: Any) -> Records:
        """Runs of one case."""
        return Records(
            [r for r in self.all if all(r.get(key) == value for key, value in case.items())]
        )

    def by_seed(self, method: str, metric: str, *, outliers: str | None = None) -> dict[int, float]:
        """A method's values by seed, of one kind of outliers where there are several."""
        return {
            r["seed"]: (r if outliers is None else r["outliers"][outliers])[metric]
            for r in self.done
            if r["method"] == method and (outliers is None or outliers in r["outliers"])
        }

    def differences(
        self, metric: str, one: str = "EBGAN", other: str = "control", **kind: Any
    ) -> dict[int, float]:
        """One method minus another by seed, where both have run."""
        first, second = (self.by_seed(name, metric, **kind) for name in (one, other))
        return {seed: first[seed] - second[seed] for seed in first.keys() & second.keys()}

    def mean(self, method: str, key: str, form: str) -> str:
        """Mean of a number over a method's runs that have it."""
        values = [r[key] for r in self.done if r["method"] == method and key in r]
        return format(np.mean(values), form) if values else "-"

    def failed(self, method: str) -> bool:
        """Whether a run of the method failed."""
        return any("failed" in r for r in self.all if r["method"] == method)

    def failures(self) -> list[str]:
        """Every failed run with its reason."""
        return [
            f"{r['method']}, {_case(r)}, seed {r['seed']}: {r['failed']}"
            for r in self.all
            if "failed" in r
        ]

    def unlike(self) -> list[str]:
        """Runs of the same autoencoder whose networks are not those of EBGAN's run."""
        settings = {
            (_case(r), r["seed"], r["method"]): _networks(r) for r in self.done if "settings" in r
        }
        return [
            f"{method}, {case}, seed {seed}: {own}, EBGAN {settings[case, seed, ebgan]}"
            for (case, seed, method), own in settings.items()
            for ebgan in ["EBGAN" + PLAIN if method.endswith(PLAIN) else "EBGAN"]
            if method.removesuffix(PLAIN) in SAME_NETWORKS
            and own != settings.get((case, seed, ebgan), own)
        ]

    def mixed(self) -> list[str]:
        """Methods whose runs had different settings, as when a default changed between them."""
        lines = []
        methods = dict.fromkeys(r["method"] for r in self.done)
        for method in methods:
            if method.endswith(PLAIN) and method.removesuffix(PLAIN) in methods:
                continue  # the same trainings
            runs = [r for r in self.done if r["method"] == method and "settings" in r]
            known = dict.fromkeys(key for r in runs for key in r["settings"])
            if method.endswith(PLAIN):
                known.pop("complexity_exponent", None)  # without effect on these scores
            same_networks = method.removesuffix(PLAIN) in SAME_NETWORKS
            for key in AUTOENCODER_SETTINGS if same_networks else known:
                cases: dict[str, list[str]] = {}
                for r in runs:
                    if key in r["settings"]:  # or else it was made before there was a choice
                        cases.setdefault(str(r["settings"][key]), []).append(
                            f"{_case(r)} seed {r['seed']}"
                        )
                if len(cases) > 1:
                    told = "; ".join(f"{v} in {', '.join(c)}" for v, c in cases.items())
                    lines.append(f"{method}, {key}: {told}")
        return lines

    def missing(
        self, methods: Iterable[str], key: str, cases: Iterable[Any], seeds: Sequence[int]
    ) -> list[str]:
        """Runs that should be there and are not, a line for each method."""
        cases = list(cases)
        there = {(r["method"], r[key], r["seed"]) for r in self.all}
        lines = []
        for method in methods:
            by_seeds: dict[tuple[int, ...], list[str]] = {}
            for case in cases:
                lacking = tuple(s for s in seeds if (method, case, s) not in there)
                if lacking:
                    by_seeds.setdefault(lacking, []).append(str(case))
            parts = [
                f"{key} {' '.join(names)}, seed{'s' if len(lacking) > 1 else ''} "
                f"{' '.join(map(str, lacking))}"
                for lacking, names in by_seeds.items()
            ]
            if parts:
                lines.append(f"{method}: {'; '.join(parts)}")
        return lines


def widest(seeds_of: Mapping[int, Collection[int]]) -> list[int]:
    """The cases of a mean: as many as one seed has run, so that every seed averages the same.

    `seeds_of` has the seeds of each case; of two such sets of cases that of the lower seed counts.
    """
    seeds = sorted({seed for some in seeds_of.values() for seed in some})
    run = [[case for case, some in seeds_of.items() if seed in some] for seed in seeds]
    return max(run, key=len, default=[])


def mean_by_seed(cases: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """Mean over cases of every seed that all of them have."""
    seeds = set.intersection(*map(set, cases)) if cases else set()
    return {seed: float(np.mean([values[seed] for values in cases])) for seed in sorted(seeds)}


def cell(values: Mapping[int, float], *, signed: bool = False, failed: bool = False) -> str:
    """Mean over seeds, with the range where there are several."""
    if not values:
        return "failed" if failed else "-"
    form = "+.3f" if signed else ".3f"
    numbers = list(values.values())
    told = format(np.mean(numbers), form)
    if len(numbers) > 1:
        told += f" ({min(numbers):{form}}…{max(numbers):{form}})"
    return told


def _by_plain_error(record: dict[str, Any]) -> dict[str, Any]:
    """The same trained networks' run by plain squared error; the run itself where it is one."""
    plain = record.get("plain_error")
    if plain is None and record.get("settings", {}).get("complexity_exponent") == 0:
        plain = {}  # it has no other
    if plain is None or record["method"].endswith(PLAIN):
        return record
    told = {key: value for key, value in record.items() if key != "false_alarm_rate"}
    return {**told, **plain, "method": record["method"] + PLAIN}


def _case(record: Mapping[str, Any]) -> str:
    """The case of a run in words."""
    keys = ("set", "digit", "class", "content")
    return " ".join(str(record[key]) for key in keys if key in record)


def _networks(record: Mapping[str, Any]) -> str:
    """What decides the autoencoder's shape, in words."""
    settings = record["settings"]
    return ", ".join(f"{key} {settings[key]}" for key in NETWORK_SETTINGS if key in settings)
