"""Energies averaged over several states of one training."""

import copy

import numpy as np
import pytest
import torch

from ebgan_detect import EBGANDetector, load, save
from ebgan_detect.losses import energy_map
from ebgan_detect.networks import build_networks, mlp_networks
from ebgan_detect.objectives import AutoEncoderObjective, EBGANObjective
from ebgan_detect.training import Callback


def make_game(kind, n_snapshots):
    networks = build_networks(
        lambda s: mlp_networks(s, hidden_sizes=(8,), code_dim=2, latent_dim=3, bounded=False),
        (4,),
        latent_dim=3,
        seed=1,
    )
    if kind == "autoencoder":
        game = AutoEncoderObjective(networks, n_snapshots=n_snapshots)
    else:
        game = EBGANObjective(
            networks, input_shape=(4,), latent_dim=3, margin=1.0, n_snapshots=n_snapshots
        )
    game.configure_optimizers(0.05)
    return game


def play(game, steps, states=None):
    """Train; keep a copy of the autoencoder before every update."""
    rng = torch.Generator().manual_seed(0)
    real = torch.randn(16, 4, generator=torch.Generator().manual_seed(3))
    for step in range(steps):
        game.begin_step(step / steps)
        if states is not None:
            states.append(copy.deepcopy((game.encoder, game.decoder)))
        game.update(real, rng)
    return real


def errors(state, x):
    encoder, decoder = state
    return energy_map(x, decoder(encoder(x)))


@pytest.mark.parametrize("kind", ["autoencoder", "ebgan"])
def test_energy_is_the_mean_over_states_of_the_second_half(kind):
    game, states = make_game(kind, 5), []
    x = play(game, 40, states)
    with torch.no_grad():
        kept = [errors(states[step], x) for step in (20, 25, 30, 35)]
        final = errors((game.encoder, game.decoder), x)
        expected = torch.stack([final, *kept]).mean(0)
        assert torch.allclose(game.energy_map(x), expected, rtol=1e-6)
        assert torch.allclose(game.energy(x), expected.double().mean(1), rtol=1e-6)
        assert not torch.allclose(final, expected, rtol=0.01)


def test_one_snapshot_is_the_final_state():
    game = make_game("ebgan", 1)
    x = play(game, 10)
    assert len(game.earlier) == 0
    assert torch.equal(game.energy_map(x), errors((game.encoder, game.decoder), x))


def test_snapshots_do_not_change_the_training():
    one, five = make_game("ebgan", 1), make_game("ebgan", 5)
    play(one, 20)
    play(five, 20)
    for ours, theirs in zip(
        [*one.encoder.parameters(), *one.generator.parameters()],
        [*five.encoder.parameters(), *five.generator.parameters()],
        strict=True,
    ):
        assert torch.equal(ours, theirs)
    assert not any(p.requires_grad for p in five.earlier.parameters())


def test_training_that_stops_early_keeps_only_states_that_were_reached():
    game = make_game("ebgan", 5)
    for step in range(24):
        game.begin_step(step / 40)
    assert len(game.earlier) == 1


def test_a_second_training_replaces_the_oldest_states():
    game = make_game("ebgan", 3)
    play(game, 12)
    first = copy.deepcopy(game.earlier)
    x = play(game, 12)
    assert len(game.earlier) == 2
    for old, new in zip(first, game.earlier, strict=True):
        assert not torch.equal(old(x), new(x))


def test_loading_takes_as_many_states_as_there_are():
    trained, fresh = make_game("ebgan", 4), make_game("ebgan", 4)
    x = play(trained, 12)
    fresh.load_state_dict(trained.state_dict())
    assert len(fresh.earlier) == 3
    assert torch.equal(fresh.energy(x), trained.energy(x))
    fresh.load_state_dict(make_game("ebgan", 4).state_dict())
    assert len(fresh.earlier) == 0


def fit(x, **options):
    return EBGANDetector(
        hidden_sizes=(4,), code_dim=3, max_epochs=6, batch_size=16, random_state=0, **options
    ).fit(x)


@pytest.fixture(scope="module")
def table():
    return np.random.default_rng(0).normal(size=(120, 5))


def test_detector_averages_snapshots_whatever_becomes_of_it(table, tmp_path):
    detector = fit(table, n_snapshots=3)
    assert len(detector.model_.members[0].earlier) == 2
    assert detector.settings_["n_snapshots"] == 3
    energies = detector.energy(table)
    assert np.abs(energies / fit(table, n_snapshots=1).energy(table) - 1).max() > 1e-3
    save(detector, tmp_path / "model.ebgan")
    assert np.array_equal(load(tmp_path / "model.ebgan").energy(table), energies)
    split = detector.energy_map(table).reshape(len(table), -1).mean(axis=1)
    assert np.allclose(split, energies, rtol=1e-6)


def test_resumed_fit_has_the_same_snapshots(table, tmp_path):
    class Stop(Callback):
        def on_epoch_end(self, run):
            if run.epoch == 4:
                raise RuntimeError("stop")

    whole = fit(table, n_snapshots=3)
    with pytest.raises(RuntimeError, match="stop"):
        fit(table, n_snapshots=3, checkpoint=tmp_path, callbacks=[Stop()])
    resumed = fit(table, n_snapshots=3, checkpoint=tmp_path)
    assert np.array_equal(resumed.energy(table), whole.energy(table))


def test_images_have_snapshots_and_tables_none_by_default(table):
    images = np.random.default_rng(0).integers(0, 256, (80, 8, 8), dtype=np.uint8)
    assert len(fit(table).model_.members[0].earlier) == 0
    assert len(fit(images).model_.members[0].earlier) > 0
