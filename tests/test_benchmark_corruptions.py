"""Images made from other images, and from nothing, in the image benchmarks."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from benchmarks.images import corruptions

GREY = arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(4, 9), st.integers(4, 9)))
COLOUR = arrays(np.uint8, st.tuples(st.integers(1, 3), st.just(3), st.integers(4, 9), st.just(7)))
EITHER = st.one_of(GREY, COLOUR)


@given(EITHER, st.integers(0, 9))
def test_shuffled_pixels_are_the_same_pixels(images, seed):
    out = corruptions.shuffled(images, np.random.default_rng(seed))
    assert out.shape == images.shape
    for before, after in zip(images, out, strict=True):
        columns = [a.reshape(-1, a.shape[-2] * a.shape[-1]).T for a in (before, after)]
        assert Counter(map(tuple, columns[0])) == Counter(map(tuple, columns[1]))


def test_shuffled_images_each_have_their_own_order():
    ramp = np.tile(np.arange(64, dtype=np.uint8).reshape(1, 8, 8), (2, 1, 1))
    out = corruptions.shuffled(ramp, np.random.default_rng(0))
    assert (out[0] != out[1]).any()
    assert (out[0] != ramp[0]).any()


@given(EITHER)
def test_inverted_twice_is_the_image_and_turned_four_times_too(images):
    once = corruptions.inverted(images)
    assert (once.astype(int) + images == 255).all()
    np.testing.assert_array_equal(corruptions.inverted(once), images)
    turned = images
    for _ in range(4):
        turned = corruptions.rotated(turned)
    np.testing.assert_array_equal(turned, images)


@given(EITHER)
def test_blur_keeps_the_mean_and_narrows_the_range(images):
    out = corruptions.blurred(images)
    assert out.shape == images.shape
    assert out.min() >= images.min()
    assert out.max() <= images.max()
    mean, before = (a.astype(float).mean(axis=(-2, -1)) for a in (out, images))
    np.testing.assert_allclose(mean, before, atol=0.51)  # a level is rounded by half at most


@given(EITHER, st.integers(0, 9))
def test_occlusion_changes_nothing_outside_one_square(images, seed):
    out = corruptions.occluded(images, np.random.default_rng(seed))
    side = min(images.shape[-2:]) // 3
    for before, after in zip(images, out, strict=True):
        changed = (before != after).reshape(-1, *before.shape[-2:]).any(axis=0)
        assert (after[..., changed] == 128).all()
        rows, columns = np.nonzero(changed)
        if len(rows):
            assert np.ptp(rows) < side
            assert np.ptp(columns) < side


def test_occlusion_hides_a_third_of_each_side():
    out = corruptions.occluded(np.zeros((50, 9, 9), np.uint8), np.random.default_rng(0))
    assert ((out == 128).sum(axis=(1, 2)) == 9).all()
    assert len(np.unique(out, axis=0)) > 10


@given(GREY, st.tuples(st.integers(1, 12), st.integers(1, 12)))
def test_resizing_by_area_keeps_the_mean(images, shape):
    out = corruptions.resized_by_area(images, shape)
    assert out.shape == (len(images), *shape)
    mean, before = (a.astype(float).mean(axis=(1, 2)) for a in (out, images))
    np.testing.assert_allclose(mean, before, atol=0.51)


def test_resizing_by_area_weighs_overlaps():
    image = np.array([[[0, 60, 120]]], np.uint8)
    # Each half covers one and a half pixels: (0 + 30) / 1.5 and (30 + 120) / 1.5.
    np.testing.assert_array_equal(corruptions.resized_by_area(image, (1, 2)), [[[20, 100]]])
    np.testing.assert_array_equal(corruptions.resized_by_area(image, (1, 3)), image)


def test_colours_become_luminance_and_grey_becomes_three_colours():
    red = np.zeros((1, 3, 2, 2), np.uint8)
    red[:, 0] = 200
    np.testing.assert_array_equal(corruptions.in_shape_of(red, (2, 2)), np.full((1, 2, 2), 60))
    grey = np.arange(4, dtype=np.uint8).reshape(1, 2, 2)
    out = corruptions.in_shape_of(grey, (3, 2, 2))
    assert out.shape == (1, 3, 2, 2)
    assert (out == grey[:, None]).all()


def test_outliers_are_the_same_at_every_call_and_have_the_images_shape():
    test = np.random.default_rng(0).integers(0, 256, (40, 12, 12), np.uint8)
    others = {"other": np.zeros((3, 3, 16, 16), np.uint8)}
    first, second = (corruptions.outliers(test, others, n_made=30) for _ in range(2))
    sizes = {name: len(images) for name, images in first.items()}
    assert sizes.pop("other") == 3
    assert [sizes.pop(name) for name in list(sizes) if "level" in name] == [1, 15, 240]
    assert set(sizes.values()) == {30}
    for name, images in first.items():
        assert images.shape[1:] == (12, 12)
        assert images.dtype == np.uint8
        np.testing.assert_array_equal(images, second[name])
    assert np.unique(first["constant (levels 16…255)"]).tolist() == list(range(16, 256))
