"""The logistic game: its losses, its updates, its verdicts."""

import math
import re

import numpy as np
import oracles
import pytest
import torch
from games import metrics
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

from ebgan_detect.errors import InvalidInputError
from ebgan_detect.losses import logistic_discriminator_loss, logistic_generator_loss
from ebgan_detect.networks import build_adversaries, dcgan_adversaries, mlp_adversaries
from ebgan_detect.objectives import GANObjective

pytestmark = pytest.mark.usefixtures("unchanged_global_random_state")

# torch's softplus is a straight line from 20 on, wrong by 2e-9 at most.
LOGITS = hnp.arrays(np.float64, st.integers(1, 12), elements=st.floats(-40, 40))


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def make_game(shape=(5,), *, learning_rate=0.01, bounded=False, **options):
    family, sizes = (mlp_adversaries, (8,)) if len(shape) == 1 else (dcgan_adversaries, (3, 4))
    players = build_adversaries(
        lambda s: family(s, hidden_sizes=sizes, latent_dim=4, bounded=bounded),
        shape,
        latent_dim=4,
        seed=0,
    )
    game = GANObjective(
        players.discriminator, players.generator, input_shape=shape, latent_dim=4, **options
    )
    game.configure_optimizers(learning_rate)
    return game


def snapshot(module):
    return {name: value.clone() for name, value in module.named_parameters()}


def moved(before, module):
    return [
        name for name, value in module.named_parameters() if not torch.equal(value, before[name])
    ]


# --- losses -----------------------------------------------------------------------------------


@given(real=LOGITS, generated=LOGITS)
def test_losses_equal_oracles(real, generated):
    found = logistic_discriminator_loss(torch.from_numpy(real), torch.from_numpy(generated))
    expected = oracles.logistic_discriminator_loss(real, generated)
    assert float(found) == pytest.approx(expected, abs=1e-8)
    found = logistic_generator_loss(torch.from_numpy(generated))
    expected = oracles.logistic_generator_loss(generated)
    assert float(found) == pytest.approx(expected, abs=1e-8)


def test_losses_are_finite_and_exact_where_the_discriminator_is_sure():
    far = torch.tensor([1e4])
    assert float(logistic_discriminator_loss(far, -far)) == 0
    assert float(logistic_discriminator_loss(-far, far)) == pytest.approx(2e4)
    assert float(logistic_generator_loss(-far)) == pytest.approx(1e4)


def test_undecided_discriminator_loses_twice_log_two():
    zero = torch.zeros(3)
    assert float(logistic_discriminator_loss(zero, zero)) == pytest.approx(2 * math.log(2))


def test_generator_loss_does_not_saturate():
    logit = torch.tensor([-30.0], requires_grad=True)
    logistic_generator_loss(logit).backward()
    assert float(logit.grad) == pytest.approx(-1)
    # The saturating loss log(1 - D) has no gradient left there.
    other = torch.tensor([-30.0], requires_grad=True)
    (-nn.functional.softplus(other)).mean().backward()
    assert abs(float(other.grad)) < 1e-12


def test_gradients_of_losses_are_right():
    real, generated = (normal(4, seed=s, dtype=torch.float64).requires_grad_() for s in (0, 1))
    assert torch.autograd.gradcheck(logistic_discriminator_loss, (real, generated))
    assert torch.autograd.gradcheck(logistic_generator_loss, (generated,))


@pytest.mark.parametrize("wrong", [torch.zeros(0), torch.zeros(2, 1)])
def test_losses_refuse_what_is_not_a_vector(wrong):
    with pytest.raises(InvalidInputError, match=r"logit_real must have shape \(n,\)"):
        logistic_discriminator_loss(wrong, torch.zeros(2))
    with pytest.raises(InvalidInputError, match="logit_generated"):
        logistic_discriminator_loss(torch.zeros(2), wrong)
    with pytest.raises(InvalidInputError, match="logit_generated"):
        logistic_generator_loss(wrong)


# --- updates ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5,), (2, 9, 12)])
def test_each_step_moves_one_player_alone(shape):
    game = make_game(shape)
    discriminator, generator = snapshot(game.discriminator), snapshot(game.generator)
    game._update_discriminator(normal(6, *shape), normal(6, *shape, seed=1))
    assert moved(discriminator, game.discriminator) == list(discriminator)
    assert not moved(generator, game.generator)
    assert all(p.grad is None for p in game.generator.parameters())
    discriminator = snapshot(game.discriminator)
    gradients = [p.grad.clone() for p in game.discriminator.parameters()]
    game._update_generator(game.generate(normal(6, 4)))
    assert moved(generator, game.generator) == list(generator)
    assert not moved(discriminator, game.discriminator)
    after = [p.grad for p in game.discriminator.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(gradients, after, strict=True))


