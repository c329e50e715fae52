"""Network families, their initialisation, and factories of the user's own."""

import math

import pytest
import torch
from torch import nn

from ebgan_detect.errors import InvalidParameterError
from ebgan_detect.networks import (
    Networks,
    build_networks,
    conv_networks,
    default_channels,
    mlp_networks,
)
from ebgan_detect.training import PRECISIONS, autocast, place

WEIGHTED = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
NORMALISING = (nn.BatchNorm1d, nn.BatchNorm2d)

pytestmark = pytest.mark.usefixtures("unchanged_global_random_state")


@pytest.fixture
def seeded_global_generator(unchanged_global_random_state):
    """For tests that build layers themselves: layers know no other generator."""
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        yield


def make_mlp(shape, *, hidden_sizes=(16, 8), code_dim=3, latent_dim=4, bounded=False, seed=0):
    return build_networks(
        lambda s: mlp_networks(
            s,
            hidden_sizes=hidden_sizes,
            code_dim=code_dim,
            latent_dim=latent_dim,
            bounded=bounded,
        ),
        shape,
        latent_dim=latent_dim,
        seed=seed,
    )


def make_conv(shape, *, hidden_sizes=(4, 8), code_dim=6, latent_dim=5, bounded=True, seed=0):
    return build_networks(
        lambda s: conv_networks(
            s,
            hidden_sizes=hidden_sizes,
            code_dim=code_dim,
            latent_dim=latent_dim,
            bounded=bounded,
        ),
        shape,
        latent_dim=latent_dim,
        seed=seed,
    )


def parts(networks):
    return {
        "encoder": networks.encoder,
        "decoder": networks.decoder,
        "generator": networks.generator,
    }


def n_latents(networks):
    return next(networks.generator.parameters()).shape[1]


# --- shapes -----------------------------------------------------------------------------------

CONV_SHAPES = [
    (1, 8, 8),
    (2, 9, 13),
    (3, 17, 30),
    (1, 28, 28),
    (5, 33, 33),
    (3, 32, 32),
    (1, 31, 63),
    (1, 64, 64),
    (2, 8, 256),
    (1, 256, 255),
]


@pytest.mark.parametrize("shape", CONV_SHAPES, ids=str)
def test_conv_networks_return_exactly_the_inputs_shape(shape, rng):
    networks = make_conv(shape, hidden_sizes=(3,) * len(default_channels(shape)))
    code = networks.encoder(torch.rand((2, *shape), generator=rng))
    assert code.shape == (2, 6)
    assert networks.decoder(code).shape == (2, *shape)
    assert networks.generator(torch.randn(2, 5, generator=rng)).shape == (2, *shape)


@pytest.mark.parametrize("sides", [(h, w) for h in range(8, 20) for w in (8, 15, 16, 17)], ids=str)
def test_conv_networks_deepest_level_fits_every_size(sides):
    # build_networks compares every shape.
    make_conv((1, *sides), hidden_sizes=(2,) * (min(sides).bit_length() - 1))


@pytest.mark.parametrize("shape", [(1,), (5,), (4, 6), (3, 4, 5)], ids=str)
@pytest.mark.parametrize("hidden_sizes", [(), (7,), (9, 4, 2)], ids=str)
def test_mlp_networks_return_exactly_the_inputs_shape(shape, hidden_sizes, rng):
    networks = make_mlp(shape, hidden_sizes=hidden_sizes)
    code = networks.encoder(torch.randn((2, *shape), generator=rng))
    assert code.shape == (2, 3)
    assert networks.decoder(code).shape == (2, *shape)
    assert networks.generator(torch.randn(2, 4, generator=rng)).shape == (2, *shape)


def test_mlp_networks_have_the_stated_widths():
    networks = make_mlp((5,), hidden_sizes=(16, 8))
    widths = {
        name: [(m.in_features, m.out_features) for m in part if isinstance(m, nn.Linear)]
        for name, part in parts(networks).items()
    }
    assert widths == {
        "encoder": [(5, 16), (16, 8), (8, 3)],
        "decoder": [(3, 8), (8, 16), (16, 5)],
        "generator": [(4, 8), (8, 16), (16, 5)],
    }


