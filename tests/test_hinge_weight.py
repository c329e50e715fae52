"""The weight of the hinge, how the pilot settles it, and the noise that goes with it."""

import math

import numpy as np
import pytest
import torch
from games import Counting, trainer

from benchmarks.images.turned import ratio
from ebgan_detect import Callback, EBGANDetector, ModelFileError, load, save
from ebgan_detect.base.pilot import Pilot, turned


def bars(n=400, side=16, seed=0):
    """Upright bars of random place and height: turned by a quarter, they are of another kind."""
    rng = np.random.default_rng(seed)
    images = np.zeros((n, side, side), np.uint8)
    for image, column, top in zip(
        images, rng.integers(1, 14, n), rng.integers(0, 6, n), strict=True
    ):
        image[top:, column : column + 2] = 255
    return images


def bars_every_way():
    """Bars from all four sides: turned by a quarter, they are what they were."""
    return np.concatenate([np.rot90(bars()[k::4], k, (1, 2)) for k in range(4)])


BRIEF = {"max_epochs": 1, "hidden_sizes": (4,), "random_state": 0}


def test_hinge_is_light_where_the_pilot_tells_turned_images():
    light, full = (EBGANDetector(**BRIEF).fit(images) for images in (bars(), bars_every_way()))
    assert light.hinge_weight_ == pytest.approx(0.1)
    assert light.noise_ == 0
    assert full.hinge_weight_ == 1
    assert full.noise_ == full.settings_["noise"] == 0.3


class WideRule(EBGANDetector):
    """A detector whose rule has bars of both kinds between its two factors."""

    def _defaults(self, *, is_image):
        return super()._defaults(is_image=is_image) | {"turned_ratios": (0.5, 150.0)}


@pytest.mark.parametrize("images", [bars(), bars_every_way()])
def test_hinge_between_falls_with_a_power_of_the_ratio(images):
    share = math.log(ratio(images, 0, hidden_sizes=(4,)) / 0.5) / math.log(300)
    assert 0 < share < 1
    detector = WideRule(**BRIEF).fit(images)
    # The benchmark rounds its ratio.
    assert detector.hinge_weight_ == pytest.approx(0.1**share, rel=1e-3)
    assert detector.noise_ == pytest.approx(0.3 * (1 - share), abs=1e-3)


def test_the_benchmark_measures_what_the_rule_goes_by():
    assert ratio(bars(), 0) > 10 * ratio(bars_every_way(), 0) > 0


@pytest.mark.parametrize(
    ("images", "parameters", "weight", "noise"),
    [
        (bars(), {"hinge_weight": 0.7}, 0.7, 0.3),
        (bars(), {"noise": 0.2}, 0.1, 0.2),
        (bars(), {"margin": 0.1}, 1.0, 0.3),  # which spares the pilot
        (bars(), {"adversarial": False}, math.nan, 0.0),
        (bars(side=15), {}, 1.0, 0.0),
        (bars().reshape(400, -1)[:, ::4], {}, 0.1, 0.5),
    ],
)
def test_hinge_weight_and_noise_follow_what_is_asked(images, parameters, weight, noise):
    detector = EBGANDetector(**BRIEF | parameters).fit(images)
    assert detector.hinge_weight_ == pytest.approx(weight, nan_ok=True)
    assert detector.noise_ == noise


@pytest.mark.parametrize("kind", [EBGANDetector, WideRule])
def test_chosen_hinge_weight_and_noise_outlive_a_killed_training(kind, tmp_path):
    def fit(**parameters):
        return kind(**BRIEF | {"max_epochs": 4} | parameters).fit(bars())

    class Break(Callback):
        def on_epoch_end(self, run):
            if run.epoch == 2:
                raise LookupError

    whole, settings = fit(), {"checkpoint": tmp_path / "state"}
    with pytest.raises(LookupError):
        fit(callbacks=[Break()], **settings)
    resumed = fit(**settings)
    assert resumed.hinge_weight_ == whole.hinge_weight_ < 0.9
    assert resumed.noise_ == whole.noise_ < 0.3
    np.testing.assert_array_equal(resumed.energy(bars(9)), whole.energy(bars(9)))


@pytest.mark.parametrize("images", [bars(), bars_every_way()])
def test_chosen_hinge_weight_and_noise_outlive_a_file(images, tmp_path):
    detector = EBGANDetector(**BRIEF).fit(images)
    save(detector, tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.hinge_weight_ == detector.hinge_weight_
    assert again.noise_ == detector.noise_


def test_images_of_any_shape_are_turned_in_their_middle():
    images = torch.arange(2 * 3 * 5, dtype=torch.float32).reshape(2, 1, 3, 5)
    result = turned(images)
    assert torch.equal(result[..., 1:4], images[..., 1:4].rot90(1, (-2, -1)))
    assert torch.equal(result[..., [0, 4]], images[..., [0, 4]])
    assert torch.equal(images.flatten(), torch.arange(30.0))


def test_file_from_before_there_was_a_choice_is_refused(tmp_path):
    detector = EBGANDetector(**BRIEF).fit(bars())
    for game in detector.model_.members:
        del game.hinge_weight
    save(detector, tmp_path / "model")
    with pytest.raises(ModelFileError, match=r"hinge_weight[^$]*fit again"):
        load(tmp_path / "model")


def test_pilot_judges_rows_that_there_are_however_many():
    class Many:
        """More rows than float32 can count, all alike."""

        def __len__(self):
            return 2**24 + 4

        def placed(self, indices):
            assert int(indices.max()) == len(self) - 1
            return indices

        def take(self, indices):
            return torch.zeros(len(indices), 1)

    assert Pilot.train(Counting(), rows=Many(), trainer=trainer()).energy() == 1e-6
