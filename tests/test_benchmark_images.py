"""The image benchmarks: what trains, what is scored, what the tables say."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from signal import SIGINT
from subprocess import Popen

import numpy as np
import pytest
from games import Interrupt
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score
from torch import nn

import ebgan_detect
from benchmarks.common import RESULTS, false_positive_rate, metrics, run_once
from benchmarks.images import datasets, energies, exponents, methods, scales, ways
from benchmarks.images.__main__ import main, parser, runs
from benchmarks.images.datasets import development_part, load
from benchmarks.images.figure import draw
from benchmarks.images.methods import METHODS, Fitted, Method, detector_method
from benchmarks.images.parallel import run_all
from benchmarks.images.protocols import PROTOCOLS, Run
from benchmarks.images.records import Records
from benchmarks.images.report import TITLES, report
from benchmarks.images.summary import summary
from benchmarks.images.variants import VARIANTS, Variant
from ebgan_detect import EBGANDetector, TrainingInterruptedWarning

# --- the measure --------------------------------------------------------------------------------


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=40),
    st.lists(st.integers(0, 5), min_size=1, max_size=10),
)
def test_false_positive_rate_is_that_of_the_best_threshold(normal, abnormal):
    rates = [
        np.mean(np.array(abnormal) >= threshold)
        for threshold in range(6)
        if 20 * sum(value >= threshold for value in normal) >= 19 * len(normal)
    ]
    labels = np.repeat([False, True], [len(normal), len(abnormal)])
    assert false_positive_rate(labels, normal + abnormal) == min(rates)


def test_a_run_records_its_memory_where_it_is_told_to(tmp_path):
    record = run_once("b", {"x": 1}, lambda: {"y": 2}, results=tmp_path)
    assert record["peak_rss_mib"] > 50
    assert json.loads((tmp_path / "b" / "1.json").read_text()) == record


def test_an_interrupted_training_is_no_result(tmp_path):
    def measure():
        detector = EBGANDetector(max_epochs=5, random_state=0, callbacks=[Interrupt(epoch=3)])
        return {"epochs": detector.fit(np.eye(700, 4)).n_iter_}

    with pytest.warns(TrainingInterruptedWarning, match="after epoch 2 of 5"):
        assert measure() == {"epochs": 2}
    with pytest.raises(KeyboardInterrupt):
        run_once("b", {"x": 1}, measure, results=tmp_path)
    assert not list(tmp_path.rglob("*.json"))


# --- data ---------------------------------------------------------------------------------------


@pytest.fixture
def small_data(tmp_path, monkeypatch):
    """Files like those of the data folder, with a few random images."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "data" / "images"
    folder.mkdir(parents=True)

    def images(n, *shape):
        return rng.integers(0, 256, (n, *shape), np.uint8)

    def labels(n):
        return np.arange(n) % 10

    for name in ("mnist", "fashion_mnist"):
        np.savez(
            folder / name,
            x_train=images(60, 28, 28),
            y_train=labels(60),
            x_test=images(20, 28, 28),
            y_test=labels(20),
        )
    for name in ("cifar10_train_a", "cifar10_train_b", "cifar10_test"):
        np.savez(folder / name, x=images(20, 32, 32, 3), y=labels(20))
    np.savez(
        folder / "usps",
        x_train=rng.random((9, 16, 16), np.float32),
        y_train=labels(9),
        x_test=np.ones((4, 16, 16), np.float32),
        y_test=labels(4),
    )
    np.savez(
        folder / "omniglot_background_small",
        x=rng.integers(0, 2, (5, 105, 105), np.uint8),
        character=labels(5),
    )
    monkeypatch.setenv("EBGAN_DATA", str(tmp_path / "data"))
    return folder


def test_sets_come_from_the_data_folder(small_data):
    cifar = load("cifar-10")
    assert cifar.train.shape == (40, 3, 32, 32)
    assert "incomplete CIFAR-10" in cifar.used
    with np.load(small_data / "cifar10_train_b.npz") as file:
        np.testing.assert_array_equal(cifar.train[20, 2], file["x"][0, ..., 2])
    assert set(np.unique(load("omniglot").test)) == {0, 255}
    assert (load("usps").test == 255).all()
    assert load("mnist").used == "official training and test files"


def test_development_uses_rows_of_the_training_file_only(small_data):
    whole = load("mnist")
    part = development_part(whole)
    assert (len(part.train), len(part.test)) == (50, 10)
    np.testing.assert_array_equal(np.concatenate([part.train, part.test]), whole.train)
    assert "0…49 to train, 50…59 to score" in part.used


def test_real_sets_have_their_sizes(data_folder, monkeypatch):
    monkeypatch.setenv("EBGAN_DATA", str(data_folder))
    part = development_part(load("fashion-mnist"))
    assert (len(part.train), len(part.test)) == (50_000, 10_000)
    assert [len(load(name).test) for name in ("usps", "omniglot")] == [2007, 4840]


