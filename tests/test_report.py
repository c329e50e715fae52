"""The page about a detector: what it says is so, and it needs nothing beside itself."""

from __future__ import annotations

import builtins
import re
import shutil
import subprocess
from base64 import b64decode
from html.parser import HTMLParser

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from torch.utils.data import TensorDataset

from ebgan_detect import (
    CalibrationWarning,
    EBGANDetector,
    InvalidInputError,
    InvalidParameterError,
    MissingDependencyError,
    load,
    save,
)
from ebgan_detect.baselines import AutoEncoderDetector, GANDetector, VAEDetector
from ebgan_detect.data import to_tensor
from ebgan_detect.report import write_report

pytestmark = pytest.mark.usefixtures("figures_closed")
DIGITS = load_digits().images[:200]
SMALL = {"hidden_sizes": (16,), "margin": 0.3, "max_epochs": 2, "random_state": 0}
VOID = {"meta", "img"}


class Page(HTMLParser):
    """A parsed page; every tag must be closed, and nothing may lie outside it."""

    def __init__(self, path):
        super().__init__()
        self.open, self.headings, self.pictures, self.cells = [], [], [], []
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        assert tag not in {"script", "link", "iframe", "object", "base"}
        assert not any(name.startswith("on") or name == "href" for name in attributes)
        if tag == "img":
            assert attributes["alt"]
            kind, content = attributes["src"].split(";base64,")
            self.pictures.append((attributes["alt"], kind, b64decode(content)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.cells.append([])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        words = " ".join(data.split())
        if not words or not self.open:
            return
        if self.open[-1] in {"h1", "h2"}:
            self.headings.append(words)
        if self.open[-1] in {"td", "th"}:
            self.cells[-1].append(words)

    @property
    def words(self):
        """What a reader sees, without tags."""
        return " ".join(re.sub("<[^>]*>", " ", self.text.split("</style>")[1]).split())


def page_of(tmp_path, detector, *arguments, **options):
    """The page of a detector, written and parsed."""
    return Page(write_report(detector, tmp_path / "page.html", *arguments, **options))


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 1)) @ [[1.0, 2.0, -1.0]] + rng.normal(0, 0.1, (300, 3))
    return pd.DataFrame(x, columns=["speed", "load", "<i>heat</i>"])


@pytest.fixture(scope="module")
def fitted(table):
    return EBGANDetector(**SMALL).fit(table)


@pytest.fixture(scope="module")
def digits_detector():
    return EBGANDetector(**SMALL, n_estimators=2).fit(DIGITS)


@pytest.fixture(scope="module")
def labelled(table):
    """Rows of which the last ten are anomalies."""
    rows = table[:100].copy()
    rows.iloc[90:] += np.random.default_rng(1).normal(0, 1, (10, 3))
    return rows, np.repeat([0, 1], [90, 10])


def test_page_tells_what_the_detector_answers(tmp_path, fitted, labelled):
    rows, y = labelled
    names = pd.Series([f"pump {k}" for k in range(100)], index=range(99, -1, -1))
    page = page_of(tmp_path, fitted, rows, y, names=names, top=5, title="Pumps & co")
    energies, labels = fitted.energy(rows), fitted.predict(rows)
    order = np.argsort(-energies)[:5]
    expected = [
        [
            names.iloc[k],
            f"{energies[k]:.4g}",
            f"{fitted.p_values(rows)[k]:.3g}",
            "outlier" if labels[k] < 0 else "inlier",
            "anomaly" if y[k] else "normal",
        ]
        for k in order
    ]
    assert page.cells[0] == ["row", "energy", "p-value", "verdict", "label"]
    assert page.cells[1:6] == expected
    assert f"{(labels < 0).sum()} of 100 rows ({(labels < 0).sum()} %) are outliers" in page.words
    assert "10 are labelled anomalies" in page.words
    assert f"AUROC {roc_auc_score(y, energies):.4f}" in page.words
    assert f"AUPRC {average_precision_score(y, energies):.4f}" in page.words
    assert page.headings == [
        "Pumps & co",
        "Rows scored",
        "Most abnormal rows",
        "Calibration",
        "Training",
        "Detector",
    ]
    assert [(alt.split()[0], kind) for alt, kind, _ in page.pictures] == [
        ("Histogram", "data:image/svg+xml"),
        ("Where", "data:image/svg+xml"),
        ("Histogram", "data:image/svg+xml"),
        ("Energies", "data:image/svg+xml"),
    ]


def test_labels_of_either_kind_say_the_same(tmp_path, fitted, labelled):
    rows, y = labelled
    assert (
        page_of(tmp_path, fitted, rows, y).text == page_of(tmp_path, fitted, rows, 1 - 2 * y).text
    )


