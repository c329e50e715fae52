"""Images of 64 to 256 pixels a side: training, scoring, memory, and data sets of pictures."""

from __future__ import annotations

import io
import subprocess
import sys
import weakref

import numpy as np
import pytest
import torch
from PIL import Image

from ebgan_detect import Callback, EBGANDetector, InputRangeWarning, InvalidInputError, data, save
from ebgan_detect.datafiles import ReadOptions, read_rows, stream_rows
from ebgan_detect.model import ELEMENTS_IN_CHUNK, IMAGES_IN_CHUNK
from ebgan_detect.training import rows as training_rows

# The paper's levels, an eighth or less of its widths. A given margin spares the pilot.
PAPER = {64: (64, 128, 256), 128: (64, 128, 256, 512), 256: (64, 128, 256, 512)}
SMALL = {
    "code_dim": 8,
    "latent_dim": 4,
    "margin": 0.1,
    "batch_size": 4,
    "max_epochs": 1,
    "replay_size": 8,
    "false_alarm_rate": 0.5,
    "random_state": 0,
}


def smooth_images(n, side, seed=0):
    """Soft blobs of colour, shape (n, 3, side, side)."""
    coarse = torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    fine = torch.nn.functional.interpolate(coarse, size=side, mode="bilinear")
    return (255 * fine).to(torch.uint8).numpy()


class FirstWeights(Callback):
    """Keeps the weights that training starts from."""

    def on_train_begin(self, run):
        self.weights = {k: v.detach().clone() for k, v in run.objective.named_parameters()}


