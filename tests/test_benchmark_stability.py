"""The stability study: its grids, its score, and runs of every system at a tiny size."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from benchmarks.stability import report
from benchmarks.stability.__main__ import main, runs_of
from benchmarks.stability.classifier import Images, Judge, mnist, train_judge
from benchmarks.stability.grid import SYSTEMS, Configuration, choose, paper_grid
from benchmarks.stability.networks import PartwiseBatchNorm
from benchmarks.stability.runs import MARGIN, PULL_AWAY_WEIGHTS, Run, game, perform, perform_all
from benchmarks.stability.score import (
    class_shares,
    inception_score,
    nearest_distances,
    paper_score,
    shapes,
)
from ebgan_detect.objectives import EBGANObjective

CELL = Configuration(3, 3, 32, 16, True, "adam", "adam", 0.001)


@pytest.fixture(scope="module")
def digits():
    """Digits of 8 by 8 pixels as rows on [0, 1]."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    return Images(x[:1400], y[:1400], x[1400:], y[1400:])


@pytest.fixture(scope="module")
def judge(digits, tmp_path_factory):
    """A classifier of small digits."""
    return train_judge(digits, tmp_path_factory.mktemp("cache"), epochs=20)


@pytest.fixture
def folders(tmp_path):
    """Results and cache go to a temporary folder."""
    return {"results": tmp_path / "results", "cache": tmp_path / "cache"}


def test_grids_have_the_papers_sizes():
    assert len(set(paper_grid("EBGAN"))) == 512
    assert paper_grid("EBGAN-PT") == paper_grid("EBGAN")
    assert len(set(paper_grid("GAN"))) == 6144


def test_narrow_grids_hold_no_wide_network():
    widths = {(c.generator_width, c.discriminator_width) for c in paper_grid("GAN", max_width=800)}
    assert widths == {(g, d) for g in (400, 800) for d in (128, 256, 512)}


def test_choice_is_reproducible_nested_and_paired():
    part = choose("EBGAN", fraction=0.1)
    assert len(part) == 51
    assert part == choose("EBGAN", fraction=0.1) == choose("EBGAN-PT", fraction=0.1)
    assert choose("EBGAN", count=20) == part[:20]
    assert choose("EBGAN", fraction=0.1, seed=1) != part
    assert len(set(choose("GAN", fraction=1.0))) == 6144


def test_runs_alternate_between_systems_and_pair_both_ebgans():
    class Arguments:
        systems, count, fraction, max_width, steps = SYSTEMS, 3, None, 800, 2

    runs = runs_of(Arguments)
    assert [run.system for run in runs] == [*SYSTEMS] * 3
    assert [r.configuration for r in runs[1::3]] == [r.configuration for r in runs[2::3]]
    Arguments.max_width = 100
    with pytest.raises(SystemExit, match="as narrow as --max-width 100"):
        runs_of(Arguments)


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (("--count", "0"), r"--count: must be an integer >= 1, got 0"),
        (("--fraction", "1.5"), r"--fraction: must lie in \(0, 1\], got 1\.5"),
        (("--fraction", "half"), r"--fraction: must lie in \(0, 1\], got half"),
        (("--count", "3", "--fraction", "0.5"), "not allowed with argument --count"),
        (("--systems", "WGAN"), "invalid choice: 'WGAN'"),
    ],
)
def test_bad_words_on_the_command_line_are_refused(words, rule, capsys):
    with pytest.raises(SystemExit):
        main(["run", *words])
    assert re.search(rule, capsys.readouterr().err)


@pytest.mark.parametrize("steps", [7, 130])
def test_runs_make_exactly_the_updates_that_they_are_asked_for(
    steps, digits, judge, folders, monkeypatch
):
    made = []
    update = EBGANObjective.update
    monkeypatch.setattr(EBGANObjective, "update", lambda *a: made.append(1) or update(*a))
    perform(Run("EBGAN", CELL, steps, 32), digits.x_train, judge, **folders)
    assert len(made) == steps