@pytest.mark.parametrize(
    "shape", [(1, 7, 8), (1, 8, 7), (3, 257, 64), (3, 64, 257), (28, 28, 1)], ids=str
)
def test_conv_networks_refuse_sides_outside_8_to_256(shape):
    with pytest.raises(InvalidParameterError, match="8 to 256 pixels") as caught:
        make_conv(shape)
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize(("side", "most"), [(8, 3), (28, 4), (31, 4), (32, 5)])
def test_conv_networks_refuse_more_levels_than_halvings(side, most):
    make_conv((1, side, side), hidden_sizes=(2,) * most)
    with pytest.raises(InvalidParameterError, match=f"hidden_sizes .* at most {most} levels"):
        make_conv((1, side, side), hidden_sizes=(2,) * (most + 1))


@pytest.mark.parametrize(
    ("side", "channels"),
    [
        (8, (32,)),
        (15, (32,)),
        (16, (32, 64)),
        (28, (32, 64)),
        (32, (32, 64, 128)),
        (64, (32, 64, 128, 256)),
        (256, (32, 64, 128, 256, 256, 256)),
    ],
)
def test_default_channels_double_up_to_256(side, channels):
    assert default_channels((1, side, side)) == channels
    assert default_channels((3, side, 256)) == channels
    # The innermost image has a shorter side of 4 to 7 pixels.
    assert 4 <= side >> len(channels) < 8


@pytest.mark.parametrize("make", [make_mlp, make_conv])
@pytest.mark.parametrize("bounded", [True, False])
def test_networks_outputs_lie_in_unit_interval_only_if_bounded(make, bounded, rng):
    shape = (5,) if make is make_mlp else (2, 9, 13)
    networks = make(shape, bounded=bounded)
    far = 30 * torch.randn((64, *shape), generator=rng)
    outputs = [
        networks.decoder(networks.encoder(far)),
        networks.generator(30 * torch.randn(64, n_latents(networks), generator=rng)),
    ]
    for output in outputs:
        assert bool(((output >= 0) & (output <= 1)).all()) is bounded


def test_conv_networks_without_levels_are_affine(rng):
    # An activation between the only layer and the output would leave out dark pixels.
    networks = make_conv((2, 9, 13), hidden_sizes=(), bounded=False)
    for player, n in (networks.decoder, 6), (networks.generator, 5):
        vectors = torch.randn(4, n, generator=rng)
        there, back, middle = (player(sign * vectors) for sign in (1, -1, 0))
        torch.testing.assert_close(there + back, 2 * middle)
        assert bool(middle.any())