# --- networks -------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [64, 128, 256])
def test_networks_of_every_size_train_and_score(side):
    images = smooth_images(12, side)
    first = FirstWeights()
    widths = tuple(width // 16 for width in PAPER[side])
    detector = EBGANDetector(**SMALL, hidden_sizes=widths, callbacks=[first]).fit(images)
    assert detector.settings_["architecture"] == "conv"
    last = dict(detector.model_.games()[0].named_parameters())
    for name, weight in first.weights.items():
        assert not torch.equal(weight, last[name]), f"{name} has not moved"

    energies = detector.energy(images)
    assert np.isfinite(energies).all()
    assert len(np.unique(energies)) == len(images)
    order = np.random.default_rng(0).permutation(len(images))
    np.testing.assert_array_equal(detector.energy(images[order]), energies[order])
    np.testing.assert_array_equal(detector.energy(images[3:4]), energies[3:4])
    maps = detector.energy_map(images[:2])
    assert maps.shape == (2, 3, side, side)
    np.testing.assert_allclose(maps.mean(axis=(1, 2, 3)), energies[:2], rtol=1e-6)
    assert detector.sample(2, random_state=0).shape == (2, 3, side, side)


@pytest.mark.parametrize(("side", "innermost"), [(64, 8), (128, 8), (256, 16)])
def test_hidden_sizes_give_the_layers_of_the_paper(side, innermost):
    with torch.device("meta"):
        from ebgan_detect.networks import conv_networks

        networks = conv_networks(
            (3, side, side), hidden_sizes=PAPER[side], code_dim=32, latent_dim=32, bounded=True
        )
    encoder = [layer for layer in networks.encoder if isinstance(layer, torch.nn.Conv2d)]
    decoder = [layer for layer in networks.decoder if isinstance(layer, torch.nn.ConvTranspose2d)]
    assert [layer.out_channels for layer in encoder] == list(PAPER[side])
    assert [layer.out_channels for layer in decoder] == [*PAPER[side][-2::-1], 3]
    assert {(layer.kernel_size, layer.stride) for layer in [*encoder, *decoder]} == {
        ((4, 4), (2, 2))
    }
    assert networks.encoder[-1].dense.in_features == PAPER[side][-1] * innermost**2


@pytest.mark.parametrize("side", [64, 128, 256])
def test_default_networks_end_at_four_pixels_and_train(side):
    images = smooth_images(8, side)
    settings = {**SMALL, "max_epochs": 1, "batch_size": 2}
    detector = EBGANDetector(**settings, hidden_sizes="auto", adversarial=False)
    detector.fit(images[:3])
    assert side >> len(detector.settings_["hidden_sizes"]) == 4
    assert np.isfinite(detector.energy(images)).all()


@pytest.mark.parametrize("side", [64, 128, 256])
def test_scoring_takes_few_large_images_at_a_time(side):
    images = smooth_images(30, side)
    detector = EBGANDetector(**SMALL, hidden_sizes=(4, 4)).fit(images[:8])
    chunk = detector.model_.chunk_rows(torch.device("cpu"))
    assert chunk == min(max(1, ELEMENTS_IN_CHUNK // (3 * side**2)), IMAGES_IN_CHUNK)
    seen = []
    detector.model_.members[0].encoder.register_forward_pre_hook(
        lambda _, inputs: seen.append(len(inputs[0]))
    )
    detector.energy(images)
    assert set(seen) == {chunk}
    assert sum(seen) == -(-30 // chunk) * chunk


def test_automatic_replay_of_large_images_is_bounded():
    detector = EBGANDetector(**{**SMALL, "replay_size": "auto", "batch_size": 128})
    detector.set_params(hidden_sizes=(2,)).fit(smooth_images(3, 256))
    assert detector.settings_["replay_size"] * 4 * 3 * 256**2 <= 2**28


def test_memory_of_scoring_does_not_grow_with_the_number_of_images(tmp_path):
    """In a fresh process: scaled at once, these images would take more than 150 MB."""
    detector = EBGANDetector(**SMALL, hidden_sizes=(2,)).fit(smooth_images(3, 256))
    save(detector, tmp_path / "model.ebgan")
    code = f"""
import numpy as np
from benchmarks.common import watched_memory
from ebgan_detect import load
detector = load({str(tmp_path / "model.ebgan")!r})
images = np.memmap({str(tmp_path / "images")!r}, np.uint8, "w+", shape=(200, 3, 256, 256))
with watched_memory() as memory:
    detector.energy(images)
print(memory["peak_bytes"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0 < int(done.stdout) < 75e6


# --- data sets of pictures ------------------------------------------------------------------


class Pictures(torch.utils.data.Dataset):
    """Pictures decoded when they are asked for, with a class beside them, as LSUN has them."""

    def __init__(self, images, transform=lambda picture: picture):
        self.encoded = [encoded(image) for image in images]
        self.transform = transform
        self.alive = self.most_alive = self.reads = 0

    def __len__(self):
        return len(self.encoded)

    def __getitem__(self, index):
        picture = self.transform(Image.open(io.BytesIO(self.encoded[index])).convert("RGB"))
        self.reads += 1
        self.alive += 1
        self.most_alive = max(self.most_alive, self.alive)
        weakref.finalize(picture, self.forget)
        return picture, 7

    def forget(self):
        self.alive -= 1


def encoded(image):
    """A picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(np.moveaxis(image, 0, -1)).save(buffer, "png")
    return buffer.getvalue()


def test_pictures_larger_than_memory_are_streamed(monkeypatch):
    images = smooth_images(40, 64)
    settings = {**SMALL, "hidden_sizes": (4, 4), "max_epochs": 2}
    resident = EBGANDetector(**settings).fit(images)
    for module, limit in ((training_rows, "RESIDENT_BYTES"), (data, "HELD_BYTES")):
        monkeypatch.setattr(module, limit, 10 * 3 * 64**2)
    pictures = Pictures(images)
    streamed = EBGANDetector(**settings).fit(pictures)
    # A batch, or a chunk that is scored; never the whole set.
    assert pictures.most_alive <= 22
    assert pictures.reads > 3 * len(images)
    np.testing.assert_allclose(streamed.energy(images), resident.energy(images), rtol=1e-5)
    np.testing.assert_array_equal(streamed.score_samples(pictures), streamed.score_samples(images))


def test_pictures_of_mixed_sizes_need_a_transform():
    mixed = [*smooth_images(6, 64), *smooth_images(6, 80)]
    with pytest.raises(InvalidInputError, match=r"shape .*\(3, 80, 80\).*resize .* transform"):
        EBGANDetector(**SMALL).fit(Pictures(mixed))
    resized = Pictures(mixed, lambda picture: picture.resize((64, 64)))
    detector = EBGANDetector(**SMALL, hidden_sizes=(4,)).fit(resized)
    assert detector.input_shape_ == (3, 64, 64)
    assert np.isfinite(detector.score_samples(resized)).all()
    with pytest.raises(InvalidInputError, match=r"\(3, 80, 80\).*\(3, 64, 64\)"):
        detector.score_samples(Pictures(mixed[6:]))


# --- folders without torchvision ------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """Pictures of mixed sizes in two classes, as ImageFolder wants them."""
    for number, side in enumerate([64, 80, 100, 64, 72, 90, 64, 64, 65, 70]):
        path = tmp_path / "pictures" / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(smooth_images(1, side, seed=number)[0]))
    return tmp_path / "pictures"


def test_folder_of_mixed_sizes_is_resized_smoothly(folder):
    with pytest.raises(InvalidInputError, match=r"must have the size .* 64x64 RGB, got .*size"):
        read_rows(folder)
    rows = read_rows(folder, ReadOptions(size=(64, 64)))
    assert rows.values.shape == (10, 3, 64, 64)
    assert rows.names[0] == "cat/0.png"
    # Picture k, whatever its size, holds the blobs of seed k.
    for name, picture in zip(rows.names, rows.values, strict=True):
        same = smooth_images(1, 64, seed=int(name[4:-4]))[0]
        assert np.abs(picture - same.astype(float)).max() < 12, name
    detector = EBGANDetector(**SMALL, hidden_sizes=(4, 4)).fit(rows.values)
    assert np.isfinite(detector.score_samples(rows.values)).all()


def test_fine_grain_is_averaged_when_pictures_shrink(tmp_path):
    checks = np.indices((256, 256)).sum(axis=0) % 2 * 255
    Image.fromarray(checks.astype(np.uint8)).save(tmp_path / "checks.png")
    (small,) = read_rows(tmp_path, ReadOptions(size=(64, 64))).values
    assert abs(small.astype(int) - 127).max() <= 3


def test_large_pictures_are_streamed_in_bounded_chunks(tmp_path):
    for number, image in enumerate(smooth_images(7, 256)):
        (tmp_path / f"{number}.png").write_bytes(encoded(image))
    chunks = list(stream_rows(tmp_path, chunk_bytes=3 * 8 * 3 * 256**2))
    assert [len(chunk.names) for chunk in chunks] == [3, 3, 1]
    whole = read_rows(tmp_path).values
    np.testing.assert_array_equal(np.concatenate([c.values for c in chunks]), whole)


# --- torchvision ----------------------------------------------------------------------------


def test_image_folder_with_transforms_fits_and_scores(torchvision, folder):
    from torchvision.transforms import v2

    crop = [v2.Resize(64), v2.CenterCrop(64), v2.ToImage()]
    whole = [*crop, v2.ToDtype(torch.float32, scale=True)]
    as_bytes, as_floats = (
        torchvision.datasets.ImageFolder(folder, v2.Compose(steps)) for steps in (crop, whole)
    )
    # Other rows calibrate in the second, and so others would say what complexity is usual.
    settings = SMALL | {"hidden_sizes": (4, 4), "complexity_exponent": 0.0}
    detector = EBGANDetector(**settings).fit(as_bytes)
    scores = detector.score_samples(as_bytes)
    array = np.stack([np.asarray(image) for image, _ in as_bytes])
    assert array.shape == (10, 3, 64, 64)
    assert array.dtype == np.uint8
    np.testing.assert_array_equal(detector.score_samples(array), scores)
    # Pixels on 0...1 are another unit, and one that fits as well.
    on_unit = EBGANDetector(**settings).fit(as_floats)
    assert on_unit.model_.scaler.bounded
    assert on_unit.model_.scaler.high <= 1
    np.testing.assert_allclose(on_unit.score_samples(as_floats), scores, rtol=0.02)
    with pytest.warns(InputRangeWarning, match="0 to 255"):
        detector.score_samples(as_floats)


def test_image_folder_without_transform_says_what_to_do(torchvision, folder):
    with pytest.raises(InvalidInputError, match=r"resize them in its transform"):
        EBGANDetector(**SMALL).fit(torchvision.datasets.ImageFolder(folder))


def test_celeba_fits_and_scores(torchvision, tmp_path, monkeypatch):
    """The real class on a folder laid out as CelebA; only the digests of its lists are waived."""
    celeba = torchvision.datasets.CelebA
    files = [(url, None, name) for url, _, name in celeba.file_list]
    monkeypatch.setattr(celeba, "file_list", files)
    base = tmp_path / "celeba"
    (base / "img_align_celeba").mkdir(parents=True)
    names = [f"{number:06d}.jpg" for number in range(1, 13)]
    for number, name in enumerate(names):
        # Aligned faces are 218 pixels high and 178 wide.
        image = np.moveaxis(smooth_images(1, 218, seed=number)[0], 0, -1)[:, :178]
        Image.fromarray(image).save(base / "img_align_celeba" / name)
    lists = {
        "identity_CelebA.txt": (None, "7"),
        "list_eval_partition.txt": (None, "0"),
        "list_attr_celeba.txt": ("Smiling Young", "1 -1"),
        "list_bbox_celeba.txt": ("x_1 y_1 width height", "1 2 3 4"),
        "list_landmarks_align_celeba.txt": ("lefteye_x lefteye_y", "5 6"),
    }
    for name, (header, values) in lists.items():
        head = [] if header is None else [str(len(names)), header]
        lines = [*head, *(f"{picture} {values}" for picture in names)]
        (base / name).write_text("\n".join(lines) + "\n")

    from torchvision.transforms import v2

    transform = v2.Compose([v2.CenterCrop(178), v2.Resize(64), v2.PILToTensor()])
    faces = celeba(tmp_path, split="train", target_type=["attr", "identity"], transform=transform)
    assert len(faces) == 12
    detector = EBGANDetector(**SMALL, hidden_sizes=(4, 4)).fit(faces)
    assert detector.input_shape_ == (3, 64, 64)
    scores = detector.score_samples(faces)
    array = np.stack([image.numpy() for image, _ in faces])
    np.testing.assert_array_equal(scores, detector.score_samples(array))
    subset = torch.utils.data.Subset(faces, [5, 1])
    np.testing.assert_array_equal(detector.score_samples(subset), scores[[5, 1]])


# torchvision leaves the file open that it writes the keys to.
@pytest.mark.filterwarnings("ignore:.*_cache_:pytest.PytestUnraisableExceptionWarning")
def test_lsun_fits_and_scores(torchvision, tmp_path, monkeypatch):
    lmdb = pytest.importorskip("lmdb", reason="LSUN data sets are LMDB files: pip install lmdb")
    images = smooth_images(12, 64)
    for scene, part in (("bedroom_train", images[:8]), ("kitchen_train", images[8:])):
        with (
            lmdb.open(str(tmp_path / f"{scene}_lmdb"), map_size=2**22) as environment,
            environment.begin(write=True) as transaction,
        ):
            for number, image in enumerate(part):
                transaction.put(f"{number:04d}".encode(), encoded(image))
    monkeypatch.chdir(tmp_path)  # the data set leaves a cache of its keys here
    rooms = torchvision.datasets.LSUN(str(tmp_path), classes=["bedroom_train", "kitchen_train"])
    detector = EBGANDetector(**SMALL, hidden_sizes=(4, 4)).fit(rooms)
    np.testing.assert_array_equal(detector.score_samples(rooms), detector.score_samples(images))
