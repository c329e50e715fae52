"""What exported models say about themselves, written and read in one place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebgan_detect.base import ANSWERS
from ebgan_detect.interchange import OUTPUTS, PREFIX, ModelCard

CARD = ModelCard("1.2", -0.1, ("a", "b"), "d1", 30, "4")


@given(
    offset=st.floats(allow_nan=False, allow_infinity=False),
    names=st.none() | st.lists(st.text(), min_size=1).map(tuple),
    n_calibration=st.integers(0, 10**9),
    model_version=st.sampled_from(["", "1", "20"]),
)
def test_card_comes_back_to_the_last_bit(offset, names, n_calibration, model_version):
    card = ModelCard("0.1", offset, names, "abc", n_calibration, model_version)
    metadata = card.metadata()
    assert ModelCard.read({**metadata, "other.key": "x"}) == card
    assert all(key.startswith(PREFIX) for key in metadata)
    assert (f"{PREFIX}model_version" in metadata) == bool(model_version)


@pytest.mark.parametrize("key", ["format", "offset", "input_names", "training_digest"])
def test_card_without_a_part_is_none(key):
    metadata = CARD.metadata()
    del metadata[f"{PREFIX}{key}"]
    with pytest.raises(KeyError, match=key):
        ModelCard.read(metadata)


@pytest.mark.parametrize(("key", "value"), [("offset", "low"), ("input_names", "a, b")])
def test_unreadable_card_raises(key, value):
    with pytest.raises(ValueError, match=r"low|Expecting value"):
        ModelCard.read({**CARD.metadata(), f"{PREFIX}{key}": value})


def test_served_models_answer_what_detectors_do():
    assert list(OUTPUTS) == list(ANSWERS)
