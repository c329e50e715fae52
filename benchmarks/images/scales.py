"""At which scales errors should count: sets of block sides, and their weights, compared.

    python -m benchmarks.images.scales

Trains and scores as `benchmarks.images.ways` does, keeps the runs under
``benchmarks/results/scales``, and writes the table beside them. A way has the sides of the blocks
over which errors are averaged, and the power of its side by which each is weighted; relative to
complexity are none of these energies.
"""

from __future__ import annotations

import torch
from torch.nn.functional import avg_pool2d

from benchmarks.images.datasets import Array
from benchmarks.images.ways import CASES, compare, of_images
from ebgan_detect import EBGANDetector
from ebgan_detect.objectives import AutoEncoderObjective

WAYS: dict[str, tuple[tuple[int, ...], int]] = {
    "1": ((1,), 0),
    "1 2": ((1, 2), 1),
    "1 2 4": ((1, 2, 4), 1),
    "1 2 4 8": ((1, 2, 4, 8), 1),
    "1 2 4, unweighted": ((1, 2, 4), 0),
    "1 2 4, squared": ((1, 2, 4), 2),
    "4": ((4,), 0),
}
"""Sides of the blocks, and the power that weighs them."""
SIDES = (1, 2, 4, 8)


def by_way(detector: EBGANDetector, normal: Array, images: Array) -> dict[str, Array]:
    """Energies of images, made in each way of the errors of all states."""
    game = detector.model_.members[0]
    assert isinstance(game, AutoEncoderObjective)

    def errors(raw: torch.Tensor) -> torch.Tensor:
        x = detector.model_.scale(raw)
        made = [game.reconstruct(x), *(state(x) for state in game.earlier)]
        by_side = [
            sum(avg_pool2d(x - some, side).square().flatten(1).mean(1).double() for some in made)
            for side in SIDES
        ]
        return torch.stack(by_side, dim=1) / len(made)

    found = dict(zip(SIDES, of_images(detector, images, errors).T, strict=True))
    return {
        way: sum(found[side] * side**power for side in sides) / len(sides)
        for way, (sides, power) in WAYS.items()
    }


def main() -> None:
    """Compare the ways, on one class more than the others do."""
    more = [("one class", "mnist", (1,))]
    more += [("one class", "fashion-mnist", (label,)) for label in (0, 1, 3, 4)]
    title = "Errors averaged over blocks, by the blocks' sides and weights"
    compare(title, "scales", [*WAYS], by_way, (*CASES, *more))


if __name__ == "__main__":
    main()