STAND_IN = """
import numpy as np
from PIL import Image

class MNIST:
    def __init__(self, root, *, train, download):
        self.data, self.targets = np.full((6 if train else 2, 28, 28), 7, np.uint8), [0] * 6

class CIFAR10:
    def __init__(self, root, *, train, download):
        self.data, self.targets = np.zeros((4, 32, 30, 3), np.uint8), [1, 2, 3, 4]
        self.data[..., 2] = 9

def Omniglot(root, *, background, download):
    return [(Image.new("L", (105, 105), 255), 3), (Image.new("L", (105, 105), 0), 4)]
"""


@pytest.fixture
def torchvision_of(tmp_path, monkeypatch):
    """Function that puts a package of that name in the way: the real one would download."""
    names = ("torchvision", "torchvision.datasets")
    before = {name: sys.modules.pop(name, None) for name in names}

    def make(code):
        package = tmp_path / "packages" / "torchvision"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "datasets.py").write_text(code)
        monkeypatch.syspath_prepend(package.parent)
        monkeypatch.setenv("EBGAN_DATA", "")

    yield make
    for name, module in before.items():
        sys.modules.pop(name, None)
        if module is not None:
            sys.modules[name] = module


def test_without_a_data_folder_sets_come_through_torchvision(torchvision_of):
    torchvision_of(STAND_IN)
    mnist, cifar, omniglot = map(load, ("mnist", "cifar-10", "omniglot"))
    assert (mnist.train.shape, mnist.test.shape) == ((6, 28, 28), (2, 28, 28))
    assert cifar.train.shape == (4, 3, 32, 30)
    assert (cifar.test[:, 2] == 9).all()
    assert cifar.train_labels.tolist() == [1, 2, 3, 4]
    assert omniglot.test[:, 0, 0].tolist() == [0, 255]


@pytest.mark.usefixtures("torchvision")
def test_the_real_torchvision_reads_the_official_files(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "DOWNLOADS", tmp_path)
    monkeypatch.setenv("EBGAN_DATA", "")
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)
    labels = np.arange(5, dtype=np.uint8)
    for part in ("train", "t10k"):
        head = struct.pack(">IIII", 2051, 5, 28, 28)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        head = struct.pack(">II", 2049, 5)
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(head + labels.tobytes())
    read = load("mnist")
    for part in (read.train, read.test):
        np.testing.assert_array_equal(part, images)
        assert part.dtype == np.uint8
    assert read.test_labels.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("error", ["RuntimeError('no operator nms')", "ImportError('none')"])
def test_without_any_source_of_images_the_remedy_is_named(error, torchvision_of):
    torchvision_of(f"raise {error}")
    with pytest.raises(SystemExit, match=r"EBGAN_DATA.*torchvision"):
        load("mnist")


# --- protocols ----------------------------------------------------------------------------------


def spy(seen):
    """A method that notes what trains it, and scores by the sum of pixels."""

    def fit(images, seed):
        seen.append(images)
        return Fitted(lambda x: x.reshape(len(x), -1).sum(axis=1).astype(float), {}, 0.0)

    return Method("spy", fit)


@pytest.mark.parametrize(
    ("protocol", "case", "is_normal"),
    [
        ("heldout-digit", {"digit": 4}, lambda y: y != 4),
        ("one-class", {"class": 4}, lambda y: y == 4),
    ],
)
def test_only_normal_training_rows_train(protocol, case, is_normal):
    images, seen = load("digits"), []
    result = PROTOCOLS[protocol](images, {"set": "digits", **case}, spy(seen), 0)
    (train,) = seen
    np.testing.assert_array_equal(train, images.train[is_normal(images.train_labels)])
    assert result["anomaly_share"] == np.mean(~is_normal(images.test_labels))
    assert result["n_test"] == len(images.test)
    assert result["false_alarm_rate"] == 0


def test_out_of_manifold_trains_once_and_scores_every_kind(small_data):
    images, seen = load("mnist"), []
    result = PROTOCOLS["out-of-manifold"](images, {"set": "mnist"}, spy(seen), 0)
    assert len(seen) == 1
    assert seen[0] is images.train
    found = result["outliers"]
    assert [*found][:4] == ["fashion-mnist", "cifar-10", "usps", "omniglot"]
    assert found["omniglot"]["n"] == 5
    assert "incomplete" in result["others_used"]["cifar-10"]
    assert found["black (level 0)"] == {"auroc": 1.0, "auprc": 1.0, "fpr95": 0.0, "n": 1}


def test_ebgan_and_its_controls_run_on_the_same_networks():
    images = load("digits")
    brief = {"max_epochs": 1, "margin": 0.05}
    kept = {}
    for name, parameters in {"EBGAN": {}, "control": {"adversarial": False}}.items():
        method = detector_method(name, {**brief, **parameters}, most_rows=256)
        kept[name] = PROTOCOLS["heldout-digit"](images, {"digit": 9}, method, 0)
        assert 0 <= kept[name]["auroc"] <= 1
        assert kept[name]["n_train"] == 256
        json.dumps(kept[name])
        assert kept[name]["fit_cpu_seconds"] >= 0
        assert kept[name]["plain_error"].keys() == {"auroc", "auprc", "fpr95"}
        assert kept[name]["plain_error"]["auprc"] != kept[name]["auprc"]
    settings = [kept[name]["settings"] for name in kept]
    assert settings[0] == settings[1]
    assert METHODS.keys() >= {"EBGAN", "control", "denoising", "untrained"}


