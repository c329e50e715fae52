"""Draws from torch's global generator."""

import pytest
import torch

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