def test_without_rows_the_page_tells_of_the_detector_alone(tmp_path, fitted):
    page = page_of(tmp_path, fitted)
    assert page.headings == ["EBGANDetector", "Calibration", "Training", "Detector"]
    facts = dict(cells for cells in page.cells if len(cells) == 2)
    assert facts["epochs"] == "2"
    assert facts["parameters"] == "hidden_sizes=(16,), margin=0.3, max_epochs=2, random_state=0"
    assert facts["weights"] == str(sum(p.numel() for p in fitted.model_.parameters()))


def test_names_are_text_and_never_markup(tmp_path, fitted, table):
    page = page_of(
        tmp_path, fitted, table, names=["<script>alert(1)</script>"] * 300, title="<b>T</b>"
    )
    assert "<script" not in page.text
    assert page.headings[0] == "<b>T</b>"
    assert page.cells[1][0] == "<script>alert(1)</script>"
    facts = dict(cells for cells in page.cells if len(cells) == 2)
    assert facts["feature names"] == "speed, load, <i>heat</i>"


def test_page_is_shut_against_the_net(tmp_path, fitted):
    text = page_of(tmp_path, fitted).text
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in text
    assert not re.search(r"https?://", re.sub('base64,[^"]*', "", text))


def test_same_detector_gives_the_same_page(tmp_path, fitted, labelled):
    first = page_of(tmp_path, fitted, *labelled).text
    save(fitted, tmp_path / "m.ebgan")
    assert page_of(tmp_path, load(tmp_path / "m.ebgan"), *labelled).text == first


def test_images_show_maps_and_samples(tmp_path, digits_detector):
    page = page_of(tmp_path, digits_detector, DIGITS, top=3)
    kinds = {alt.split()[0]: kind for alt, kind, _ in page.pictures}
    assert kinds["Where"] == kinds["Images"] == "data:image/png"
    assert page.cells[0] == ["row", "energy", "p-value", "verdict"]
    assert [cells[0] for cells in page.cells[1:4]] == [
        str(k) for k in np.argsort(-digits_detector.energy(DIGITS))[:3]
    ]


def test_rows_come_in_any_form(tmp_path, digits_detector):
    tensor = to_tensor(DIGITS[:20], "cpu")
    pages = {
        page_of(tmp_path, digits_detector, rows).text
        for rows in (DIGITS[:20], tensor, TensorDataset(tensor))
    }
    assert len(pages) == 1


@pytest.mark.parametrize(
    ("detector", "has_maps"),
    [
        (EBGANDetector(**SMALL, adversarial=False), True),
        (AutoEncoderDetector(max_epochs=1, random_state=0), True),
        (VAEDetector(max_epochs=1, random_state=0), True),
        (GANDetector(max_epochs=1, random_state=0), False),
    ],
    ids=["control", "autoencoder", "VAE", "GAN"],
)
def test_every_detector_has_a_page(tmp_path, detector, has_maps):
    page = page_of(tmp_path, detector.fit(DIGITS), DIGITS)
    shown = {alt.split()[0] for alt, _, _ in page.pictures}
    assert ("Where" in shown) == has_maps
    assert ("Images" in shown) == isinstance(detector, VAEDetector | GANDetector)


def test_images_of_two_channels_go_without_pictures(tmp_path):
    images = np.random.default_rng(0).uniform(size=(60, 2, 8, 8))
    page = page_of(tmp_path, EBGANDetector(**SMALL).fit(images), images)
    assert {alt.split()[0] for alt, _, _ in page.pictures} == {"Histogram", "Energies"}


def test_fewer_rows_than_wanted_are_all_shown(tmp_path, fitted, table):
    page = page_of(tmp_path, fitted, table[:3], top=16)
    assert [len(cells) for cells in page.cells[:5]] == [4, 4, 4, 4, 2]


@pytest.mark.parametrize("before", [(), (StandardScaler(),), (StandardScaler(), MinMaxScaler())])
def test_pipelines_are_reported_with_the_rows_that_they_take(tmp_path, labelled, before):
    rows, y = labelled
    pipeline = make_pipeline(*before, EBGANDetector(**SMALL)).fit(rows[:90])
    page = page_of(tmp_path, pipeline, rows[50:], y[50:], top=3)
    order = np.argsort(pipeline.score_samples(rows[50:]))[:3]
    assert [cells[0] for cells in page.cells[1:4]] == [str(50 + k) for k in order]
    assert page_of(tmp_path, pipeline).cells


def test_infinite_energies_are_told(tmp_path, fitted, labelled):
    rows, y = labelled
    far = rows.copy()
    far.iloc[99] = 1e30
    page = page_of(tmp_path, fitted, far, y)
    assert page.cells[1][:2] == ["99", "inf"]
    assert "AUROC" in page.words
    page = page_of(tmp_path, fitted, far[99:])
    assert page.cells[1][:2] == ["99", "inf"]  # its name in the index
    assert "1 of 1 rows (100 %) are outliers" in page.words


def test_labels_of_one_kind_tell_no_quality(tmp_path, fitted, table):
    page = page_of(tmp_path, fitted, table, np.zeros(300, dtype=bool))
    assert "AUROC" not in page.words
    assert page.cells[1][4] == "normal"