VARIED = {"max_epochs": 1, "margin": 0.05, "noise": 0.0}


@pytest.fixture(scope="module")
def sixteen():
    """Digits twice as large, of which the defaults are those of pictures."""
    return load("digits").train[:80].repeat(2, axis=-1).repeat(2, axis=-2)


@pytest.fixture(scope="module")
def plain(sixteen):
    """The detector that variants are variants of."""
    return VARIANTS["noiseless"].detector()(**VARIED, random_state=0).fit(sixteen)


@pytest.mark.parametrize("protocol", ["heldout-digit", "one-class"])
def test_one_training_is_judged_in_every_space(protocol, monkeypatch):
    def brief(**parameters):
        return EBGANDetector(max_epochs=1, margin=0.05, **parameters)

    monkeypatch.setattr(energies, "EBGANDetector", brief)
    settings = {"protocol": protocol, "set": "digits", "case": 3, "game": "EBGAN", "seed": 1}
    part = development_part(load("digits"))
    detector = energies.trained(**settings)
    found = energies.energies(detector, part.test)
    np.testing.assert_allclose(found["input"], detector.energy(part.test), rtol=1e-5)
    measured = energies.measure(**settings)
    is_case = part.test_labels == 3
    is_anomaly = is_case if protocol == "heldout-digit" else ~is_case
    for space, values in found.items():
        expected = average_precision_score(is_anomaly, values)
        assert measured["spaces"][space]["auprc"] == pytest.approx(expected)
    assert "| digits 3 " in energies.table([{**settings, **measured}])
    (game,) = detector.model_.games()
    game.earlier = game.earlier[:0]
    alone = energies.energies(detector, part.test)
    np.testing.assert_allclose(alone["joint"], alone["input"] * alone["code"], rtol=1e-12)
    assert np.corrcoef(alone["input"], alone["code"])[0, 1] < 0.999


def test_plain_errors_are_those_of_the_same_networks():
    images = load("digits")
    brief = {"max_epochs": 1, "margin": 0.05}
    fitted = detector_method("EBGAN", brief).fit(images.train, 0)
    plain = EBGANDetector(**brief, complexity_exponent=0.0, random_state=0).fit(images.train)
    np.testing.assert_array_equal(fitted.plain(images.test), plain.score_samples(images.test))
    assert not np.allclose(fitted.score(images.test), fitted.plain(images.test))
    assert detector_method("EBGAN", {**brief, "preset": "paper"}).fit(images.train, 0).plain is None
    told = PROTOCOLS["out-of-manifold"](images, {"set": "digits"}, detector_method("", brief), 0)
    assert told["plain_error"]["outliers"].keys() == told["outliers"].keys()
    assert told["plain_error"]["outliers"] != told["outliers"]


def test_a_run_scored_in_two_ways_stands_in_two_rows(tmp_path):
    folder = tmp_path / "heldout_digit"
    folder.mkdir()
    run = {"set": "mnist", "digit": 4, "method": "EBGAN", "seed": 0, "auprc": 0.7}
    runs = {
        "a": {**run, "false_alarm_rate": 0.04, "plain_error": {"auprc": 0.5}},
        "A-plain": {**run, "method": "EBGAN-plain", "auprc": 0.4},
        "B-plain": {**run, "method": "EBGAN-plain", "seed": 1, "auprc": 0.3},
    }
    for name, record in runs.items():
        (folder / f"{name}.json").write_text(json.dumps(record))
    records = Records.read(tmp_path, "heldout_digit")
    assert records.by_seed("EBGAN", "auprc") == {0: 0.7}
    assert records.by_seed("EBGAN-plain", "auprc") == {0: 0.5, 1: 0.3}
    told = [records.mean(name, "false_alarm_rate", ".2f") for name in ("EBGAN", "EBGAN-plain")]
    assert told == ["0.04", "-"]  # the threshold is one on the present energy
    assert records.missing(["EBGAN"], "digit", [4], [0, 1]) == ["EBGAN: digit 4, seed 1"]


