"""Games: update steps, metrics, replay, noise, verdicts."""

import copy
import pickle  # noqa: TID251 - joblib sends detectors to workers this way

import numpy as np
import oracles
import pytest
import torch
from games import metrics
from scipy.stats import kstest
from torch import nn

from ebgan_detect.errors import InvalidParameterError
from ebgan_detect.networks import AutoEncoder, Networks, build_networks, conv_networks, mlp_networks
from ebgan_detect.objectives import AutoEncoderObjective, EBGANObjective, Objective
from ebgan_detect.objectives.objective import make_adam
from ebgan_detect.objectives.replay import ReplayBuffer
from ebgan_detect.training.placement import place

pytestmark = pytest.mark.usefixtures("unchanged_global_random_state")

BIG_MARGIN = 1e6  # every generated row lies inside


def make_networks(shape=(5,), *, latent_dim=4, seed=0):
    family, sizes = (mlp_networks, (8,)) if len(shape) == 1 else (conv_networks, (3, 4))
    return build_networks(
        lambda s: family(s, hidden_sizes=sizes, code_dim=3, latent_dim=latent_dim, bounded=False),
        shape,
        latent_dim=latent_dim,
        seed=seed,
    )


def make_ebgan(shape=(5,), *, latent_dim=4, margin=BIG_MARGIN, learning_rate=0.01, **options):
    networks = make_networks(shape, latent_dim=latent_dim)
    game = EBGANObjective(
        networks, input_shape=shape, latent_dim=latent_dim, margin=margin, **options
    )
    game.configure_optimizers(learning_rate)
    return game


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def snapshot(*modules):
    return [p.detach().clone() for m in modules for p in m.parameters()]


def changes(before, *modules):
    return [not torch.equal(a, b) for a, b in zip(before, snapshot(*modules), strict=True)]


# --- who moves --------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5,), (2, 9, 12)])
def test_discriminator_step_leaves_the_generator_untouched(shape, rng):
    game = make_ebgan(shape, replay_size=16)
    before = {name: v.clone() for name, v in game.generator.state_dict().items()}
    discriminator = snapshot(game.encoder, game.decoder)
    game._update_discriminator(normal(6, *shape), normal(6, *shape, seed=1), rng)
    assert all(torch.equal(before[name], v) for name, v in game.generator.state_dict().items())
    assert all(p.grad is None for p in game.generator.parameters())
    assert all(changes(discriminator, game.encoder, game.decoder))


@pytest.mark.parametrize("shape", [(5,), (2, 9, 12)])
def test_generator_step_leaves_the_discriminator_untouched(shape):
    game = make_ebgan(shape)
    discriminator, generator = snapshot(game.encoder, game.decoder), snapshot(game.generator)
    game._update_generator(game.generator(normal(6, 4)))
    assert not any(changes(discriminator, game.encoder, game.decoder))
    assert all(p.grad is None for p in (*game.encoder.parameters(), *game.decoder.parameters()))
    assert all(changes(generator, game.generator))


@pytest.mark.parametrize(
    ("frozen", "moving"),
    [("generator", ("encoder", "decoder")), ("discriminator", ("generator",))],
)
def test_player_without_a_rate_stands_still(frozen, moving, rng):
    game = make_ebgan()
    game.optimizers[frozen].param_groups[0]["lr"] = 0.0
    still = {"generator": [game.generator], "discriminator": [game.encoder, game.decoder]}[frozen]
    others = [getattr(game, name) for name in moving]
    before, before_others = snapshot(*still), snapshot(*others)
    game.update(normal(6, 5), rng)
    assert not any(changes(before, *still))
    assert all(changes(before_others, *others))


@pytest.mark.parametrize("shape", [(5,), (2, 9, 12)])
@pytest.mark.parametrize("options", [{}, {"replay_size": 20, "noise": 0.1}], ids=["plain", "all"])
def test_every_trainable_parameter_moves_in_one_update(shape, options, rng):
    game = make_ebgan(shape, **options)
    before = snapshot(game)
    game.update(normal(8, *shape), rng)
    names = [name for name, _ in game.named_parameters()]
    moved = dict(zip(names, changes(before, game), strict=True))
    assert all(moved.values()), [name for name, did in moved.items() if not did]