# --- what the threshold promises ------------------------------------------------------------


def test_threshold_is_told_with_its_promise(tmp_path, fitted):
    words = page_of(tmp_path, fitted).words
    assert f"above {-fitted.offset_:.4g} is called an outlier" in words
    assert "at most 5 % of new rows drawn like the 30 calibration rows, in expectation" in words


def test_contamination_promises_a_share_of_the_rows_that_set_the_threshold(tmp_path, table):
    detector = EBGANDetector(**SMALL, contamination=0.1).fit(table)
    promise = "as 10 % of the rows are that the threshold was taken from"
    assert promise in page_of(tmp_path, detector).words
    assert promise in page_of(tmp_path, detector.calibrate(3 * table)).words


def test_threshold_without_enough_rows_promises_nothing(tmp_path, table):
    with pytest.warns(CalibrationWarning, match="needs 999 calibration rows"):
        few = EBGANDetector(**SMALL, false_alarm_rate=0.001).fit(table)
    assert "are too few for false alarms of 0.1 %" in page_of(tmp_path, few).words
    with pytest.warns(CalibrationWarning, match="trained on"):
        none = EBGANDetector(**SMALL, calibration_fraction=0).fit(table)
    words = page_of(tmp_path, none).words
    assert "come from rows that were trained on" in words
    assert "in expectation" not in words


def test_ill_training_is_marked(tmp_path, fitted):
    save(fitted, tmp_path / "m.ebgan")
    ill = load(tmp_path / "m.ebgan")
    ill.health_ = "the generator collapsed"
    assert 'class="verdict ill"' in page_of(tmp_path, ill).text
    assert 'class="verdict"' in page_of(tmp_path, fitted).text


# --- what is refused, and what is left as it was -------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"top": 0}, InvalidParameterError, r"top must be an int from 1 to 16, got 0"),
        ({"y": [0, 1]}, InvalidParameterError, "X must be given with y or names"),
        ({"X": np.ones((3, 2))}, InvalidInputError, "2 features"),
        ({"X": np.ones((3, 3)), "names": ["a"]}, InvalidInputError, "each of the 3 rows"),
        ({"X": np.ones((3, 3)), "y": [0, 1]}, InvalidInputError, r"y must have shape \(3,\)"),
        ({"X": np.full((3, 3), np.nan)}, InvalidInputError, "NaN"),
    ],
)
def test_what_does_not_fit_is_refused_and_the_old_page_kept(
    tmp_path, table, arguments, error, message
):
    detector = EBGANDetector(**SMALL).fit(table.to_numpy())
    (tmp_path / "page.html").write_text("old")
    with pytest.raises(error, match=message):
        write_report(detector, tmp_path / "page.html", **arguments)
    assert (tmp_path / "page.html").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_what_is_no_fitted_detector_is_refused(tmp_path, table):
    pipeline = make_pipeline(StandardScaler(), IsolationForest()).fit(table)
    with pytest.raises(InvalidParameterError, match="pipeline that ends in one, got IsolationFor"):
        write_report(pipeline, tmp_path / "page.html")
    with pytest.raises(NotFittedError):
        write_report(EBGANDetector(), tmp_path / "page.html")


@pytest.mark.parametrize("package", ["matplotlib", "jinja2"])
def test_missing_package_is_named(tmp_path, monkeypatch, fitted, package):
    real_import = builtins.__import__

    def without(name, *args, **kwargs):
        if name.partition(".")[0] == package:
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependencyError, match=rf"needs {package}: .*\[plot\]"):
        write_report(fitted, tmp_path / "page.html")


def test_style_and_figures_of_the_caller_stay(tmp_path, fitted, labelled):
    figure = plt.figure()
    with mpl.rc_context({"figure.facecolor": "red", "svg.hashsalt": "mine"}):
        before = dict(mpl.rcParams)
        plain = page_of(tmp_path, fitted, *labelled).text
        assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == [figure.number]
    plt.close(figure)
    assert page_of(tmp_path, fitted, *labelled).text == plain


# --- a browser ------------------------------------------------------------------------------------


def test_a_browser_shows_the_page(tmp_path, digits_detector):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here: install one to see the page in a real browser")
    write_report(digits_detector, tmp_path / "page.html", DIGITS)
    shot = tmp_path / "page.png"
    shown = subprocess.run(
        [
            browser,
            *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *("--window-size=900,3000", "--enable-logging=stderr"),
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--screenshot={shot}",
            (tmp_path / "page.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "Content Security Policy" not in shown.stderr
    with Image.open(shot) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    # Orange of the generated energies' line, and dark digits: pictures are there.
    orange = np.abs(pixels - [0xD5, 0x5E, 0x00]).max(axis=2) < 30
    assert orange.sum() > 200
    assert (pixels.max(axis=2) < 20).mean() > 0.005