def test_readme_tables_hold_the_stored_runs(tmp_path):
    def store(protocol, method, seed=0, **told):
        folder = tmp_path / protocol
        folder.mkdir(exist_ok=True)
        record = {"method": method, "seed": seed, "device": "", "used": "", **told}
        (folder / f"{len(list(folder.iterdir()))}.json").write_text(json.dumps(record))

    digit = {"set": "mnist", "digit": 4, "anomaly_share": 0.1}
    for seed, (ebgan, control) in enumerate([(0.5, 0.3), (0.7, 0.4)]):
        store("heldout_digit", "EBGAN", seed, auprc=ebgan, auroc=0.9, **digit)
        store("heldout_digit", "control", seed, auprc=control, auroc=0.9, **digit)
    nine = digit | {"digit": 9}
    store("heldout_digit", "kNN", auprc=0.25, auroc=0.6, **nine)
    store("heldout_digit", "control", auprc=0.3, auroc=0.6, **nine)
    store("heldout_digit", "EBGAN", auprc=0.45, auroc=0.6, **nine)
    store("heldout_digit", "kNN", auprc=0.25, auroc=0.6, **digit | {"digit": 8})
    for label, ebgan in ((0, 0.9), (1, 0.8), (2, 0.1)):
        store("one_class", "EBGAN", auroc=ebgan, set="mnist", **{"class": label})
        if label < 2:
            store("one_class", "control", auroc=0.5, set="mnist", **{"class": label})
    for method, auroc in (("EBGAN", 0.9), ("untrained", 0.2)):
        found = {
            "omniglot": {"auroc": auroc, "fpr95": 1.0},
            "rotated": {"auroc": 0.5, "fpr95": 1.0},
        }
        store("out_of_manifold", method, set="mnist", outliers=found)
    readme = tmp_path / "README.md"
    readme.write_text("before <!-- made by the command above -->old<!-- end --> after")
    assert main(["report", "--results", str(tmp_path), "--summary", str(readme)]) == 0
    text = readme.read_text()
    assert text.startswith("before <!--")
    assert text.endswith("<!-- end --> after")
    assert summary(tmp_path) in text
    assert "old" not in text
    lines = {
        line.split("|")[1].strip(): line.split("|")[2:]
        for line in text.split("\n")[3:]
        if "|" in line
    }
    cells = {name: [cell.strip() for cell in cells] for name, cells in lines.items()}
    assert cells["4 (10.0%)"][:2] == ["0.600 (0.500…0.700)", "0.350 (0.300…0.400)"]
    assert cells["4 (10.0%)"][6:8] == ["+0.250 (+0.200…+0.300)", "0.949"]
    assert cells["9\\* (10.0%)"][:4] == ["0.450", "0.300", "-", "0.250"]
    assert cells["9\\* (10.0%)"][6:8] == ["+0.150", "0.935"]
    assert "8 (10.0%)" not in cells  # without EBGAN there is nothing to show
    assert cells["MNIST (0 1)"][:2] == ["0.850", "0.500"]  # of the classes that both have run
    assert cells["MNIST (0 1)"][7] == ""  # the figure to beat is a mean of ten
    assert cells["MNIST, omniglot"][:3] == ["0.900", "-", "0.200"]
    assert cells["MNIST, mean of 2 kinds"][:3] == ["0.700", "-", "0.350"]
    assert "\\* development case" in text
    assert "\\*" not in summary(tmp_path / "no results")  # a mark is explained where it stands
    assert "MNIST, rotated" not in cells  # nobody has published a figure for it


@pytest.mark.parametrize(
    ("seeds_of", "shown", "readme"),
    [
        ({0: [0, 1], 1: [0], 2: [0]}, "0.810 (3 of 10)", "MNIST (0 1 2)"),
        ({0: [0, 1], 1: [0, 1], 2: [1]}, "0.830 (3 of 10)", "MNIST (0 1 2)"),
        ({0: [0, 1], 1: [0, 1]}, "0.815 (0.805…0.825) (2 of 10)", "MNIST (0 1)"),
        ({0: [1], 1: [0]}, "0.810 (1 of 10)", "MNIST (1)"),
    ],
)
def test_a_mean_over_classes_is_of_as_many_as_one_seed_has_run(seeds_of, shown, readme, tmp_path):
    for label, seeds in seeds_of.items():
        for seed in seeds:
            for method, low in (("EBGAN", 0.0), ("control", 0.1)):
                auroc = 0.8 + 0.01 * label + 0.02 * seed - low
                told = {"set": "mnist", "class": label, "method": method, "seed": seed}
                write(tmp_path, "one_class", auroc=auroc, **told)
    assert table_row(report(tmp_path, [0]), "One class, mnist", "EBGAN |")[11] == shown
    (row,) = (line for line in summary(tmp_path).split("\n") if line.startswith("| MNIST ("))
    value = shown.rpartition(" (")[0]
    assert row.startswith(f"| {readme} | {value} |")
    assert row.split("|")[8].strip().startswith("+0.100")


def test_ways_to_divide_energies_are_compared_on_one_training(monkeypatch):
    monkeypatch.setattr(ways, "UPDATES", 20)
    case = ("held out", "digits", (1, 9))
    measured = ways.measure(exponents.by_way, case, "EBGAN", 0)
    images = development_part(load("digits"))
    normal = images.train[~np.isin(images.train_labels, (1, 9))]
    judged = images.test_labels != 1
    for way, exponent in (("0", 0.0), ("1, 5 %", 1.0)):
        detector = ways.HalfTheUpdates(complexity_exponent=exponent, noise=0.0, random_state=0)
        energies_ = detector.fit(normal).energy(images.test)[judged]
        expected = average_precision_score(images.test_labels[judged] == 9, energies_)
        found = measured["anomalies"]["9"][way]["auprc"]
        assert found == pytest.approx(expected, abs=0.01)  # calibration rows count here as usual
    noise, black = (measured["anomalies"][kind] for kind in ("uniform noise", "black"))
    assert noise["0.5, all"]["auroc"] < noise["1, 5 %"]["auroc"] <= noise["0"]["auroc"]
    assert black["1, 5 %"]["auroc"] == 1
    run = {"set": "digits", "protocol": "held out", "classes": "1 9", "game": "EBGAN", **measured}
    told = ways.table([run], [*exponents.WAYS])
    assert told.count("digits") == 9
    assert "digits 9 held out, AUPRC" in told