def test_autoencoder_every_trainable_parameter_moves_in_one_update(rng):
    game = AutoEncoderObjective(make_networks())
    game.configure_optimizers(0.01)
    before = snapshot(game)
    found = metrics(game.update(normal(8, 5), rng))
    assert all(changes(before, game))
    assert found.keys() == {"loss_discriminator", "energy_real"}
    assert found["loss_discriminator"] == found["energy_real"]


def test_optimizers_hold_each_player_once():
    game = make_ebgan()
    held = {
        player: {id(p) for group in o.param_groups for p in group["params"]}
        for player, o in game.optimizers.items()
    }
    assert held["discriminator"] == {
        id(p) for m in (game.encoder, game.decoder) for p in m.parameters()
    }
    assert held["generator"] == {id(p) for p in game.generator.parameters()}


def test_make_adam_leaves_frozen_parameters_out():
    layer = make_networks().encoder
    layer[0].bias.requires_grad_(False)
    optimizer = make_adam([layer], 0.25, (0.3, 0.7))
    (group,) = optimizer.param_groups
    assert layer[0].bias not in set(group["params"])
    assert len(group["params"]) == 3
    assert group["lr"] == 0.25
    assert group["betas"] == (0.3, 0.7)


def test_make_adam_steps_bit_for_bit_as_torch_does():
    ours, theirs = make_networks().encoder, make_networks().encoder
    theirs.load_state_dict(ours.state_dict())
    lean = make_adam([ours], 0.1, (0.5, 0.99))
    plain = torch.optim.Adam(theirs.parameters(), lr=0.1, betas=(0.5, 0.99), fused=True)
    for step in range(4):
        for layers, optimizer in ((ours, lean), (theirs, plain)):
            optimizer.zero_grad()
            layers(normal(8, 5, seed=step)).square().mean().backward()
            if step < 2:  # a weight without gradient joins later
                layers[0].bias.grad = None
            optimizer.param_groups[0]["lr"] = 0.1 / (1 + step)
            optimizer.step()
        if step == 2:
            restored = make_adam([ours], 1.0, (0.5, 0.99))
            restored.load_state_dict(lean.state_dict())
            lean = restored
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, other)