def test_scores_match_loops_over_the_definition(np_rng):
    probabilities = np_rng.dirichlet(np.ones(4), size=7)
    marginal = [sum(row[k] for row in probabilities) / 7 for k in range(4)]
    forward = backward = 0.0
    for row in probabilities:
        for k in range(4):
            forward += marginal[k] * np.log(marginal[k] / row[k]) / 7
            backward += row[k] * np.log(row[k] / marginal[k]) / 7
    assert paper_score(np.log(probabilities)) == pytest.approx(forward, rel=1e-12)
    assert inception_score(np.log(probabilities)) == pytest.approx(backward, rel=1e-12)
    assert forward != pytest.approx(backward, rel=0.05)


def test_scores_of_samples_that_look_alike_are_zero():
    alike = np.log(np.tile([0.7, 0.2, 0.1], (50, 1)))
    assert paper_score(alike) == pytest.approx(0, abs=1e-12)
    assert inception_score(alike) == pytest.approx(0, abs=1e-12)


def test_class_that_is_never_predicted_leaves_scores_finite():
    hard = np.array([[0.0, -800.0, -900.0], [-800.0, 0.0, -900.0]])
    assert paper_score(hard) == pytest.approx(400 + np.log(0.5), rel=1e-9)
    assert inception_score(hard) == pytest.approx(np.log(2), rel=1e-12)


def test_only_confident_samples_count_for_a_class():
    shares = class_shares(np.log([[0.95, 0.04, 0.01], [0.6, 0.3, 0.1], [0.02, 0.03, 0.95]]))
    np.testing.assert_allclose(shares, [1 / 3, 0, 1 / 3])


def test_nearest_distances_match_all_pairs(np_rng):
    rows = np_rng.normal(size=(9, 5))
    expected = np.full(9, np.inf)
    for i, j in combinations(range(9), 2):
        distance = np.sqrt(((rows[i] - rows[j]) ** 2).sum())
        expected[[i, j]] = np.minimum(expected[[i, j]], distance)
    np.testing.assert_allclose(nearest_distances(rows), expected)


def test_copies_have_distance_zero():
    assert nearest_distances(np.ones((3, 4), dtype=np.float32)).tolist() == [0, 0, 0]


def test_shapes_are_blind_to_contrast_and_to_noise_of_single_pixels(np_rng):
    drawn = np.zeros((2, 28, 28))
    drawn[0, 4:24, 12:16] = drawn[1, 12:16, 4:24] = 1
    rows = drawn.reshape(2, -1)
    faint, noisy = 0.2 * rows + 0.1, rows + np_rng.normal(0, 0.2, rows.shape)
    upright, lying = shapes(rows)
    np.testing.assert_allclose(shapes(faint)[0], upright, atol=1e-12)
    assert np.linalg.norm(shapes(noisy)[0] - upright) < 0.3 < np.linalg.norm(upright - lying)


def test_blank_images_have_the_same_shape():
    assert not shapes(np.array([[0.2] * 784, [0.7] * 784], dtype=np.float32)).any()


def test_shapes_of_small_images_are_their_pixels_centred_and_scaled(np_rng):
    rows = np_rng.random((3, 64))
    centred = rows - rows.mean(axis=1, keepdims=True)
    expected = [row / np.sqrt((row**2).sum()) for row in centred]
    np.testing.assert_allclose(shapes(rows), expected)


def test_perfect_sampler_covers_all_modes_and_collapsed_one_a_single_one(digits, judge):
    rng = np.random.default_rng(0)
    one = digits.x_test[[5]]
    collapsed = one + rng.normal(0, 0.001, (len(digits.x_test), 64)).astype(np.float32)
    assert judge.record["accuracy"] > 0.9
    perfect, failed = judge.measure(digits.x_test), judge.measure(collapsed)
    assert (perfect["modes"], failed["modes"]) == (10, 1)
    assert perfect["duplicates"] < 0.02 < 0.98 < failed["duplicates"]
    assert perfect["spread"] == pytest.approx(1, abs=0.01)
    assert perfect["score"] > 2 > 0.1 > failed["score"]


