import inspect
import json
import re
import signal
import subprocess
import sys
import time
from typing import get_args, get_type_hints

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from ebgan_detect import EBGANDetector, __version__
from ebgan_detect.cli import _score, main
from ebgan_detect.cli._fit import Interruption, fit
from ebgan_detect.cli._program import app
from ebgan_detect.persistence import load, save
from ebgan_detect.scaling import SCALINGS
from ebgan_detect.training import PRECISIONS

FAST = ["--max-epochs", "2", "--margin", "0.1", "--seed", "0"]
"""A margin of its own saves the pilot."""


def program(*arguments, cwd=None):
    """Run the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "ebgan_detect.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
    )


def run(*arguments):
    """Run the command line in this process."""
    return CliRunner().invoke(app, list(map(str, arguments)))


def failure(result):
    """The one line of a failed run."""
    status = getattr(result, "returncode", None)
    status = result.exit_code if status is None else status
    assert status == 1, result
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 1)) @ [[1.0, 2.0, -1.0]] + rng.normal(0, 0.1, (200, 3))
    return pd.DataFrame(x, columns=["a", "b", "c"])


@pytest.fixture(scope="module")
def fitted(table, tmp_path_factory):
    """A folder with a model and what it was fitted on."""
    folder = tmp_path_factory.mktemp("fitted")
    table.to_csv(folder / "normal.csv", index=False)
    detector = EBGANDetector(max_epochs=2, margin=0.1, random_state=0).fit(table)
    save(detector, folder / "model.ebgan")
    return folder


def store(table, kind, folder):
    """The table, or pictures, as a file or folder of some kind."""
    path = folder / f"data.{kind}"
    if kind == "csv":
        table.to_csv(path, index=False)
    elif kind == "npy":
        np.save(path, table)
    elif kind == "parquet":
        table.to_parquet(path)
    else:
        path.mkdir()
        pixels = np.random.default_rng(0).integers(0, 256, (80, 8, 8), dtype=np.uint8)
        for i, grey in enumerate(pixels):
            Image.fromarray(grey).save(path / f"{i:02}.png")
    return path


# --- real processes ------------------------------------------------------------------------------


def test_csv_from_fit_to_scores(tmp_path, table):
    data = store(table.assign(label="normal"), "csv", tmp_path)
    made = program("fit", data, "-o", tmp_path / "m.ebgan", "--drop", "label", *FAST)
    assert made.returncode == 0, made.stderr
    assert made.stderr == ""
    for words in ("200 (180 training, 20 calibration)", "epochs", "real", "not judged", "model"):
        assert words in made.stdout

    shown = program("info", tmp_path / "m.ebgan", "--json")
    facts = json.loads(shown.stdout)
    assert facts["library_version"] == __version__
    assert facts["feature_names"] == ["a", "b", "c"]
    assert facts["parameters"] == {"margin": 0.1, "max_epochs": 2, "random_state": 0}
    assert facts["calibration_rows"] == 20
    assert facts["epochs"] == 2
    assert facts["margin"] == pytest.approx(0.1)

    scored = program(
        "score", data, "-m", tmp_path / "m.ebgan", "--drop", "label", "-o", tmp_path / "s.csv"
    )
    assert scored.returncode == 0
    assert scored.stdout == ""
    scores = pd.read_csv(tmp_path / "s.csv")
    n_outliers = (scores["label"] == -1).sum()
    assert scored.stderr.startswith(f"{n_outliers} of 200 rows are outliers")
    detector = load(tmp_path / "m.ebgan")
    assert facts["threshold"] == -detector.offset_
    assert scores["line"].tolist() == list(range(2, 202))
    np.testing.assert_allclose(scores["score"], detector.score_samples(table), rtol=1e-12)
    np.testing.assert_array_equal(scores["label"], detector.predict(table))
    np.testing.assert_allclose(scores["p_value"], detector.p_values(table))
    np.testing.assert_allclose(scores["decision"], detector.decision_function(table), atol=1e-12)


@pytest.mark.parametrize("kind", ["npy", "parquet", "pictures"])
def test_other_data_from_fit_to_scores(tmp_path, table, kind):
    data = store(table, kind, tmp_path)
    model, scores = tmp_path / "m.ebgan", tmp_path / "s.parquet"
    made = run("fit", data, "-o", model, *FAST)
    assert made.exit_code == 0, made.stderr
    assert run("info", model).exit_code == 0
    scored = program("score", data, "-m", model, "-o", scores, "--quiet")
    assert scored.returncode == 0, scored.stderr
    frame = pd.read_parquet(scores)
    if kind == "pictures":
        values = np.stack([np.asarray(Image.open(file)) for file in sorted(data.iterdir())])
        assert frame["file"].tolist() == [f"{i:02}.png" for i in range(80)]
    else:
        values = table.to_numpy() if kind == "npy" else table
        assert frame["row"].tolist() == list(range(200))
    np.testing.assert_array_equal(frame["score"], load(model).score_samples(values))


def test_interrupted_fit_saves_the_model(tmp_path, table):
    data = store(table, "csv", tmp_path)
    # A shell may start its background processes with SIGINT ignored.
    start = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from ebgan_detect.cli import main; main()"
    )
    arguments = ["fit", data, "-o", tmp_path / "m.ebgan", "--checkpoint", tmp_path / "state"]
    process = subprocess.Popen(
        [sys.executable, "-c", start, *map(str, arguments), *FAST, "--max-epochs", "100000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("state/*.checkpoint")) and time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, stderr
    epochs = load(tmp_path / "m.ebgan").n_iter_
    assert 1 <= epochs < 100000
    assert "warning: training was interrupted" in stderr
    assert f"interrupted: the model after epoch {epochs} is saved in" in stderr
    assert "Traceback" not in stderr
    assert str(epochs) in stdout


def test_errors_of_a_real_process_have_no_traceback(tmp_path, fitted):
    path = tmp_path / "x.csv"
    path.write_text("a,b,c\n1,2,3\n1,oops,3\n")
    line = failure(program("score", path, "-m", fitted / "model.ebgan"))
    assert re.search(r"x\.csv, line 3, column 'b' must be a finite number, got 'oops'", line)


@pytest.mark.parametrize("name", ["typer", "rich"])
def test_missing_package_is_one_sentence(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SystemExit) as exit_:  # a text as its code: Python shows it, status 1
        main()
    assert exit_.value.code == (
        f"error: the command line needs {name}: pip install 'ebgan-detect[cli]'"
    )


# --- fit -----------------------------------------------------------------------------------------


def test_fit_defaults_and_choices_are_the_library_s():
    shown = {name: p.default for name, p in inspect.signature(fit).parameters.items()}
    constructor = inspect.signature(EBGANDetector).parameters
    shared = shown.keys() & constructor.keys()
    assert len(shared) >= 10
    assert {name: shown[name] for name in shared} == {
        name: constructor[name].default for name in shared
    }
    hints = get_type_hints(fit)
    assert get_args(hints["scaling"]) == SCALINGS
    assert get_args(hints["precision"]) == ("auto", *PRECISIONS)


def test_fit_passes_every_option_on(tmp_path, fitted):
    options = (
        "--control --margin 0.2,0.1 --n-estimators 2 --max-epochs 1 --batch-size 32 "
        "--learning-rate 0.002 --contamination 0.1 --false-alarm-rate 0.2 --scaling minmax "
        "--precision bf16-mixed --device cpu --seed 3 --columns a,c --header"
    )
    result = run("fit", fitted / "normal.csv", "-o", tmp_path / "m", *options.split())
    assert result.exit_code == 0, result.stderr
    assert "generated" not in result.stdout
    facts = json.loads(run("info", tmp_path / "m", "--json").stdout)
    assert facts["parameters"] == {
        "adversarial": False,
        "margin": [0.2, 0.1],
        "n_estimators": 2,
        "max_epochs": 1,
        "batch_size": 32,
        "learning_rate": 0.002,
        "contamination": 0.1,
        "false_alarm_rate": 0.2,
        "scaling": "minmax",
        "precision": "bf16-mixed",
        "random_state": 3,
    }
    assert facts["feature_names"] == ["a", "c"]
    assert facts["margin"] is None
    assert facts["members"] == 2


def test_fit_quiet_is_silent(tmp_path, fitted):
    result = run("fit", fitted / "normal.csv", "-o", tmp_path / "m", "-q", *FAST)
    assert result.exit_code == 0
    assert result.output == ""


@pytest.mark.filterwarnings("always::ebgan_detect.CalibrationWarning")
def test_fit_shows_warnings_as_a_line_even_when_quiet(tmp_path, table):
    np.save(tmp_path / "x.npy", table[:6])
    result = run("fit", tmp_path / "x.npy", "-o", tmp_path / "m", "-q", *FAST)
    assert result.exit_code == 0
    (line,) = result.stderr.splitlines()
    assert line.startswith("warning: false_alarm_rate=0.05 needs 19 calibration rows")


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("absent/m.ebgan", "absent/m.ebgan: No such"),
        (".", "Is a directory"),
        ("file/m.ebgan", "file/m.ebgan: Not a directory"),
    ],
)
def test_fit_checks_its_output_before_any_work(tmp_path, name, folder):
    (tmp_path / "file").touch()
    line = failure(run("fit", tmp_path / "absent.csv", "-o", tmp_path / name))
    assert folder in line
    assert "absent.csv" not in line


@pytest.mark.parametrize("command", ["fit", "score"])
def test_output_over_a_file_that_is_read_is_refused(command, tmp_path, table, fitted):
    data = store(table, "csv", tmp_path)
    before = data.read_bytes()
    model = [] if command == "fit" else ["-m", fitted / "model.ebgan"]
    result = run(command, data, *model, "-o", tmp_path / "." / data.name)
    assert result.exit_code == 2
    assert "would be overwritten" in result.stderr.replace("\n", " ")
    assert data.read_bytes() == before


def test_fit_tells_all_wrong_parameters_in_one_line(tmp_path, fitted):
    result = run(
        "fit", fitted / "normal.csv", "-o", tmp_path / "m", "--batch-size", 0, "--n-estimators", 0
    )
    line = failure(result)
    assert "n_estimators must be an int >= 1, got 0" in line
    assert "batch_size must be 'auto' or an int >= 1, got 0" in line


def test_ctrl_c_before_the_first_epoch_saves_nothing(tmp_path, fitted, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(EBGANDetector, "fit", interrupt)
    result = run("fit", fitted / "normal.csv", "-o", tmp_path / "m", *FAST)
    assert result.exit_code == 130
    assert result.stderr == "interrupted\n"
    assert not (tmp_path / "m").exists()


@pytest.mark.filterwarnings("always::ebgan_detect.EBGANWarning")
def test_ctrl_c_after_an_epoch_saves_the_model(tmp_path, fitted, monkeypatch):
    def interrupt(self, training):
        raise KeyboardInterrupt

    monkeypatch.setattr(Interruption, "on_epoch_end", interrupt)
    result = run("fit", fitted / "normal.csv", "-o", tmp_path / "m", "--quiet", *FAST)
    assert result.exit_code == 130
    warning, line = result.stderr.splitlines()
    assert warning.startswith("warning: training was interrupted")
    assert line == f"interrupted: the model after epoch 1 is saved in {tmp_path / 'm'}"
    assert load(tmp_path / "m").n_iter_ == 1


def test_fit_resizes_pictures(tmp_path, table):
    data = store(table, "pictures", tmp_path)
    assert run("fit", data, "-o", tmp_path / "m", "--size", "4x6", *FAST).exit_code == 0
    assert json.loads(run("info", tmp_path / "m", "--json").stdout)["input_shape"] == [4, 6]


@pytest.mark.parametrize(
    "wrong",
    [
        ["--max-epochs", "many"],
        ["--margin", "high"],
        ["--size", "0x8"],
        ["--size", "8x8x8"],
        ["--scaling", "log"],
        ["--seed", "-1"],
        ["--seed", str(2**32)],
        ["--unknown"],
    ],
)
def test_usage_errors_have_status_2(wrong):
    result = run("fit", "x.csv", "-o", "m", *wrong)
    assert result.exit_code == 2
    assert wrong[0] in result.stderr


# --- score ---------------------------------------------------------------------------------------


def test_score_writes_csv_to_stdout(fitted, table):
    result = run("score", fitted / "normal.csv", "-m", fitted / "model.ebgan")
    lines = result.stdout.splitlines()
    assert lines[0] == "line,score,decision,label,p_value"
    assert len(lines) == 201
    assert re.fullmatch(r"\d+ of 200 rows are outliers \(\d+\.\d%\)\n", result.stderr)
    quiet = run("score", fitted / "normal.csv", "-m", fitted / "model.ebgan", "--quiet")
    assert (quiet.stdout, quiet.stderr) == (result.stdout, "")


def test_score_in_pieces_equals_score_at_once(fitted, monkeypatch):
    whole = run("score", fitted / "normal.csv", "-m", fitted / "model.ebgan")
    stream = _score.stream_rows
    monkeypatch.setattr(_score, "stream_rows", lambda *a: stream(*a, chunk_bytes=24 * 17))
    pieces = run("score", fitted / "normal.csv", "-m", fitted / "model.ebgan")
    assert (pieces.stdout, pieces.stderr) == (whole.stdout, whole.stderr)


@pytest.mark.filterwarnings("always::ebgan_detect.InputRangeWarning")
def test_score_in_pieces_warns_once(tmp_path, table, monkeypatch):
    data = store(table, "pictures", tmp_path)
    assert run("fit", data, "-o", tmp_path / "m", *FAST).exit_code == 0
    np.save(tmp_path / "x.npy", np.random.default_rng(0).uniform(size=(20, 8, 8)))
    stream = _score.stream_rows
    monkeypatch.setattr(_score, "stream_rows", lambda *a: stream(*a, chunk_bytes=8 * 64 * 6))
    result = run("score", tmp_path / "x.npy", "-m", tmp_path / "m")
    warning, _ = result.stderr.splitlines()
    assert warning.startswith("warning: X must be in the unit of the fitted images")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["b", "a", "c"], r"got 'b' in another place; put them in order with --columns a,b,c"),
        (["a", "b"], r"got no column 'c'; add it or fit without it"),
        (["a", "b", "c", "d"], r"got column 'd' too; leave it out with --drop d"),
    ],
)
def test_score_refuses_other_columns_and_names_a_remedy(tmp_path, fitted, table, columns, message):
    table.assign(d=0)[columns].to_csv(tmp_path / "x.csv", index=False)
    line = failure(run("score", tmp_path / "x.csv", "-m", fitted / "model.ebgan"))
    assert re.search(message, line)


def test_score_follows_that_remedy(tmp_path, fitted, table):
    table[["b", "a", "c"]].to_csv(tmp_path / "x.csv", index=False)
    result = run(
        "score", tmp_path / "x.csv", "-m", fitted / "model.ebgan", "-q", "--columns", "a,b,c"
    )
    direct = run("score", fitted / "normal.csv", "-m", fitted / "model.ebgan", "-q")
    assert result.stdout == direct.stdout


def test_score_refuses_another_number_of_columns_without_names(tmp_path, table):
    np.save(tmp_path / "x.npy", table)
    np.save(tmp_path / "y.npy", table[["a", "b"]])
    run("fit", tmp_path / "x.npy", "-o", tmp_path / "m", *FAST)
    line = failure(run("score", tmp_path / "y.npy", "-m", tmp_path / "m"))
    assert "X has 2 features, but EBGANDetector is expecting 3 features" in line


def test_score_refuses_absent_and_damaged_files(tmp_path, fitted):
    data, model = fitted / "normal.csv", fitted / "model.ebgan"
    assert failure(run("score", tmp_path / "no.csv", "-m", model)).endswith(
        "no.csv: No such file or directory"
    )
    assert "no.ebgan: No such" in failure(run("score", data, "-m", tmp_path / "no.ebgan"))
    content = bytearray(model.read_bytes())
    content[-1] ^= 1
    (tmp_path / "bad.ebgan").write_bytes(content)
    assert "bad.ebgan does not match" in failure(run("score", data, "-m", tmp_path / "bad.ebgan"))
    assert "bad.ebgan does not match" in failure(run("info", tmp_path / "bad.ebgan"))
    assert "got" in failure(run("score", data, "-m", model, "-o", tmp_path / "s.txt"))


def test_score_checks_its_output_before_any_work(tmp_path, fitted):
    (tmp_path / "folder.csv").mkdir()
    for name, message in [("folder.csv", "Is a directory"), ("a/s.csv", "No such file")]:
        output = tmp_path / name
        line = failure(run("score", "no.csv", "-m", fitted / "model.ebgan", "-o", output))
        assert line.startswith(f"error: {output}: {message}")


def test_score_leaves_no_output_after_an_error(tmp_path, fitted):
    (tmp_path / "x.csv").write_text("a,b,c\n1,2,3\n1,2\n")
    failure(
        run("score", tmp_path / "x.csv", "-m", fitted / "model.ebgan", "-o", tmp_path / "s.csv")
    )
    assert not (tmp_path / "s.csv").exists()


# --- calibrate -----------------------------------------------------------------------------------


def test_calibrate_writes_the_model_that_the_method_makes(fitted, tmp_path, table):
    store(3 * table, "csv", tmp_path)
    data, model = next(tmp_path.glob("*.csv")), fitted / "model.ebgan"
    result = run("calibrate", data, "-m", model, "-o", tmp_path / "m", "--false-alarm-rate", 0.1)
    assert result.exit_code == 0, result.stderr
    made = load(tmp_path / "m")
    expected = load(model).set_params(false_alarm_rate=0.1).calibrate(pd.read_csv(data))
    assert made.offset_ == expected.offset_ != load(model).offset_
    np.testing.assert_array_equal(made.p_values(table), expected.p_values(table))
    assert f"energy above {-made.offset_:.6g} is an outlier" in result.stdout
    assert run("calibrate", data, "-m", model, "-o", model).exit_code == 2
    assert run("calibrate", data, "-o", tmp_path / "n").exit_code == 2


# --- info and the program ------------------------------------------------------------------------


def test_info_shows_a_table(fitted):
    result = run("info", fitted / "model.ebgan")
    assert result.exit_code == 0
    for words in ("mlp", "a, b, c", "max_epochs=2", "not judged", __version__):
        assert words in result.stdout


def test_version_and_help():
    assert run("--version").stdout == f"ebgan-detect {__version__}\n"
    for command in ("fit", "score", "info"):
        assert command in run("--help").stdout
        assert f"ebgan-detect {command} " in run(command, "--help").stdout
    assert run().exit_code == 2
    assert run("unknown").exit_code == 2