def test_scales_of_errors_are_compared_on_one_training(monkeypatch):
    monkeypatch.setattr(ways, "UPDATES", 20)
    measured = ways.measure(scales.by_way, ("one class", "digits", (3,)), "EBGAN", 0)
    images = development_part(load("digits"))
    normal = images.train[images.train_labels == 3]
    for way, weight in (("1", 0.0), ("1 2 4, squared", 1.0)):
        detector = ways.HalfTheUpdates(
            complexity_exponent=0.0, coarse_weight=weight, noise=0.0, random_state=0
        )
        energies_ = detector.fit(normal).energy(images.test)
        expected = metrics(images.test_labels != 3, -energies_)
        found = measured["anomalies"]["all others"][way]
        assert found == pytest.approx(expected, abs=1e-6)
    run = {"set": "digits", "protocol": "one class", "classes": "3", "game": "EBGAN", **measured}
    assert "digits 3 one class, black, AUROC" in ways.table([run], [*scales.WAYS])


def test_as_many_training_images_are_plain_as_a_way_says():
    images = development_part(load("digits")).train
    detector = ways.HalfTheUpdates(max_epochs=1, random_state=0).fit(images)
    every = exponents.factors(detector, images, images)
    for way, share in (("1, 1 %", 0.01), ("1, 5 %", 0.05), ("1, 25 %", 0.25), ("0.5, 95 %", 0.95)):
        assert (every[way] > 1).mean() == pytest.approx(share, abs=0.02)
    assert (every["0"] == 1).all()
    assert every["0.5, all"].min() < 1


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_changes_what_it_says(name, plain, sixteen):
    variant = VARIANTS[name]
    detector = variant.detector()(**VARIED | variant.parameters, random_state=0).fit(sixteen)
    assert variant.settings or variant.parameters or name == "noiseless"
    for key, value in variant.settings.items():
        assert detector.settings_[key] == value != plain.settings_[key]
    for key, value in variant.parameters.items():
        assert value != getattr(plain, key)
        if name != "hinge-1":  # it takes away the pilot's choice, which the given margin spares
            assert value != plain.settings_.get(key)


@pytest.mark.parametrize(
    ("name", "times"), [("narrow-generator", 1), ("noiseless", 2), ("wide-generator", 3)]
)
def test_a_generator_is_so_many_times_as_wide_as_the_decoder(name, times, sixteen):
    detector = VARIANTS[name].detector()(**VARIED, random_state=0)
    game = detector.fit(sixteen).model_.members[0]
    decoder, generator = (
        [layer.in_channels for layer in part.modules() if isinstance(layer, nn.ConvTranspose2d)]
        for part in (game.decoder, game.generator)
    )
    assert decoder == [64, 32]
    assert generator == [times * width for width in decoder]


def test_a_variant_of_an_unknown_setting_is_refused():
    with pytest.raises(KeyError, match="no_such"):
        Variant("none", settings={"no_such": 1}).detector()().fit(load("digits").train[:80])


# --- peers --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unchanged_global_random_state")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["kNN", "IForest", "DeepSVDD", "ALAD"])
def test_peers_score_pixels_reproducibly_and_leave_the_callers_randomness(name, monkeypatch):
    for settings in (methods.SVDD, methods.ALAD):
        monkeypatch.setitem(settings, "epochs", 2)
    images = load("digits")
    train = images.train[images.train_labels == 0]
    scores = [METHODS[name].fit(train, seed).score(images.test[:20]) for seed in (0, 0)]
    assert scores[0].shape == (20,)
    np.testing.assert_array_equal(scores[0], scores[1])


def test_nearest_neighbours_get_a_stated_number_of_rows_and_the_right_sign(monkeypatch):
    monkeypatch.setattr(methods, "PEER_ROWS", 300)
    images = load("digits")
    result = PROTOCOLS["one-class"](images, {"class": 0}, METHODS["kNN"], 0)
    assert result["n_train"] == np.sum(images.train_labels == 0) < 300
    assert result["auroc"] > 0.95
    result = PROTOCOLS["heldout-digit"](images, {"digit": 0}, METHODS["kNN"], 0)
    assert result["n_train"] == 300


def test_a_peer_that_fails_is_recorded_as_failed(small_data):
    with np.load(small_data / "mnist.npz") as file:
        few = dict(file)
    few["x_train"], few["y_train"] = few["x_train"][:20], few["y_train"][:20]
    np.savez(small_data / "mnist.npz", **few)
    result = Run("one-class", {"set": "mnist", "class": 3}, "kNN", 0).measure()
    assert result["failed"].startswith("ValueError: Expected n_neighbors")
    assert result["used"]


def test_damaged_data_of_ours_are_no_failure_of_a_peer(small_data):
    (small_data / "omniglot_background_small.npz").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="pickled"):
        Run("out-of-manifold", {"set": "mnist"}, "IForest", 0).measure()