@pytest.mark.parametrize("shape", [(5,), (2, 9, 12)])
@pytest.mark.parametrize("n", [1, 7])
def test_every_parameter_moves_in_one_update(shape, n, rng):
    game = make_game(shape)
    before = snapshot(game)
    found = metrics(game.update(normal(n, *shape), rng))
    assert moved(before, game) == list(before)
    assert len(found) == 4
    assert np.isfinite(list(found.values())).all()


def test_metrics_are_the_losses_and_probabilities_of_their_step(rng):
    game = make_game(learning_rate=1e-30)
    real, state = normal(6, 5), rng.get_state()
    found = metrics(game.update(real, rng))
    rng.set_state(state)
    with torch.no_grad():
        generated = game.sample(6, rng)
        logits = [game.logits(x).double().numpy() for x in (real, generated)]
    assert found["loss_discriminator"] == pytest.approx(
        oracles.logistic_discriminator_loss(*logits), rel=1e-5
    )
    assert found["loss_generator"] == pytest.approx(
        oracles.logistic_generator_loss(logits[1]), rel=1e-5
    )
    for name, values in zip(("real", "generated"), logits, strict=True):
        expected = np.mean(1 / (1 + np.exp(-values)))
        assert found[f"probability_{name}"] == pytest.approx(expected, rel=1e-5)


def test_energy_is_minus_the_logit_in_float64():
    game = make_game()
    x = normal(6, 5)
    with torch.no_grad():
        energy = game.energy(x)
        assert energy.dtype == torch.float64
        assert torch.equal(energy, -game.discriminator(x)[:, 0].double())


def test_discriminator_may_return_a_vector():
    game = make_game()
    flat = GANObjective(
        nn.Sequential(game.discriminator, nn.Flatten(0)),
        game.generator,
        input_shape=(5,),
        latent_dim=4,
    )
    with torch.no_grad():
        assert torch.equal(flat.energy(normal(3, 5)), game.energy(normal(3, 5)))


def test_symmetric_players_see_and_make_rows_between_minus_one_and_one(rng):
    seen = []
    game = make_game((1, 8, 8), bounded=True, symmetric=True).eval()
    game.discriminator.register_forward_hook(lambda _, args, out: seen.append(args[0]))
    with torch.no_grad():
        made = game.sample(50, rng)
        game.energy(torch.stack([torch.zeros(1, 8, 8), torch.ones(1, 8, 8)]))
        drawn = game.generator(normal(50, 4))
    assert seen[0].flatten(1)[:, 0].tolist() == [-1, 1]
    assert 0 <= made.min() < 0.5 < made.max() <= 1
    assert drawn.min() < 0


def test_players_have_the_optimiser_of_dcgan():
    game = make_game(learning_rate=2e-4)
    assert set(game.optimizers) == {"discriminator", "generator"}
    for player, optimizer in game.optimizers.items():
        (group,) = optimizer.param_groups
        assert (group["lr"], group["betas"], group["eps"]) == (2e-4, (0.5, 0.999), 1e-8)
        own = {id(p) for p in getattr(game, player).parameters()}
        assert {id(p) for p in group["params"]} == own


def test_game_on_a_line_moves_generated_rows_to_the_data(rng):
    game = make_game((1,), learning_rate=5e-3)
    data = 3 + 0.5 * normal(256, 1, seed=5)
    with torch.no_grad():
        before = float(game.sample(500, rng).mean())
    for _ in range(300):
        game.update(data, rng)
    with torch.no_grad():
        after = float(game.sample(500, rng).mean())
    assert abs(before - 3) > 2
    assert abs(after - 3) < 1


# --- verdicts ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("real", "generated", "verdict"),
    [
        (0.999, 0.001, "the discriminator won: real rows .* 0.999, .* 0.001"),
        (0.5, 0.499, "no longer tells them apart: .* 0.500, .* 0.499"),
        (0.3, 0.6, "no longer tells them apart"),
    ],
)
def test_verdict_says_what_went_wrong(real, generated, verdict):
    history = {"probability_real": [0.5, real], "probability_generated": [0.5, generated]}
    assert re.search(verdict, make_game().diagnose(history))


def test_balanced_game_is_healthy():
    history = {"probability_real": [0.7], "probability_generated": [0.3]}
    assert make_game().diagnose(history) is None