def test_real_mnist_covers_all_modes(data_folder):
    try:
        real_judge = Judge.read()
    except SystemExit as error:
        pytest.skip(str(error))
    found = real_judge.measure(mnist().x_test[:2000])
    assert real_judge.record["accuracy"] >= 0.985
    assert found["modes"] == 10
    assert found["duplicates"] < 0.03


def test_judge_survives_its_file(digits, judge, tmp_path):
    trained = train_judge(digits, tmp_path, epochs=1)
    again = Judge.read(tmp_path)
    assert again.record == trained.record
    assert again.measure(digits.x_test) == trained.measure(digits.x_test) == again.record["real"]
    assert train_judge(digits, tmp_path, epochs=5).record == trained.record
    assert [file.name for file in tmp_path.iterdir()] == ["classifier.safetensors"]


def test_judge_trained_again_has_the_same_weights(digits, tmp_path):
    digests = {train_judge(digits, tmp_path / f, epochs=1).record["sha256"] for f in ("a", "b")}
    assert len(digests) == 1


def test_missing_classifier_is_refused_with_the_command_that_makes_it(tmp_path):
    with pytest.raises(SystemExit, match=r"benchmarks\.stability train"):
        Judge.read(tmp_path)


@pytest.mark.parametrize("system", SYSTEMS)
def test_run_is_stored_and_not_repeated(system, digits, judge, folders):
    run = Run(system, CELL, steps=2, batch_size=32)
    result = perform(run, digits.x_train, judge, **folders)
    (file,) = (folders["results"] / "stability").iterdir()
    assert json.loads(file.read_text()) == result
    assert 0 <= result["score"] < 100
    assert result["classifier"] == judge.record["sha256"]
    assert result["last_epoch"]["epoch"] == 1
    assert perform(run, digits.x_train[:0], None, **folders) == result, "performed again"


def test_run_is_reproducible(digits, judge, folders):
    run = Run("EBGAN", CELL, steps=2, batch_size=32)
    first = perform(run, digits.x_train, judge, **folders)
    run.file(folders["results"]).unlink()
    assert perform(run, digits.x_train, judge, **folders)["score"] == first["score"]


SLEEPING = """
import signal, time
from pathlib import Path
from benchmarks.stability import runs

def sleep(run, results, cache):
    time.sleep(900 if run else 0)
    return {}

if __name__ == "__main__":
    # A shell may start its background processes with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    runs._perform_alone = sleep
    for done in runs.perform_all([0, 1, 2, 3], jobs=1, results=Path(), cache=Path()):
        print(done, flush=True)
"""