# --- behaviour --------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "shape"), [(make_mlp, (5,)), (make_conv, (2, 17, 12))])
def test_autoencoder_does_not_mix_rows(make, shape, rng):
    networks = make(shape)  # in training mode, where batch normalisation would show
    x = torch.rand((7, *shape), generator=rng)
    with torch.no_grad():
        together = networks.decoder(networks.encoder(x))
        for i in range(7):
            alone = networks.decoder(networks.encoder(x[i : i + 1]))[0]
            torch.testing.assert_close(alone, together[i], rtol=0, atol=1e-6)
        others = torch.cat([x[:1], 1e3 * x[1:]])
        changed = networks.decoder(networks.encoder(others))
    torch.testing.assert_close(changed[0], together[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_conv_networks_keep_channels_last_both_ways(precision, rng):
    """A layer that changes the layout of a feature map makes the next ones several times slower."""
    networks, cpu = make_conv((3, 17, 30)), torch.device("cpu")
    seen = []

    def watch(layer, _, output):
        if output.ndim == 4:
            seen.append(output)
            output.register_hook(seen.append)

    for part in parts(networks).values():
        place(part, cpu)
        for layer in part.modules():
            layer.register_forward_hook(watch)
    with autocast(cpu, precision):
        made = networks.generator(torch.randn(8, n_latents(networks), generator=rng))
        networks.decoder(networks.encoder(made)).float().square().sum().backward()
    assert len(seen) > 30
    last = torch.channels_last
    assert [t.shape for t in seen if not t.is_contiguous(memory_format=last)] == []


def test_conv_networks_copy_no_gradient(rng):
    """As for a change in place of a view, which puts the copy into the other layout."""
    networks = make_conv((3, 17, 30))
    made = networks.generator(torch.randn(2, n_latents(networks), generator=rng))
    waiting, seen = [networks.decoder(networks.encoder(made)).grad_fn], set()
    while waiting:
        step = waiting.pop()
        seen.add(step)
        waiting += [earlier for earlier, _ in step.next_functions if earlier not in (None, *seen)]
    names = {step.name() for step in seen}
    assert "LeakyReluBackward0" in names
    assert "CopySlices" not in names


@pytest.mark.parametrize("shape", [s for s in CONV_SHAPES if s[0] == 1], ids=str)
@pytest.mark.parametrize("part", ["decoder", "generator"])
def test_conv_networks_write_grey_images_alike_with_and_without_gradients(shape, part, rng):
    networks = make_conv(shape, bounded=False)
    network = parts(networks)[part].eval()
    vectors = torch.randn(3, {"decoder": 6, "generator": 5}[part], generator=rng)
    trained = network(vectors).detach()
    with torch.no_grad():
        scored = network(vectors)
    assert not torch.equal(trained, torch.zeros_like(trained))
    torch.testing.assert_close(scored, trained, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("make", "shape"), [(make_mlp, (5,)), (make_conv, (2, 9, 13))])
def test_networks_every_parameter_gets_a_gradient(make, shape, rng):
    networks = make(shape)
    x = torch.rand((8, *shape), generator=rng)
    latents = torch.randn(8, n_latents(networks), generator=rng)
    weights = torch.randn((8, *shape), generator=rng)
    rebuilt = networks.decoder(networks.encoder(x))
    ((rebuilt + networks.generator(latents)) * weights).sum().backward()
    largest = {
        f"{part_name}.{name}": float(parameter.grad.abs().max())
        for part_name, part in parts(networks).items()
        for name, parameter in part.named_parameters()
    }
    # A bias that a normalisation cancels would get rounding noise only.
    assert min(largest.values()) > 1e-4 * max(largest.values()), largest


# --- initialisation ---------------------------------------------------------------------------


def bound(layer):
    """Half-width of the uniform distribution that torch documents for a layer's weights."""
    inputs = layer.weight[0].numel()
    return 1 / math.sqrt(inputs)


def check_initialised(network):
    """Every weighted layer is drawn from its distribution, every normalisation the identity."""
    n_layers = 0
    for name, layer in network.named_modules():
        if isinstance(layer, WEIGHTED):
            n, expected = layer.weight.numel(), bound(layer)
            assert layer.weight.abs().max() <= expected, name
            # The relative error of a uniform sample's deviation is below 0.5 / sqrt(n).
            assert layer.weight.std().item() == pytest.approx(
                expected / math.sqrt(3), rel=5 * 0.5 / math.sqrt(n) + 0.01
            ), name
            if layer.bias is not None:
                assert layer.bias.abs().max() <= expected, name
                assert layer.bias.abs().min() > 0, name
            n_layers += 1
        elif isinstance(layer, NORMALISING):
            assert (layer.weight == 1).all()
            assert (layer.bias == 0).all()
            assert (layer.running_mean == 0).all()
            assert (layer.running_var == 1).all()
            n_layers += 1
        else:
            assert not list(layer.parameters(recurse=False)), name
    return n_layers


def test_initialisation_reaches_every_layer_of_conv_networks():
    networks = make_conv((3, 32, 32), hidden_sizes=(16, 24, 32), code_dim=20, latent_dim=30)
    assert check_initialised(networks.encoder) == 4
    assert check_initialised(networks.decoder) == 4
    # The generator has three normalisations more.
    assert check_initialised(networks.generator) == 7


def test_initialisation_reaches_every_layer_of_mlp_networks():
    networks = make_mlp((40,), hidden_sizes=(64, 32), code_dim=16, latent_dim=24)
    for network in parts(networks).values():
        assert check_initialised(network) == 3


def test_generator_has_twice_the_decoders_channels():
    networks = make_conv((1, 28, 28), hidden_sizes=(8, 16), code_dim=4, latent_dim=5)

    def channels(network):
        return [m.in_channels for m in network if isinstance(m, nn.ConvTranspose2d)]

    assert channels(networks.decoder) == [16, 8]
    assert channels(networks.generator) == [32, 16]


# --- seeds and factories ----------------------------------------------------------------------


def weights(networks):
    return [p.detach().clone() for part in parts(networks).values() for p in part.parameters()]


@pytest.mark.parametrize(("make", "shape"), [(make_mlp, (5,)), (make_conv, (1, 8, 8))])
def test_build_networks_is_reproducible_by_seed(make, shape):
    first, again, other = (weights(make(shape, seed=seed)) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True) if a.ndim > 1)


def linear_factory(shape):
    (d,) = shape
    return nn.Linear(d, 2), nn.Linear(2, d), nn.Linear(3, d)


def test_build_networks_user_factory_is_seeded():
    first, again = (
        build_networks(linear_factory, (4,), latent_dim=3, seed=1).encoder.weight for _ in range(2)
    )
    assert torch.equal(first, again)


@pytest.mark.parametrize("wrap", [tuple, lambda modules: Networks(*modules)])
def test_build_networks_takes_tuple_or_networks(wrap):
    networks = build_networks(lambda s: wrap(linear_factory(s)), (4,), latent_dim=3, seed=0)
    assert isinstance(networks, Networks)
    assert networks.decoder.out_features == 4
    assert all(part.training for part in parts(networks).values())


def test_build_networks_leaves_batch_statistics_alone():
    def factory(shape):
        return nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2)), nn.Linear(2, 4), nn.Linear(3, 4)

    norm = build_networks(factory, (4,), latent_dim=3, seed=0).encoder[0]
    assert norm.num_batches_tracked == 0
    assert norm.training
    assert torch.equal(norm.running_var, torch.ones(4))


