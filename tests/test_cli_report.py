"""``ebgan-detect report``: the page of a model file, from a command."""

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from ebgan_detect import EBGANDetector, load, save
from ebgan_detect.cli._program import app
from ebgan_detect.report import write_report

pytestmark = pytest.mark.usefixtures("figures_closed")


def run(*arguments):
    """Run the command line in this process."""
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a model, and labelled rows as a table with names and without."""
    folder = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(200, 3)), columns=["a", "b", "c"])
    detector = EBGANDetector(max_epochs=2, margin=0.1, random_state=0)
    save(detector.fit(table), folder / "model.ebgan")
    table["failed"] = np.repeat([0, 1], [190, 10])
    table.to_csv(folder / "new.csv", index=False)
    save(detector.fit(table[["a", "b", "c"]].to_numpy()), folder / "nameless.ebgan")
    table.to_csv(folder / "nameless.csv", index=False, header=False)
    return folder


def test_report_writes_the_page_that_the_function_writes(folder, tmp_path):
    page = tmp_path / "page.html"
    options = ["--label", "failed", "--top", 3, "-o", page]
    result = run("report", folder / "new.csv", "-m", folder / "model.ebgan", *options)
    assert (result.exit_code, result.stdout) == (0, f"{page}\n")
    table = pd.read_csv(folder / "new.csv")
    write_report(
        load(folder / "model.ebgan"),
        tmp_path / "expected.html",
        table[["a", "b", "c"]],
        table["failed"],
        names=range(2, 202),  # lines of the file; the first holds names
        top=3,
        title="model.ebgan",
    )
    assert page.read_text() == (tmp_path / "expected.html").read_text()


@pytest.mark.parametrize(
    ("data", "model", "options"),
    [
        ("new.csv", "model.ebgan", ["--columns", "a,b,c", "--label", "failed"]),
        ("new.csv", "model.ebgan", ["--drop", "failed"]),
        ("nameless.csv", "nameless.ebgan", ["--label", "3"]),
    ],
)
def test_report_reads_as_score_does(folder, tmp_path, data, model, options):
    page = tmp_path / "page.html"
    result = run("report", folder / data, "-m", folder / model, *options, "-o", page)
    assert result.exit_code == 0, result.stderr
    assert "of 200 rows" in page.read_text()
    assert ("AUROC" in page.read_text()) == ("--label" in options)


def test_report_of_a_model_alone(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("report", "-m", folder / "model.ebgan").stdout == "report.html\n"
    assert "Rows scored" not in (tmp_path / "report.html").read_text()


def test_report_of_anomalies_alone(folder, tmp_path):
    table = pd.read_csv(folder / "new.csv").query("failed == 1").astype({"failed": bool})
    table.to_parquet(tmp_path / "new.parquet")
    page = tmp_path / "page.html"
    options = ["-m", folder / "model.ebgan", "--label", "failed", "-o", page]
    result = run("report", tmp_path / "new.parquet", *options)
    assert result.exit_code == 0, result.stderr
    assert page.read_text().count("<td>anomaly</td>") == 8


def test_report_refuses_what_it_cannot_use(folder, tmp_path):
    model, page = folder / "model.ebgan", tmp_path / "page.html"
    assert run("report", "-o", page).exit_code == 2
    assert run("report", "-m", model, "--label", "failed", "-o", page).exit_code == 2
    assert run("report", "-m", model, "-o", model).exit_code == 2
    for options, words in [
        ([], "leave it out with --drop failed"),
        (["--label", "unknown"], "unknown"),
        (["--drop", "failed", "--top", 17], "top must be an int from 1 to 16, got 17"),
    ]:
        result = run("report", folder / "new.csv", "-m", model, "-o", page, *options)
        assert result.exit_code == 1
        assert words in result.stderr
    assert not page.exists()