class Turned(nn.Module):
    """A layer whose gradient autograd makes with its axes the other way round in memory."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.weight = nn.Parameter(normal(n_out, n_in))

    def forward(self, x):
        return torch.einsum("ni,oi->no", x, self.weight)


def normed_convolutions():
    wide = nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 4, 3, padding=1))
    return AutoEncoder(wide, nn.Conv2d(4, 2, 3, padding=1)), (2, 6, 6)


def shared_layer():
    shared = nn.Linear(5, 5)
    encoder, decoder = nn.Sequential(shared, nn.Tanh()), nn.Sequential(nn.Linear(5, 5), shared)
    return AutoEncoder(encoder, decoder), (5,)


def deep_convolutions():
    fold, unfold = nn.Unflatten(1, (1, 2)), nn.Flatten(1, 2)
    layers = [nn.Conv3d(1, 3, 3, padding=1), nn.Conv3d(3, 1, 3, padding=1)]
    encoder, decoder = nn.Sequential(fold, layers[0]), nn.Sequential(layers[1], unfold)
    return AutoEncoder(encoder, decoder), (2, 4, 4)


@pytest.fixture(params=[True, False], ids=["onednn", "no onednn"])
def onednn(request):
    """With and without the kernels that decide in which layout gradients come."""
    before, *_ = torch.backends.mkldnn.set_flags(request.param)
    yield
    torch.backends.mkldnn.set_flags(before)


@pytest.mark.parametrize(
    "make",
    [
        lambda: (AutoEncoder(Turned(5, 3), Turned(3, 5)), (5,)),
        normed_convolutions,
        shared_layer,
        deep_convolutions,
        lambda: (make_networks((2, 9, 12)), (2, 9, 12)),
    ],
    ids=["turned", "weight norm", "shared", "3d", "default"],
)
def test_descend_steps_as_backward_and_torchs_adam_do(make, onednn, rng):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        networks, shape = make()
    ours = AutoEncoderObjective(networks)
    place(ours, torch.device("cpu"))
    theirs = copy.deepcopy(ours)
    ours.configure_optimizers(0.01)
    plain = torch.optim.Adam(theirs.parameters(), lr=0.01, betas=ours.betas, foreach=False)
    for step in range(3):
        rows = normal(8, *shape, seed=step)
        ours.update(rows, rng)
        plain.zero_grad()
        theirs.energy(rows).mean().backward()
        plain.step()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=2e-5)


def test_training_makes_real_energy_fall_and_generated_energy_rise(rng):
    # One discriminator, trained against a generator that stands still.
    game = make_ebgan(margin=3.0)
    real, generated = normal(64, 5) * 0.1 + 1, normal(64, 5, seed=1) * 0.1 - 1
    with torch.no_grad():
        before = game.energy(real).mean() - game.energy(generated).mean()
    for _ in range(200):
        game._update_discriminator(real, generated, rng)
    with torch.no_grad():
        assert game.energy(real).mean() < 0.1
        assert game.energy(generated).mean() > 2
        assert game.energy(real).mean() - game.energy(generated).mean() < before


# --- formulas ---------------------------------------------------------------------------------


class Tiny:
    """A linear game whose every number NumPy can repeat."""

    def __init__(self, **options):
        rng = np.random.default_rng(3)

        def draw(*shape):  # numbers that float32 holds exactly
            return rng.normal(size=shape).astype(np.float32).astype(np.float64)

        self.weights = {"encoder": draw(2, 3), "decoder": draw(3, 2), "generator": draw(3, 2)}
        self.real, self.latents = draw(4, 3), draw(4, 2)
        self.game = EBGANObjective(
            Networks(*(self.layer(self.weights[name]) for name in self.weights)),
            input_shape=(3,),
            latent_dim=2,
            **options,
        )
        # The one random draw of a game without noise and replay.
        self.game.draw_latents = lambda n, rng, device: torch.from_numpy(self.latents).float()

    @staticmethod
    def layer(weight):
        layer = nn.utils.skip_init(nn.Linear, *weight.T.shape, bias=False)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(weight))
        return layer

    def current(self, name):
        return getattr(self.game, name).weight.detach().double().numpy()

    def codes(self, x, current=False):
        return x @ (self.current("encoder") if current else self.weights["encoder"]).T

    def energies(self, x, current=False):
        decoder = self.current("decoder") if current else self.weights["decoder"]
        return oracles.energy(x, self.codes(x, current) @ decoder.T)

    @property
    def generated(self):
        return self.latents @ self.weights["generator"].T


@pytest.mark.parametrize("hinge_weight", [1.0, 0.3])
@pytest.mark.parametrize("pull_away_weight", [0.0, 0.1, 2.0])
def test_ebgan_metrics_equal_oracle(hinge_weight, pull_away_weight, rng):
    tiny = Tiny(margin=4.0, pull_away_weight=pull_away_weight, hinge_weight=hinge_weight)
    game = tiny.game
    game.configure_optimizers(0.05)
    found = metrics(game.update(torch.from_numpy(tiny.real).float(), rng))
    real = tiny.energies(tiny.real)
    generated = tiny.energies(tiny.generated)
    assert 0 < (generated < 4.0).mean() < 1, "the margin must divide the generated rows"
    expected = {
        "loss_discriminator": oracles.discriminator_loss(real, generated, 4.0, hinge_weight),
        # The generator meets the discriminator that has just moved.
        "loss_generator": oracles.generator_loss(
            tiny.energies(tiny.generated, current=True),
            tiny.codes(tiny.generated, current=True),
            pull_away_weight,
        ),
        "energy_real": real.mean(),
        "energy_generated": generated.mean(),
        "pull_away": oracles.pulling_away(tiny.codes(tiny.generated, current=True)),
        "hinge_active": (generated < 4.0).mean(),
        "margin": 4.0,
    }
    assert found == pytest.approx(expected, rel=1e-5)
    stale = oracles.generator_loss(generated, tiny.codes(tiny.generated), pull_away_weight)
    assert found["loss_generator"] != pytest.approx(stale, rel=1e-3)


def test_generator_gradient_goes_through_both_uses_of_the_sample():
    tiny = Tiny(margin=4.0, pull_away_weight=0.0)
    game = tiny.game
    game.configure_optimizers(0.0)
    game._update_generator(game.generator(torch.from_numpy(tiny.latents).float()))
    residual = np.eye(3) - tiny.weights["decoder"] @ tiny.weights["encoder"]
    generated = tiny.latents @ tiny.weights["generator"].T
    # By hand: D(g) = |R g|^2 / 3, so that dL/dG = mean over rows of 2/3 R^T R g z^T.
    by_hand = 2 / 3 * residual.T @ residual @ generated.T @ tiny.latents / 4
    np.testing.assert_allclose(game.generator.weight.grad.numpy(), by_hand, rtol=1e-5)


def test_discriminator_gradient_stops_at_the_generated_sample():
    tiny = Tiny(margin=100.0)
    game = tiny.game
    game.configure_optimizers(0.0)
    game.update(torch.from_numpy(tiny.real).float(), torch.Generator())
    residual = np.eye(3) - tiny.weights["decoder"] @ tiny.weights["encoder"]
    # dL_D/dDec: real rows pull it down, generated ones push it up, each by -2/3 R x (Enc x)^T.
    by_hand = sum(
        sign * -2 / 3 * residual @ x.T @ (x @ tiny.weights["encoder"].T) / len(x)
        for sign, x in ((1, tiny.real), (-1, tiny.generated))
    )
    np.testing.assert_allclose(game.decoder.weight.grad.numpy(), by_hand, rtol=1e-4)


def test_energy_and_its_map_equal_oracle_in_evaluation():
    tiny = Tiny(margin=4.0)
    x = torch.from_numpy(tiny.real).float()
    with torch.no_grad():
        energy, split = tiny.game.energy(x), tiny.game.energy_map(x)
    assert energy.dtype == torch.float64
    np.testing.assert_allclose(energy.numpy(), tiny.energies(tiny.real), rtol=1e-5)
    np.testing.assert_allclose(split.mean(dim=1).numpy(), energy.numpy(), rtol=1e-5)
    rebuilt = tiny.game.reconstruct(x).detach().numpy()
    np.testing.assert_allclose(split.numpy(), (tiny.real - rebuilt) ** 2, rtol=1e-5)


@pytest.mark.parametrize("shape", [(5,), (1, 8, 8)])
def test_autoencoder_is_exactly_ebgans_real_part(shape, rng):
    # Beyond the margin generated rows push nothing, and the discriminator is an autoencoder.
    game = make_ebgan(shape, margin=1e-9)
    control = AutoEncoderObjective(copy.deepcopy(make_networks(shape)))
    control.configure_optimizers(0.01)
    for step in range(4):
        batch = normal(8, *shape, seed=step)
        found = metrics(game.update(batch, rng))
        assert found["hinge_active"] == 0
        for name, value in metrics(control.update(batch, rng)).items():
            assert found[name] == pytest.approx(value, rel=1e-5)
    for part in ("encoder", "decoder"):
        for a, b in zip(
            getattr(game, part).parameters(), getattr(control, part).parameters(), strict=True
        ):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_update_makes_as_many_generated_rows_as_real_ones(rng):
    game = make_ebgan()
    seen = []
    game.generator.register_forward_hook(lambda m, i, out: seen.append(len(out)))
    for n in (7, 2, 1):
        assert np.isfinite(list(metrics(game.update(normal(n, 5), rng)).values())).all()
    assert seen == [7, 2, 2]  # batch normalisation and the pulling-away term need two


def test_update_draws_from_the_given_generator_only():
    batch = normal(8, 5)
    options = {"replay_size": 16, "noise": 0.2}
    first, again, other = (
        metrics(make_ebgan(**options).update(batch, torch.Generator().manual_seed(seed)))
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


# --- margin -----------------------------------------------------------------------------------


def test_margin_follows_its_schedule(rng):
    game = make_ebgan(margin=lambda progress: 2.0 - progress)
    assert game.margin.item() == 2.0
    for progress in (0.0, 0.25, 0.75):
        game.begin_step(progress)
        found = metrics(game.update(normal(4, 5), rng))
        assert game.margin.item() == found["margin"] == 2.0 - progress


def test_margin_given_as_a_number_stays(rng):
    game = make_ebgan(margin=0.7)
    for progress in (0.0, 0.9):
        game.begin_step(progress)
    assert game.margin.item() == pytest.approx(0.7)
    assert "margin" in game.state_dict()


def test_metrics_of_a_step_do_not_follow_a_later_margin(rng):
    game = make_ebgan(margin=lambda progress: 2.0 - progress)
    first = game.update(normal(4, 5), rng)
    game.begin_step(0.5)
    assert first["margin"] == 2.0


# --- denoising --------------------------------------------------------------------------------


def test_noise_level_is_uniform_up_to_the_given_one(rng):
    game = AutoEncoderObjective(make_networks(), noise=0.4)
    x = normal(500, 4000)
    added = (game.corrupt(x, rng) - x).numpy()
    levels = added.std(axis=1)
    assert kstest(levels / 0.4, "uniform").pvalue > 0.01
    standard = added / levels[:, None]
    assert kstest(standard[:5].ravel(), "norm").pvalue > 0.01
    assert abs(standard.mean()) < 0.005
    assert abs(np.corrcoef(standard[0], standard[1])[0, 1]) < 0.06


def test_noise_level_is_one_number_for_an_image(rng):
    game = AutoEncoderObjective(make_networks(), noise=1.0)
    added = game.corrupt(torch.zeros(30, 2, 40, 40), rng)
    by_channel = added.std(dim=(2, 3))
    torch.testing.assert_close(by_channel[:, 0], by_channel[:, 1], rtol=0.15, atol=0)
    assert by_channel.max() > 3 * by_channel.min()


def test_noise_zero_returns_the_rows_themselves(rng):
    x = normal(3, 5)
    state = rng.get_state()
    assert AutoEncoderObjective(make_networks()).corrupt(x, rng) is x
    assert torch.equal(rng.get_state(), state)


def test_noise_never_changes_the_batch_itself(rng):
    x = normal(3, 5)
    game = make_ebgan(noise=0.5)
    game.update(x, rng)
    assert torch.equal(x, normal(3, 5))


def test_noise_meets_real_and_generated_inputs_and_no_target(rng):
    game = make_ebgan(noise=0.5, margin=1.0)
    real, generated = normal(6, 5), normal(6, 5, seed=1)
    plain = game.reconstruct
    seen = []

    def spied(x):
        seen.append((x.detach().clone(), plain(x).detach()))
        return plain(x)

    game.reconstruct = spied
    found = metrics(game._update_discriminator(real, generated, rng))
    ((inputs, rebuilt),) = seen
    assert (inputs[:6] != real).all()
    assert (inputs[6:] != generated).all()
    assert not torch.equal(inputs[:6] - real, inputs[6:] - generated)
    energies = oracles.energy(torch.cat([real, generated]).numpy(), rebuilt.numpy())
    assert found["energy_real"] == pytest.approx(energies[:6].mean(), rel=1e-5)
    assert found["energy_generated"] == pytest.approx(energies[6:].mean(), rel=1e-5)


def test_noise_is_absent_from_scoring():
    noisy, plain = (AutoEncoderObjective(make_networks(), noise=noise) for noise in (0.5, 0.0))
    x = normal(6, 5)
    with torch.no_grad():
        assert torch.equal(noisy.energy(x), plain.energy(x))
        assert torch.equal(noisy.energy(x), noisy.energy(x))


def test_noise_meets_the_autoencoders_input_only(rng):
    game = AutoEncoderObjective(make_networks(), noise=0.5)
    game.configure_optimizers(0.0)
    x = normal(6, 5)
    inputs = []
    game.encoder.register_forward_hook(lambda m, args, out: inputs.append(args[0].clone()))
    loss = game.update(x, rng)["loss_discriminator"]
    assert (inputs[0] != x).all()
    with torch.no_grad():
        rebuilt = game.reconstruct(inputs[0])
    assert loss.item() == pytest.approx(oracles.energy(x, rebuilt).mean(), rel=1e-5)


# --- replay -----------------------------------------------------------------------------------


def stored(buffer):
    return buffer.rows[: buffer.n_stored.item(), 0].tolist()


def column(*values):
    return torch.tensor(values, dtype=torch.float32)[:, None]


def test_replay_is_a_ring():
    buffer = ReplayBuffer(5, (1,))
    assert stored(buffer) == []
    buffer.extend(column(1, 2, 3))
    assert stored(buffer) == [1, 2, 3]
    buffer.extend(column(4, 5, 6, 7))
    assert stored(buffer) == [6, 7, 3, 4, 5]
    buffer.extend(column(8))
    assert stored(buffer) == [6, 7, 8, 4, 5]
    assert buffer.n_stored.item() == 8


@pytest.mark.parametrize("sizes", [(3, 1, 4), (5, 5), (12,), (1,) * 9, (4, 12, 2)])
def test_replay_holds_the_latest_rows(sizes):
    buffer = ReplayBuffer(5, (1,))
    values = iter(range(1, 100))
    made = []
    for size in sizes:
        batch = [next(values) for _ in range(size)]
        made += batch
        buffer.extend(column(*batch))
        assert sorted(stored(buffer)) == made[-5:]


def test_replay_draws_uniformly_from_what_is_stored(rng):
    buffer = ReplayBuffer(10, (1,))
    assert torch.equal(buffer.draw(3, rng), torch.zeros(3, 1))
    buffer.extend(column(1, 2, 3, 4))
    drawn = buffer.draw(8000, rng)
    assert drawn.shape == (8000, 1)
    values, counts = drawn.unique(return_counts=True)
    assert values.tolist() == [1, 2, 3, 4]
    assert ((counts - 2000).abs() < 5 * (8000 * 0.25 * 0.75) ** 0.5).all()
    assert buffer.draw(0, rng).shape == (0, 1)


def test_replay_keeps_copies_of_the_rows():
    buffer = ReplayBuffer(4, (1,))
    batch = column(1, 2)
    buffer.extend(batch)
    batch.zero_()
    assert stored(buffer) == [1, 2]


@pytest.mark.parametrize(("ratio", "n", "n_new"), [(1, 9, 5), (2, 18, 9), (3, 27, 9)])
def test_negatives_are_half_new_half_replayed(ratio, n, n_new, rng):
    game = make_ebgan(replay_size=100, negatives_ratio=ratio)
    earlier = torch.full((50, 5), 7.0)
    game.replay.extend(earlier)
    new = normal(9, 5)
    first, others = game._mixed_with_replay(new, rng)
    assert torch.equal(first, new[:n_new])
    assert others.shape == (n - n_new, 5)
    known = torch.cat([earlier, new])
    assert all((known == row).all(dim=1).any() for row in others)
    assert game.replay.n_stored.item() == 59
    broad = game.negatives(40, rng)
    assert (broad == 7).all(dim=1).sum() > 20


def test_energy_generated_measures_new_rows_and_hinge_active_all_negatives(rng):
    game = make_ebgan(replay_size=100, margin=5.0, learning_rate=0.0)
    game.replay.extend(torch.full((90, 5), 50.0))  # far beyond the margin
    real, new = 0.1 * normal(10, 5), 0.1 * normal(10, 5, seed=1)
    found = metrics(game._update_discriminator(real, new, rng))
    with torch.no_grad():
        energies = game.energy(new[:5])
    assert (energies < 5).all()
    assert found["energy_generated"] == pytest.approx(energies.mean().item(), rel=1e-5)
    # Of the five replayed rows, at most some of the ten new ones are inside.
    assert 0.5 <= found["hinge_active"] < 1


def test_negatives_without_replay_are_samples():
    game = make_ebgan().eval()
    first, second = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    with torch.no_grad():
        assert torch.equal(game.negatives(6, first), game.sample(6, second))
    assert game.replay is None
    assert game.training_tensors() == {}
    assert AutoEncoderObjective(make_networks()).negatives(6, first) is None


def test_replay_holds_the_generators_rows_after_updates(rng):
    game = make_ebgan(replay_size=10)
    made = []
    game.generator.register_forward_hook(lambda m, i, out: made.append(out.detach()))
    for _ in range(3):
        game.update(normal(4, 5), rng)
    latest = torch.cat(made)[-10:]
    assert game.replay.n_stored.item() == 12
    assert {tuple(r.tolist()) for r in game.replay.rows} == {tuple(r.tolist()) for r in latest}
    assert not game.replay.rows.requires_grad


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda game: pickle.loads(pickle.dumps(game))],  # noqa: S301
    ids=["deepcopy", "pickle"],
)
def test_replay_and_optimizers_do_not_travel_in_copies(copied, rng):
    game = make_ebgan(replay_size=1000)
    game.update(normal(8, 5), rng)
    twin = copied(game)
    assert twin.optimizers == {}
    assert twin.replay.n_stored.item() == 0
    assert (twin.replay.rows == 0).all()
    assert len(twin.replay.rows) == 1000
    assert game.replay.n_stored.item() == 8
    assert len(game.optimizers) == 2
    assert not any(changes(snapshot(game), twin))
    twin.configure_optimizers(0.01)
    before = snapshot(game)
    twin.update(normal(8, 5), rng)
    assert not any(changes(before, game)), "the copy trains the original"


def test_replay_is_no_part_of_saved_models_but_of_checkpoints():
    game = make_ebgan(replay_size=10)
    assert not any("replay" in name for name in game.state_dict())
    tensors = game.training_tensors()
    assert tensors.keys() == {"replay.rows", "replay.n_stored"}
    assert tensors["replay.rows"].data_ptr() == game.replay.rows.data_ptr()


# --- samples and verdicts ---------------------------------------------------------------------


def test_sample_is_reproducible_by_generator():
    game = make_ebgan((1, 8, 8)).eval()
    first, again, other = (game.sample(3, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert first.shape == (3, 1, 8, 8)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_latents_are_standard_normal(rng):
    latents = make_ebgan(latent_dim=6).draw_latents(5000, rng, torch.device("cpu"))
    assert latents.shape == (5000, 6)
    assert kstest(latents.flatten().numpy(), "norm").pvalue > 0.01


def test_game_without_generator_cannot_sample(rng):
    with pytest.raises(InvalidParameterError, match="generator, got AutoEncoderObjective"):
        AutoEncoderObjective(make_networks()).sample(3, rng)


def test_objective_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        Objective()


def history(**last):
    record = {
        "energy_real": 0.02,
        "energy_generated": 0.08,
        "margin": 0.1,
        "hinge_active": 0.6,
        "pull_away": 0.2,
    }
    return {
        name: [record[name], record[name], *np.atleast_1d(last.get(name, record[name]))]
        for name in record
    }


@pytest.mark.parametrize(
    ("last", "words"),
    [
        ({"energy_real": 0.095}, r"gave up: real energy 0\.095 reached the margin 0\.1"),
        ({"pull_away": 0.97}, r"collapsed to one direction .*0\.97.*pull_away_weight"),
        (
            {"energy_real": 0.05, "energy_generated": 0.03},
            r"generated energy 0\.03 fell below real energy 0\.05",
        ),
    ],
)
def test_diagnose_names_the_problem(last, words):
    import re

    assert re.search(words, make_ebgan().diagnose(history(**last)))


def test_diagnose_of_a_game_that_never_started():
    record = {**history(), "hinge_active": [0.0, 0.004, 0.0]}
    verdict = make_ebgan().diagnose(record)
    assert verdict.startswith("the game never started")
    assert "margin (0.1)" in verdict
    assert verdict.endswith("raise margin")
    # It did start once: generated energy above the margin is then a won game.
    assert make_ebgan().diagnose({**record, "hinge_active": [0.5, 0.0, 0.0]}) is None


def test_diagnose_of_a_healthy_game_says_nothing():
    assert make_ebgan().diagnose(history()) is None
    # Earlier trouble that went away is no trouble.
    past = {**history(), "energy_real": [0.2, 0.02], "pull_away": [1.0, 0.1]}
    assert make_ebgan().diagnose(past) is None
    assert AutoEncoderObjective(make_networks()).diagnose({"energy_real": [1.0]}) is None
