"""Noiseless EBGAN with one ingredient changed: the ablation table's rows, named in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ebgan_detect import EBGANDetector


@dataclass(frozen=True)
class Variant:
    """One change to the defaults without noise.

    Attributes
    ----------
    title : str
        Its name in the table.
    parameters : mapping
        Constructor parameters that differ from the defaults.
    settings : mapping
        Entries of `settings_` that differ and have no constructor parameter.
    """

    title: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def detector(self) -> type[EBGANDetector]:
        """EBGANDetector, its defaults changed by `settings`."""
        settings = dict(self.settings)
        if not settings:
            return EBGANDetector

        def defaults(self: EBGANDetector, *, is_image: bool) -> dict[str, Any]:
            known = EBGANDetector._defaults(self, is_image=is_image)
            unknown = settings.keys() - known.keys()
            if unknown:
                raise KeyError(f"settings of a variant must be in settings_, got {unknown}")
            return known | settings

        return type("EBGANDetector", (EBGANDetector,), {"_defaults": defaults})


VARIANTS: dict[str, Variant] = {
    "noiseless": Variant("EBGAN, no noise"),
    "paper": Variant("the paper's own settings", {"preset": "paper"}),
    "no-replay": Variant("no replay", {"replay_size": 0}),
    "one-negative": Variant("one negative for each real row", settings={"negatives_ratio": 1}),
    "no-pull-away": Variant("no pulling-away term", {"pull_away_weight": 0.0}),
    "pull-away-1": Variant("pulling-away weight 1", {"pull_away_weight": 1.0}),
    "margin-2": Variant("margin 2 × the pilot's energy", settings={"margin_multiple": 2.0}),
    "margin-8": Variant("margin 8 × the pilot's energy", settings={"margin_multiple": 8.0}),
    "hinge-1": Variant("hinge weight 1, whatever the pilot says", {"hinge_weight": 1.0}),
    "hinge-0.6": Variant("hinge weight 0.6", {"hinge_weight": 0.6}),
    "hinge-0.3": Variant("hinge weight 0.3", {"hinge_weight": 0.3}),
    "hinge-0.1": Variant("hinge weight 0.1", {"hinge_weight": 0.1}),
    "noise-0.1": Variant("noise 0.1", {"noise": 0.1}),
    "noise-0.5": Variant("noise 0.5", {"noise": 0.5}),
    "noise-1": Variant("noise 1", {"noise": 1.0}),
    "noise-wide-generator": Variant(
        "EBGAN, generator three times as wide as the decoder",
        {"noise": "auto"},
        {"generator_width": 3},
    ),
    "narrow-generator": Variant(
        "generator as narrow as the decoder", settings={"generator_width": 1}
    ),
    "wide-generator": Variant(
        "generator three times as wide as the decoder", settings={"generator_width": 3}
    ),
    "wide-generator-1750": Variant(
        "generator three times as wide as the decoder, 1,750 updates",
        settings={"generator_width": 3, "max_updates": 1750},
    ),
    "generator-rate-2": Variant("generator's steps twice as large", {"generator_rate": 2.0}),
    "code-16": Variant("code of 16", {"code_dim": 16}),
    "code-64": Variant("code of 64", {"code_dim": 64}),
    "batch-128": Variant(
        "batches of 128, half the updates", {"batch_size": 128}, {"max_updates": 1500}
    ),
    "batch-32": Variant(
        "batches of 32, twice the updates", {"batch_size": 32}, {"max_updates": 6000}
    ),
    "one-state": Variant("energy of the final state only", {"n_snapshots": 1}),
    "average": Variant("running average of the weights", {"keep_state": "average"}),
    "members-3": Variant("three members", {"n_estimators": 3}),
}
"""From a run's name for it to the change."""