# --- command line -------------------------------------------------------------------------------


def names_of(line):
    return [(r.benchmark, *r.settings.values()) for r in runs(parser().parse_args(line.split()))]


def test_runs_take_every_case_with_one_seed_first():
    assert names_of("heldout-digit --cases 4 5 --methods kNN ALAD --seeds 0 1")[:5] == [
        ("heldout_digit", "mnist", 4, "kNN", 0),
        ("heldout_digit", "mnist", 4, "ALAD", 0),
        ("heldout_digit", "mnist", 5, "kNN", 0),
        ("heldout_digit", "mnist", 5, "ALAD", 0),
        ("heldout_digit", "mnist", 4, "kNN", 1),
    ]
    assert len(names_of("one-class")) == 3 * 3 * 10 * len(METHODS)
    assert names_of("out-of-manifold --methods kNN --seeds 2")[2] == (
        "out_of_manifold",
        "cifar-10",
        "kNN",
        2,
    )


def test_development_is_for_development_cases_and_ablations_for_development():
    line = "heldout-digit --development --methods EBGAN no-replay --seeds 0"
    assert names_of(line) == [
        ("heldout_digit_development", "mnist", digit, method, 0)
        for digit in (1, 9)
        for method in ("EBGAN", "no-replay")
    ]
    assert {name[1:3] for name in names_of("one-class --development --methods EBGAN")} == {
        *(("fashion-mnist", label) for label in range(5)),
        ("mnist", 1),
        ("mnist", 9),
    }
    with pytest.raises(SystemExit, match="MNIST digits 1 and 9"):
        names_of("heldout-digit --development --cases 4")
    with pytest.raises(SystemExit, match="development"):
        names_of("heldout-digit --cases 9 --methods no-replay")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("heldout-digit --cases mnist", "like 4 or mnist:4"),
        ("heldout-digit --cases 12", "like 4 or mnist:4"),
        ("one-class --cases mnits:4", "cifar-10"),
        ("one-class --cases omniglot:4", "cifar-10"),
        ("out-of-manifold --cases mnist:4", "one of mnist"),
        ("heldout-digit --jobs 0", ">= 1"),
        ("heldout-digit --threads many", ">= 1"),
    ],
)
def test_a_mistaken_command_line_is_refused_at_once(line, told, capsys):
    with pytest.raises(SystemExit):
        main(line.split())
    printed = capsys.readouterr().err
    assert told in printed
    assert f"got {line.split()[-1]}" in printed


@pytest.mark.parametrize(
    "line",
    [
        "folder {0}/absent",
        "report --results {0}/absent",
        "report --results {0} --out {0}/all.md --summary {0}/absent",
    ],
)
def test_a_path_that_is_not_there_is_named(line, tmp_path):
    with pytest.raises(SystemExit, match="absent"):
        main(line.format(tmp_path).split())


def pictures(folder, kind, images):
    (folder / kind).mkdir(parents=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / kind / f"{i}.png")


def test_a_users_folder_from_pictures_to_table(tmp_path, capsys):
    images, labels = load_digits(return_X_y=True)
    images = (images.reshape(-1, 8, 8) * 15).astype(np.uint8)
    pictures(tmp_path / "my set", "normal", images[labels == 0][:60])
    pictures(tmp_path / "my set", "anomaly", images[labels == 1][:20])
    results = tmp_path / "results"
    line = ["folder", str(tmp_path / "my set"), "--size", "10", "10", "--methods", "IForest"]
    line += ["--seeds", "0", "--results", str(results)]
    assert main(line) == 0
    (file,) = (results / "folder").glob("*.json")
    record = json.loads(file.read_text())
    assert record["auroc"] > 0.9
    assert (record["n_normal"], record["n_test"]) == (48, 32)
    assert record["peak_rss_mib"] > 50
    assert str(tmp_path) not in file.read_text()
    assert main(line) == 0
    assert "1 of them done before" in capsys.readouterr().out
    assert main(["report", "--results", str(results)]) == 0
    assert f"| my set ({record['content']}) | IsolationForest" in capsys.readouterr().out


def test_a_run_that_breaks_off_is_named_and_leaves_the_others_alone(tmp_path, small_data):
    (small_data / "fashion_mnist.npz").write_bytes(b"damaged")
    asked = [
        Run("one-class", {"set": s, "class": 3}, "IForest", 0) for s in ("fashion-mnist", "mnist")
    ]
    (problem,) = run_all(asked, tmp_path / "results", jobs=2, threads=1)
    assert problem.startswith("one_class fashion-mnist 3 IForest 0: ")
    (file,) = (tmp_path / "results").rglob("*.json")
    assert file.name == "mnist_3_IForest_0.json"


ENDLESS = """
import multiprocessing, signal, time
from benchmarks.images.parallel import _work

class Endless:
    def once(self, results):
        print("begun", flush=True)
        try:
            time.sleep(900)
        except KeyboardInterrupt:
            print("what a training would keep", flush=True)

if __name__ == "__main__":
    # A shell may start its background processes with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    spawn = multiprocessing.get_context("spawn")
    run = spawn.Process(target=_work, args=(Endless(), None, 1, None))
    run.start()
    run.join()
"""


