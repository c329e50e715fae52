"""Every example runs, at a reduced budget, and shows and writes what it promises."""

from __future__ import annotations

import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ebgan_detect import load
from examples import compare, digits, image_folder, latents, resume, stream, tables

ROOT = Path(__file__).parents[1]


@pytest.fixture
def run(monkeypatch, capsys, tmp_path, figures_closed):
    """Run an example's main with options, its output below `tmp_path`; return what it prints."""

    def run_main(example, *options, output="--output"):
        arguments = [example.__name__, *map(str, options), output, str(tmp_path / "out")]
        monkeypatch.setattr(sys, "argv", arguments)
        with warnings.catch_warnings():
            # Examples silence what a brief training would say about its health.
            warnings.simplefilter("error")
            example.main()
        return capsys.readouterr().out

    return run_main


def is_picture(path):
    """Whether a file is a picture that shows something, small enough for the README."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("L"))
    return pixels.std() > 5 and path.stat().st_size < 200_000


def table_of(printed):
    """Rows of the Markdown tables in a text, without headers."""
    rows = [line.strip("| ").split(" | ") for line in printed.splitlines() if line[:1] == "|"]
    return [row for number, row in enumerate(rows) if "---" not in row and number > 0]


def test_every_example_is_run_by_a_test():
    tests = "".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    imported = " ".join(re.findall(r"from examples import ([\w, ]+)", tests))
    run_as_module = " ".join(re.findall(r"examples\.(\w+)", tests))
    for example in (ROOT / "examples").glob("[a-z]*.py"):
        assert example.stem in f"{imported} {run_as_module}".replace(",", " ").split(), example


def test_examples_use_public_names_only():
    for example in (ROOT / "examples").glob("*.py"):
        code = example.read_text()
        private = re.findall(r"(?:from|import) ebgan_detect[\w.]*\._|detector\._|\.model_\b", code)
        assert not private, (example, private)
        public = (
            r"ebgan_detect(?:\.(?:plotting|datafiles|diagnostics|distributed|baselines|networks))?"
        )
        for module in re.findall(r"(?:from|import) (ebgan_detect[\w.]*)", code):
            assert re.fullmatch(public, module), (example, module)


def test_digits(run, monkeypatch, tmp_path):
    monkeypatch.setattr(digits, "EPOCHS", 1)
    printed = run(digits, "--digits", 9, "--seeds", 0, output="--out")
    assert {row[0] for row in table_of(printed)} == set(digits.methods(0))
    for name in ("history", "histogram", "maps", "samples"):
        assert is_picture(tmp_path / "out" / f"{name}.png")


def test_tables(run, tmp_path):
    printed = run(tables, "--epochs", 10)
    shares = {row[0]: float(row[2].rstrip("%")) for row in table_of(printed)}
    assert shares["malignant"] > shares["benign"] + 20
    assert float(re.search(r"AUROC (\S+)", printed)[1]) > 0.9
    scores = pd.read_csv(tmp_path / "out" / "scores.csv", index_col="row")
    assert len(scores) == 569
    assert scores["score"].is_monotonic_increasing
    assert scores["p_value"].between(0, 1).all()
    worst = re.search(r"most abnormal row \((\d+)\)", printed)[1]
    assert scores.index[0] == int(worst)


def test_compare_takes_files_of_your_own(run, tmp_path):
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 150)
    ring = pd.DataFrame({"x": np.cos(angle), "y": np.sin(angle)}) + rng.normal(0, 0.02, (150, 2))
    ring[:100].to_csv(tmp_path / "normal.csv", index=False)
    test = pd.concat([ring[100:].assign(bad=0), pd.DataFrame({"x": [9], "y": [9], "bad": [1]})])
    test.to_csv(tmp_path / "test.csv", index=False)
    files = [tmp_path / "normal.csv", tmp_path / "test.csv"]
    printed = run(compare, *files, "--label", "bad", "--epochs", 2)
    assert "100 normal rows; 1 anomalies among 51 scored rows" in printed
    figures = {row[0]: float(row[1]) for row in table_of(printed)}
    assert set(figures) == set(compare.methods(1, 0))
    assert figures["EBGAN"] == figures["autoencoder"] == figures["IsolationForest"] == 1
    assert "| VAE |" in (tmp_path / "out" / "table.md").read_text()
    for wrong in (files[:1], files, [*files, "--label", "x"]):
        with pytest.raises(SystemExit):
            run(compare, *wrong)


def test_image_folder(run, tmp_path):
    printed = run(image_folder, "--pictures", 60, "--epochs", 1, "--side", 16)
    scores = pd.read_csv(tmp_path / "out" / "scores.csv")
    assert len(scores) == 40
    assert scores["energy"].is_monotonic_decreasing
    assert scores["picture"].str.startswith("broken").any()
    shown = [row[0] for row in table_of(printed)]
    assert shown == scores["picture"].head(12).tolist()
    assert load(tmp_path / "out" / "model.ebgan").input_shape_ == (3, 16, 16)
    assert is_picture(tmp_path / "out" / "maps.png")


def test_image_folder_takes_a_handful_of_pictures(run, tmp_path):
    image_folder.draw_cloth(tmp_path / "good", 60, 0, share_broken=0)
    image_folder.draw_cloth(tmp_path / "new", 2, 1, share_broken=0)
    (tmp_path / "new" / "good_000.png").rename(tmp_path / "new" / "a,b.png")
    folders = ["--normal", tmp_path / "good", "--test", tmp_path / "new"]
    run(image_folder, *folders, "--epochs", 1, "--side", 8)
    scores = pd.read_csv(tmp_path / "out" / "scores.csv")
    assert sorted(scores["picture"]) == ["a,b.png", "good_001.png"]
    assert is_picture(tmp_path / "out" / "maps.png")


def test_image_folder_takes_folders_of_mixed_sizes(run, tmp_path):
    for side in (64, 80):
        image_folder.draw_cloth(tmp_path / "new", 4, side, share_broken=0.5)
        path = tmp_path / "new" / "good_000.png"
        if path.exists():
            path.rename(tmp_path / "new" / f"other_{side}.png")
    image_folder.draw_cloth(tmp_path / "good", 60, 0, share_broken=0)
    for path in (tmp_path / "new").glob("other*"):
        with Image.open(path) as picture:
            picture.resize((80, 100)).save(path)
    folders = ["--normal", tmp_path / "good", "--test", tmp_path / "new"]
    printed = run(image_folder, *folders, "--epochs", 1, "--side", 8)
    assert len(table_of(printed)) == len(list((tmp_path / "new").iterdir()))
    assert load(tmp_path / "out" / "model.ebgan").input_shape_ == (3, 8, 8)
    with pytest.raises(SystemExit):
        run(image_folder, *folders[:2])


@pytest.mark.parametrize("own", [False, True])
def test_latents(own, run, tmp_path):
    options = []
    if own:
        np.save(tmp_path / "images.npy", np.random.default_rng(0).uniform(size=(80, 3, 8, 8)))
        options = ["--images", tmp_path / "images.npy"]
    printed = run(latents, "--epochs", 2, *options)
    assert [row[0] for row in table_of(printed)] == ["data", "generated"]
    for name in ("samples", "latent_walks", "latent_arithmetic"):
        assert is_picture(tmp_path / "out" / f"{name}.png")


def test_resume(run):
    printed = run(resume, "--epochs", 2)
    assert "power cut after epoch 1 of 2" in printed
    assert "are equal bit for bit" in printed
    first, second = table_of(printed)
    assert first[1:] == second[1:]


def test_stream(run, tmp_path):
    printed = run(stream, "--rows", 60_000, "--batches", 2)
    assert np.load(tmp_path / "out" / "sensors.npy", mmap_mode="r").shape == (60_000, 16)
    assert abs(float(re.search(r"called outliers: (\S+)%", printed)[1]) - 5) < 2
    assert [row[0] for row in table_of(printed)[-2:]] == ["0", "1"]
