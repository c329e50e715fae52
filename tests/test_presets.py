"""The paper's own setting, by name."""

import numpy as np
import pytest

from ebgan_detect import EBGANDetector, load, save
from ebgan_detect.errors import InvalidParameterError


def fit(shape, **options):
    x = np.random.default_rng(0).integers(0, 256, (64, *shape), dtype=np.uint8)
    settings = {"max_epochs": 1, "batch_size": 32, "random_state": 0} | options
    return EBGANDetector(preset="paper", **settings).fit(x if len(shape) > 1 else x * 1.0), x


@pytest.mark.parametrize(
    ("shape", "options", "margin", "channels"),
    [
        ((5,), {}, 10 / 5, (96, 96)),
        ((12, 12), {"architecture": "mlp"}, 10 / 144, (512, 256)),
        ((16, 16), {}, 20 / 256, (64, 128)),
        ((3, 8, 70), {}, 40 / (3 * 8 * 70), (64,)),
    ],
)
def test_paper_preset_has_the_papers_margin_and_no_replay(shape, options, margin, channels):
    detector, _ = fit(shape, **options)
    assert detector.margin_ == pytest.approx(margin)
    assert detector.settings_["hidden_sizes"] == channels
    game = detector.model_.members[0]
    assert game.replay is None
    assert (detector.hinge_weight_, game.noise, len(game.earlier)) == (1.0, 0.0, 0)
    assert game.pull_away_weight == 0.1


def test_paper_preset_yields_to_what_the_user_names():
    named = {"margin": 0.7, "replay_size": 8, "noise": 0.1, "n_snapshots": 2, "hidden_sizes": (4,)}
    detector, _ = fit((5,), max_epochs=4, **named)
    game = detector.model_.members[0]
    assert detector.margin_ == pytest.approx(0.7)
    assert len(game.replay.rows) == 8
    assert (game.noise, len(game.earlier)) == (0.1, 1)
    assert detector.settings_["hidden_sizes"] == (4,)


def test_paper_preset_survives_a_file(tmp_path):
    detector, x = fit((5,))
    save(detector, tmp_path / "model.ebgan")
    again = load(tmp_path / "model.ebgan")
    assert again.preset == "paper"
    assert again.margin_ == detector.margin_
    assert np.array_equal(again.energy(x.astype(float)), detector.energy(x.astype(float)))


def test_unknown_preset_is_refused():
    with pytest.raises(InvalidParameterError, match=r"preset must be None or .*paper.*got 'best'"):
        EBGANDetector(preset="best").fit(np.zeros((30, 2)))


@pytest.mark.parametrize("side", [7, 300])
def test_paper_preset_refuses_images_that_the_networks_cannot_take(side):
    detector = EBGANDetector(preset="paper", architecture="conv")
    with pytest.raises(InvalidParameterError, match="8 to 256 pixels"):
        detector.fit(np.zeros((30, side, side), np.uint8))