@pytest.mark.parametrize(
    "made",
    [
        None,
        nn.Linear(4, 4),
        (nn.Linear(4, 2), nn.Linear(2, 4)),
        (nn.Linear(4, 2), nn.Linear(2, 4), "generator"),
        (nn.Linear(4, 2), nn.Linear(2, 4), torch.relu),
    ],
    ids=["none", "module", "two", "text", "function"],
)
def test_build_networks_factory_returning_something_else_raises(made):
    with pytest.raises(InvalidParameterError, match=r"architecture .*three modules") as caught:
        build_networks(lambda s: made, (4,), latent_dim=3, seed=0)
    assert repr(made) in str(caught.value)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ((nn.Linear(5, 2), nn.Linear(2, 4), nn.Linear(3, 4)), r"\(4,\) and latent_dim=3"),
        ((nn.Linear(4, 2), nn.Linear(3, 4), nn.Linear(3, 4)), r"\(4,\) and latent_dim=3"),
        ((nn.Linear(4, 2), nn.Linear(2, 4), nn.Linear(9, 4)), r"\(4,\) and latent_dim=3"),
        ((nn.Linear(4, 2), nn.Linear(2, 1), nn.Linear(3, 4)), r"decoder .*\(n, 4\), got \(2, 1\)"),
        ((nn.Linear(4, 2), nn.Linear(2, 4), nn.Linear(3, 5)), r"generator .*\(n, 4\).*\(2, 5\)"),
        (
            (nn.Linear(4, 2), nn.Linear(2, 4), nn.Sequential(nn.Linear(3, 4), nn.Flatten(0))),
            r"generator .*\(n, 4\), got \(8,\)",
        ),
    ],
    ids=["encoder-in", "decoder-in", "generator-in", "decoder-out", "generator-out", "rank"],
)
def test_build_networks_factory_of_other_shapes_raises(made, message):
    with pytest.raises(InvalidParameterError, match=message):
        build_networks(lambda s: made, (4,), latent_dim=3, seed=0)


class TwoOutputs(nn.Module):
    def forward(self, x):
        return x, x


@pytest.mark.parametrize(
    "made",
    [
        (TwoOutputs(), nn.Linear(4, 4), nn.Linear(3, 4)),
        (nn.Linear(4, 2), nn.Sequential(nn.Linear(2, 4), TwoOutputs()), nn.Linear(3, 4)),
    ],
    ids=["encoder", "decoder"],
)
def test_build_networks_factory_of_several_outputs_raises(made):
    with pytest.raises(InvalidParameterError):
        build_networks(lambda s: made, (4,), latent_dim=3, seed=0)


def test_build_networks_lazy_layers_are_seeded():
    def factory(shape):
        return nn.LazyLinear(2), nn.LazyLinear(4), nn.LazyLinear(4)

    def built(burn):
        with torch.random.fork_rng(devices=[]):
            torch.rand(burn)  # the caller's generator stands elsewhere
            return build_networks(factory, (4,), latent_dim=3, seed=0).encoder.weight

    assert torch.equal(built(1), built(2))