@pytest.mark.parametrize("end", [Popen.kill, lambda command: os.killpg(command.pid, SIGINT)])
def test_a_run_ends_with_a_command_that_is_killed_or_interrupted(tmp_path, end):
    (tmp_path / "endless.py").write_text(ENDLESS)
    root = str(Path(__file__).parents[1])
    command = Popen(
        [sys.executable, str(tmp_path / "endless.py")],
        env={**os.environ, "PYTHONPATH": root},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert command.stdout.readline() == "begun\n"
    end(command)
    stdout, _ = command.communicate(timeout=60)  # returns when nobody holds the pipe any more
    assert stdout == ""


def test_a_data_folder_that_is_not_there_is_named_by_every_run(tmp_path, monkeypatch):
    monkeypatch.setenv("EBGAN_DATA", str(tmp_path / "absent"))
    asked = [Run("one-class", {"set": "mnist", "class": 3}, "IForest", 0)]
    (problem,) = run_all(asked, tmp_path / "results", jobs=1, threads=1)
    assert problem.startswith("one_class mnist 3 IForest 0: ")
    assert f"EBGAN_DATA must name a folder, got {tmp_path / 'absent'}" in problem


@pytest.mark.filterwarnings("ignore::ebgan_detect.errors.CalibrationWarning")
def test_a_kept_detector_scores_as_its_run_did(tmp_path, small_data):
    case = {"set": "mnist", "class": 3}
    asked = [
        Run("one-class", case, name, 0, keep=tmp_path / "kept") for name in ("untrained", "IForest")
    ]
    record, _ = (run.once(tmp_path / "results") for run in asked)
    (file,) = (path for path in (tmp_path / "kept").rglob("*") if path.is_file())
    assert file.relative_to(tmp_path / "kept") == Path("one_class/mnist_3_untrained_0.ebgan")
    images = load("mnist")
    found = metrics(images.test_labels != 3, ebgan_detect.load(file).score_samples(images.test))
    assert found == {name: record[name] for name in found}


def test_a_variant_whose_class_no_file_holds_is_scored_all_the_same(sixteen):
    fitted = detector_method("", VARIED, make=VARIANTS["one-negative"].detector()).fit(sixteen, 0)
    assert fitted.save is None
    assert fitted.score(sixteen).shape == (80,)
    assert detector_method("", VARIED).fit(sixteen, 0).save is not None


# --- tables -------------------------------------------------------------------------------------


def test_settings_that_differ_between_runs_are_told():
    def run(seed, **settings):
        return {"set": "mnist", "method": "EBGAN", "seed": seed, "settings": settings}

    older, narrow, wide = run(0, noise=0.3), run(1, noise=0.3, width=2), run(2, noise=0.3, width=3)
    assert Records([older, narrow]).mixed() == []
    (line,) = Records([older, narrow, wide]).mixed()
    assert line == "EBGAN, width: 2 in mnist seed 1; 3 in mnist seed 2"


def write(results, benchmark, **record):
    folder = results / benchmark
    folder.mkdir(parents=True, exist_ok=True)
    common = {"used": "made up", "device": "abacus", "fit_seconds": 7.0, "peak_rss_mib": 90}
    name = "_".join(
        str(record[k]) for k in ("set", "digit", "class", "method", "seed") if k in record
    )
    (folder / f"{name}.json").write_text(json.dumps({**common, **record}))


@pytest.fixture
def made_up(tmp_path):
    """Results of two seeds, a failure, and runs on unlike networks."""
    heldout = {"set": "mnist", "digit": 4, "anomaly_share": 0.1, "auroc": 0.5}
    for seed, (ebgan, control) in enumerate([(0.6, 0.5), (0.8, 0.4)]):
        own = {"settings": {"architecture": "conv", "code_dim": 32}}
        other = {"settings": {"architecture": "conv", "code_dim": 16 + 16 * seed}}
        alarms = {"false_alarm_rate": 0.05 + 0.01 * seed}
        told = {"method": "EBGAN", "seed": seed, "auprc": ebgan, **own, **alarms}
        write(tmp_path, "heldout_digit", **heldout, **told)
        write(
            tmp_path,
            "heldout_digit",
            **heldout,
            method="control",
            seed=seed,
            auprc=control,
            **other,
        )
    failed = {"set": "mnist", "digit": 4, "method": "ALAD", "seed": 0, "failed": "ValueError: nan"}
    write(tmp_path, "heldout_digit", **failed)
    for label, auroc in ((0, 0.9), (1, 0.8)):
        write(
            tmp_path,
            "one_class",
            set="mnist",
            method="kNN",
            seed=0,
            auroc=auroc,
            **{"class": label},
        )
    outliers = {"omniglot": {"auroc": 0.99, "auprc": 0.9, "fpr95": 0.04, "n": 5}}
    write(
        tmp_path,
        "out_of_manifold",
        set="mnist",
        method="EBGAN",
        seed=0,
        outliers=outliers,
        others_used={"usps": "half of it"},
    )
    variants = {"noiseless": 0.5, "EBGAN": 0.75, "no-replay": 0.25}
    for method, auprc in variants.items():
        record = {"set": "mnist", "digit": 9, "method": method, "seed": 0, "auroc": 0.75}
        plain = {"plain_error": {"auprc": auprc}}
        write(tmp_path, "heldout_digit_development", **record, auprc=0.9, **plain)
    always_plain = {"auprc": 0.125, "settings": {"complexity_exponent": 0.0}}
    record["method"] = "paper"
    write(tmp_path, "heldout_digit_development", **record, **always_plain)
    return tmp_path


def table_row(text, section, start):
    """Cells of the first row of a section that starts so."""
    part = text[text.index(f"## {section}") :]
    line = next(row for row in part.splitlines() if row.startswith(f"| {start}"))
    return [value.strip() for value in line.strip("|").split("|")]


def test_the_table_shows_means_ranges_and_the_difference(made_up):
    text = report(made_up, [0, 1, 2])
    section = "MNIST, a digit held out"
    assert table_row(text, section, "AUPRC")[5] == "4 (10.0%)"
    assert table_row(text, section, "AUPRC")[10] == "9 \\*"
    assert table_row(text, section, "EBGAN")[5] == "0.700 (0.600…0.800)"
    assert table_row(text, section, "EBGAN")[-4:] == ["0.055", "7", "-", "90"]
    assert table_row(text, section, "**EBGAN minus")[5] == "+0.250 (+0.100…+0.400)"
    assert table_row(text, section, "*VAE* (read)")[5] == "0.337"
    assert table_row(text, section, "*NAE* (memory)")[2] == "0.802"
    assert table_row(text, "One class, mnist", "kNN")[11] == "0.850 (2 of 10)"
    against = table_row(text, "Trained on mnist", "omniglot")
    assert against[1] == "0.990 / 0.04"
    assert against[-2:] == ["0.995", "AUPR of MPDR-S 0.994 (memory); AUPR of NAE 0.997 (memory); "
                            "AUPR of a plain autoencoder 0.947 (memory)"]  # fmt: skip


def test_the_ablation_table_is_renewed_in_its_place(made_up, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "## Ablation\n\n<!-- made by the command above -->\n\nold\n\n<!-- end -->\n\nTail.\n"
    )
    line = ["report", "--results", str(made_up), "--out", str(tmp_path / "all.md")]
    for _ in range(2):
        assert main([*line, "--ablation", str(page)]) == 0
        text = page.read_text()
        assert table_row(text, "Ablation", "no replay")[1] == "0.250 [-0.250]"
        assert table_row(text, "Ablation", "EBGAN |")[1] == "0.750 [+0.250]"
        assert table_row(text, "Ablation", "EBGAN, no noise |")[1] == "0.500"
        assert table_row(text, "Ablation", "the paper's")[1] == "0.125 [-0.375]"
        assert text.endswith("<!-- end -->\n\nTail.\n")
        assert "old" not in text
        assert text.count("| no replay") == 1
    (tmp_path / "none").mkdir()
    none = ["report", "--results", str(tmp_path / "none"), *line[3:], "--ablation", str(page)]
    assert main(none) == 0
    assert "No development case has been run" in page.read_text()
    page.write_text("No place for a table.\n")
    with pytest.raises(SystemExit, match="must hold <!-- made by the command above -->"):
        main([*line, "--ablation", str(page)])
    assert page.read_text() == "No place for a table.\n"


def test_the_table_names_what_is_missing_what_failed_and_what_does_not_match(made_up):
    text = report(made_up, [0, 1, 2])
    section = text[text.index("## MNIST, a digit held out") : text.index("## One class, mnist")]
    assert "- EBGAN: digit 0 1 2 3 5 6 7 8 9, seeds 0 1 2; digit 4, seed 2" in section
    assert "- ALAD: digit 0 1 2 3 5 6 7 8 9, seeds 0 1 2; digit 4, seeds 1 2" in section
    assert "- ALAD, mnist 4, seed 0: ValueError: nan" in section
    assert table_row(text, "MNIST, a digit held out", "ALAD")[5] == "failed"
    assert "- control, mnist 4, seed 0: architecture conv, code_dim 16, EBGAN" in section
    assert "control, mnist 4, seed 1" not in section
    assert "- control, code_dim: 16 in mnist 4 seed 0; 32 in mnist 4 seed 1" in section
    assert "Data: made up. Devices: abacus." in section
    assert "Data: mnist: made up; usps: half of it. Devices: abacus." in text


def test_the_figure_is_drawn_and_small(made_up, tmp_path):
    draw(made_up, tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as picture:
        assert picture.width > 800
    assert (tmp_path / "figure.png").stat().st_size < 200_000


def test_the_stored_results_make_a_report():
    text = report(RESULTS, [0, 1, 2])
    stored = Records.read(RESULTS, "heldout_digit").only(set="mnist").done
    assert stored
    for record in stored:
        title = TITLES[record["method"]]
        assert table_row(text, "MNIST, a digit held out", title)[1 + record["digit"]] != "-"