def test_an_interrupt_ends_the_processes_and_what_waits(tmp_path):
    (tmp_path / "sleeping.py").write_text(SLEEPING)
    command = subprocess.Popen(
        [sys.executable, str(tmp_path / "sleeping.py")],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert command.stdout.readline() == "(0, {})\n"
    os.killpg(command.pid, signal.SIGINT)
    stdout, stderr = command.communicate(timeout=60)
    assert stdout == ""
    assert "KeyboardInterrupt" in stderr


def test_processes_give_the_same_results_as_one(digits, folders, tmp_path, monkeypatch):
    (tmp_path / "images").mkdir()
    parts = ("x_train", "y_train", "x_test", "y_test")
    images = {name: getattr(digits, name) for name in parts}
    for name in parts[::2]:
        images[name] = (255 * images[name]).round().astype(np.uint8).reshape(-1, 8, 8)
    np.savez(tmp_path / "images" / "mnist.npz", **images)
    monkeypatch.setenv("EBGAN_DATA", str(tmp_path))
    trained = train_judge(mnist(), folders["cache"], epochs=1)
    runs = [Run(system, CELL, 2, 32) for system in ("GAN", "EBGAN")]
    several = dict(perform_all(runs, jobs=2, **folders))
    assert sorted(run.system for run in several) == ["EBGAN", "GAN"]
    for run, result in several.items():
        assert json.loads(run.file(folders["results"]).read_text()) == result
        run.file(folders["results"]).unlink()
        again = perform(run, mnist().x_train, trained, **folders)
        assert again["score"] == pytest.approx(result["score"])


def test_diverged_run_gets_what_a_constant_output_gets(digits, judge, folders):
    cell = Configuration(3, 3, 32, 16, False, "adam", "adam", 1e38)
    result = perform(Run("EBGAN", cell, 20, 32), digits.x_train, judge, **folders)
    assert "lower learning_rate" in result["diverged"]
    assert (result["score"], result["modes"]) == (0, 0)


def test_margin_and_pulling_away_weight_are_divided_by_the_number_of_pixels():
    plain, with_term = (game(Run(s, CELL, 2, 8), 64) for s in ("EBGAN", "EBGAN-PT"))
    assert float(plain.margin) == pytest.approx(MARGIN / 64)
    assert plain.pull_away_weight == 0
    assert with_term.pull_away_weight == pytest.approx(PULL_AWAY_WEIGHTS["EBGAN-PT"] / 64)


def test_each_player_of_a_gan_gets_its_optimizer():
    cell = Configuration(3, 3, 32, 16, False, "sgd", "adam", 0.01)
    played = game(Run("GAN", cell, 2, 8), 64)
    played.configure_optimizers(0.01)
    kinds = {player: type(optimizer) for player, optimizer in played.optimizers.items()}
    assert issubclass(kinds["discriminator"], torch.optim.SGD)
    assert issubclass(kinds["generator"], torch.optim.Adam)


@pytest.mark.parametrize("system", SYSTEMS)
def test_players_have_as_many_weight_layers_as_the_configuration_says(system):
    cell = Configuration(4, 5, 32, 16, True, "adam", "adam", 0.001)
    played = game(Run(system, cell, 2, 8), 64)
    weights = {
        name.partition(".")[0]: 0 for name, weight in played.named_parameters() if weight.ndim == 2
    }
    for name, weight in played.named_parameters():
        weights[name.partition(".")[0]] += weight.ndim == 2
    assert weights.pop("generator") == 4
    assert sum(weights.values()) == 5
    assert weights.get("decoder", 1) == 1


def test_batch_normalisation_keeps_real_and_generated_rows_apart(rng):
    rows = torch.randn(8, 3, generator=rng)
    rows[4:] += 5
    together = PartwiseBatchNorm(3, 4)(rows)
    alone = PartwiseBatchNorm(3, 4)(rows[4:])
    torch.testing.assert_close(together[4:], alone)
    assert torch.nn.BatchNorm1d(3)(rows)[4:].mean() > 0.5


def test_building_a_game_leaves_the_global_random_state(unchanged_global_random_state):
    for system in SYSTEMS:
        game(Run(system, CELL, 2, 8), 64)


def test_report_counts_pairs_and_names_what_is_missing(digits, judge, folders, tmp_path):
    runs = [Run(system, CELL, 2, 32) for system in SYSTEMS]
    other = Configuration(2, 2, 32, 16, False, "adam", "adam", 0.001)
    for run in runs:
        perform(run, digits.x_train, judge, **folders)
    found, missing = report.stored([*runs, Run("EBGAN-PT", other, 2, 32)], folders["results"])
    said = report.summary(found, missing, judge.record)
    assert "Missing: 1 of EBGAN-PT." in said
    change = found["EBGAN-PT"][0]["score"] - found["EBGAN"][0]["score"]
    assert f"| score | 1 | {change:.3f} |" in said
    report.draw_histograms(found, tmp_path / "histograms.png")
    report.draw_samples(found, tmp_path / "samples.png", folders["cache"])
    for name in ("histograms.png", "samples.png"):
        assert 0 < (tmp_path / name).stat().st_size < 200_000


def test_report_refuses_scores_of_another_classifier(digits, judge, folders):
    runs = [Run("EBGAN", CELL, 2, 32)]
    perform(runs[0], digits.x_train, judge, **folders)
    found, missing = report.stored(runs, folders["results"])
    with pytest.raises(SystemExit, match="cannot be compared"):
        report.summary(found, missing, {**judge.record, "sha256": "another"})


def test_tiles_put_the_second_image_beside_the_first():
    rows = np.arange(4).repeat(4).reshape(4, 4)
    np.testing.assert_array_equal(
        report.tiled(rows), [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    )
