"""Draws from torch's global generator, and none from NumPy's."""

import numpy as np
import pytest
import torch
from tables import SMALL

from ebgan_detect import EBGANDetector
from ebgan_detect.diagnostics import equilibrium
from ebgan_detect.randomness import GlobalRandomness


@pytest.mark.usefixtures("unchanged_global_random_state")
def test_course_goes_on_where_it_was_left_whatever_is_drawn_between():
    with GlobalRandomness(3).in_use():
        expected = torch.rand(6)
    course = GlobalRandomness(3)
    drawn = []
    for other in range(3):
        with course.in_use():
            drawn.append(torch.rand(2))
        with GlobalRandomness(other).in_use():
            torch.rand(5)
    assert torch.equal(torch.cat(drawn), expected)


@pytest.mark.usefixtures("unchanged_global_random_state")
def test_generator_is_put_back_after_an_error():
    with pytest.raises(RuntimeError, match="negative dimension"), GlobalRandomness(3).in_use():
        torch.rand(torch.rand(2).argmin() - 5)


@pytest.mark.usefixtures("unchanged_global_random_state")
def test_draws_without_a_seed_are_new_and_leave_the_global_state_alone(table):
    """NumPy's own state has a seed, for which None would stand in scikit-learn."""
    first, second = (
        EBGANDetector(**SMALL | {"random_state": None, "max_epochs": 1}).fit(table)
        for _ in range(2)
    )
    assert not np.array_equal(first.energy(table), second.energy(table))
    assert not np.array_equal(first.sample(2), first.sample(2))
    assert not np.array_equal(first.draw_latents(2), first.draw_latents(2))
    assert equilibrium(first, table, max_rows=20) != equilibrium(first, table, max_rows=20)
