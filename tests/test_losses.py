"""Losses against the paper's formulas."""

import numpy as np
import oracles
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ebgan_detect.errors import InvalidInputError
from ebgan_detect.losses import (
    discriminator_loss,
    energy_map,
    generator_loss,
    hinge,
    pulling_away,
    reconstruction_energy,
)

pytestmark = pytest.mark.usefixtures("unchanged_global_random_state")

ENERGIES = hnp.arrays(np.float64, st.integers(1, 12), elements=st.floats(0, 10))
MARGINS = st.floats(1e-3, 10)
CODES = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 6), st.integers(1, 4)),
    elements=st.floats(-100, 100).map(lambda v: round(v, 3)),
)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# --- energy ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (4, 3), (3, 5, 2), (2, 3, 4, 5)])
def test_reconstruction_energy_equals_oracle(shape):
    x, rebuilt = normal(*shape), normal(*shape, seed=1)
    expected = oracles.energy(x.numpy(), rebuilt.numpy())
    np.testing.assert_allclose(reconstruction_energy(x, rebuilt).numpy(), expected, rtol=1e-12)


def test_reconstruction_energy_float32_equals_oracle():
    x, rebuilt = (normal(7, 200, seed=seed, dtype=torch.float32) for seed in (0, 1))
    expected = oracles.energy(x.numpy(), rebuilt.numpy())
    np.testing.assert_allclose(reconstruction_energy(x, rebuilt).numpy(), expected, rtol=1e-5)


def test_energy_map_averages_to_energy():
    x, rebuilt = normal(3, 2, 4, 5), normal(3, 2, 4, 5, seed=1)
    split = energy_map(x, rebuilt)
    assert split.shape == x.shape
    assert (split >= 0).all()
    torch.testing.assert_close(split.mean(dim=(1, 2, 3)), reconstruction_energy(x, rebuilt))


def test_energy_is_symmetric_and_zero_only_at_the_input():
    x, rebuilt = normal(3, 4), normal(3, 4, seed=1)
    assert (reconstruction_energy(x, rebuilt) > 0).all()
    assert (reconstruction_energy(x, x) == 0).all()
    assert torch.equal(reconstruction_energy(x, rebuilt), reconstruction_energy(rebuilt, x))


@pytest.mark.parametrize("function", [energy_map, reconstruction_energy])
@pytest.mark.parametrize("shape", [(2, 1), (1, 3), (3,), (2, 3, 1)])
def test_energy_of_other_shape_raises(function, shape):
    # All of these would broadcast silently.
    with pytest.raises(InvalidInputError, match=r"reconstruction .*\(2, 3\)"):
        function(torch.zeros(2, 3), torch.zeros(shape))


# --- hinge and discriminator loss -------------------------------------------------------------


@given(energies=ENERGIES, margin=MARGINS)
def test_hinge_equals_oracle(energies, margin):
    found = hinge(torch.from_numpy(energies), margin=margin)
    np.testing.assert_allclose(found.numpy(), oracles.hinge(energies, margin), rtol=1e-12)
    assert (found >= 0).all()
    assert (found <= margin).all()


@given(real=ENERGIES, generated=ENERGIES, margin=MARGINS, weight=st.floats(0.01, 5))
def test_discriminator_loss_equals_oracle(real, generated, margin, weight):
    found = discriminator_loss(
        torch.from_numpy(real), torch.from_numpy(generated), margin=margin, hinge_weight=weight
    )
    expected = oracles.discriminator_loss(real, generated, margin, weight)
    np.testing.assert_allclose(found.item(), expected, rtol=1e-12)


@given(generated=ENERGIES, margin=MARGINS)
def test_discriminator_loss_takes_mean_of_hinges_not_hinge_of_mean(generated, margin):
    of_mean = max(0.0, margin - generated.mean())
    loss = discriminator_loss(torch.zeros(1).double(), torch.from_numpy(generated), margin=margin)
    # Jensen: the hinge is convex, so its mean is never below; strictly above when it is bent.
    assert loss.item() >= of_mean - 1e-12
    assume(generated.min() < margin - 1e-6 and generated.max() > margin + 1e-6)
    assert loss.item() > of_mean


def test_discriminator_loss_far_sample_does_not_hide_another():
    loss = discriminator_loss(torch.tensor([0.0]), torch.tensor([0.0, 100.0]), margin=1.0)
    assert loss.item() == 0.5  # the hinge of the mean would be 0


def test_discriminator_loss_margin_tensor_equals_float():
    real, generated = torch.tensor([0.5, 0.7]), torch.tensor([0.1, 0.9])
    as_float = discriminator_loss(real, generated, margin=0.8)
    as_tensor = discriminator_loss(real, generated, margin=torch.tensor(0.8))
    torch.testing.assert_close(as_tensor, as_float)


def test_discriminator_loss_gradient_stops_beyond_the_margin():
    real = torch.tensor([0.3, 0.4], requires_grad=True)
    generated = torch.tensor([0.2, 0.9, 5.0, 0.1], requires_grad=True)
    discriminator_loss(real, generated, margin=0.5).backward()
    assert real.grad.tolist() == [0.5, 0.5]
    assert generated.grad.tolist() == [-0.25, 0.0, 0.0, -0.25]


@pytest.mark.parametrize("bad", [torch.zeros(0), torch.zeros(2, 1), torch.tensor(1.0)])
def test_losses_of_other_energy_shape_raise(bad):
    good = torch.ones(2)
    shape = str(tuple(bad.shape)).replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(InvalidInputError, match=f"energy_real .*{shape}"):
        discriminator_loss(bad, good, margin=1.0)
    with pytest.raises(InvalidInputError, match=f"energy_generated .*{shape}"):
        discriminator_loss(good, bad, margin=1.0)
    with pytest.raises(InvalidInputError, match=f"energy_generated .*{shape}"):
        generator_loss(bad, torch.tensor(0.5), pull_away_weight=0.1)


# --- pulling-away term ------------------------------------------------------------------------


@given(codes=CODES)
def test_pulling_away_equals_oracle(codes):
    found = pulling_away(torch.from_numpy(codes)).item()
    np.testing.assert_allclose(found, oracles.pulling_away(codes), rtol=1e-9, atol=1e-12)


@given(codes=CODES)
def test_pulling_away_lies_in_unit_interval(codes):
    assert -1e-6 <= pulling_away(torch.from_numpy(codes).float()).item() <= 1 + 1e-6


@pytest.mark.parametrize("n", [2, 3, 64])
def test_pulling_away_of_parallel_codes_is_one(n):
    code = normal(1, 5)
    assert pulling_away(code.repeat(n, 1)).item() == pytest.approx(1, abs=1e-12)
    signs = torch.ones(n, 1).double()
    signs[0] = -3.0
    assert pulling_away(code * signs).item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("n", [2, 3, 64])
def test_pulling_away_of_orthogonal_codes_is_zero(n):
    basis, _ = torch.linalg.qr(normal(n, n))
    assert pulling_away(basis * torch.arange(1, n + 1)[:, None]).item() == pytest.approx(
        0, abs=1e-12
    )


def test_pulling_away_squares_the_cosine():
    # 60 degrees: the cosine is 1/2, and at 120 degrees it is -1/2; unsquared it would cancel.
    codes = torch.tensor([[1.0, 0.0], [0.5, 0.75**0.5]], dtype=torch.float64)
    assert pulling_away(codes).item() == pytest.approx(0.25, abs=1e-12)
    assert pulling_away(codes * torch.tensor([[1.0], [-1.0]])).item() == pytest.approx(0.25)


@given(codes=CODES, order=st.randoms(use_true_random=False))
def test_pulling_away_is_blind_to_scale_and_order(codes, order):
    value = pulling_away(torch.from_numpy(codes)).item()
    lengths = np.array([[10.0 ** order.uniform(-6, 6)] for _ in codes])
    assert pulling_away(torch.from_numpy(codes * lengths)).item() == pytest.approx(value, abs=1e-9)
    rows = order.sample(range(len(codes)), len(codes))
    assert pulling_away(torch.from_numpy(codes[rows])).item() == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e20, 1e37])
def test_pulling_away_float32_survives_codes_whose_squares_do_not(scale):
    codes = normal(6, 4, dtype=torch.float32)
    expected = oracles.pulling_away(codes.numpy())
    assert pulling_away(codes * scale).item() == pytest.approx(expected, rel=1e-4)


def test_pulling_away_flattens_trailing_axes():
    codes = normal(4, 3, 2, 2)
    assert torch.equal(pulling_away(codes), pulling_away(codes.flatten(1)))


def test_pulling_away_of_zero_codes_is_zero_with_zero_gradient():
    codes = torch.zeros(3, 4, requires_grad=True)
    value = pulling_away(codes)
    value.backward()
    assert value.item() == 0
    assert torch.equal(codes.grad, torch.zeros(3, 4))


def test_pulling_away_zero_code_among_others_counts_zero():
    codes = torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 1.0]], requires_grad=True)
    value = pulling_away(codes)
    value.backward()
    expected = oracles.pulling_away(codes.detach().numpy())
    assert 0 < value.item() == pytest.approx(expected, rel=1e-6)
    assert torch.isfinite(codes.grad).all()
    assert codes.grad[0].tolist() == [0.0, 0.0]
    assert (codes.grad[1:] != 0).any()


def test_pulling_away_of_one_row_is_zero():
    code = normal(1, 3).requires_grad_()
    value = pulling_away(code)
    value.backward()
    assert value.item() == 0
    assert torch.equal(code.grad, torch.zeros(1, 3).double())


@pytest.mark.parametrize("shape", [(3,), (0, 4), (4, 0), ()])
def test_pulling_away_of_other_shape_raises(shape):
    with pytest.raises(InvalidInputError, match="code must have shape"):
        pulling_away(torch.zeros(shape))


def test_pulling_away_descends_to_spread_codes():
    codes = normal(3, 3).requires_grad_()
    optimizer = torch.optim.SGD([codes], lr=1.0)
    before = pulling_away(codes).item()
    for _ in range(300):
        optimizer.zero_grad()
        pulling_away(codes).backward()
        optimizer.step()
    assert before > 0.05
    assert pulling_away(codes).item() < 1e-3


# --- generator loss and gradients -------------------------------------------------------------


@given(codes=CODES, weight=st.floats(0, 3), data=st.data())
def test_generator_loss_equals_oracle(codes, weight, data):
    n = len(codes)
    energies = data.draw(hnp.arrays(np.float64, n, elements=st.floats(0, 10)))
    found = generator_loss(
        torch.from_numpy(energies),
        pulling_away(torch.from_numpy(codes)),
        pull_away_weight=weight,
    ).item()
    expected = oracles.generator_loss(energies, codes, weight)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_generator_loss_weight_zero_ignores_the_term():
    energies = torch.tensor([1.0, 2.0])
    broken = torch.tensor(torch.nan)
    assert generator_loss(energies, broken, pull_away_weight=0).item() == 1.5


def test_generator_loss_gradient_goes_through_both_uses_of_the_sample():
    # D(g) = |g - W g|^2 / d. By hand: the gradient is 2/d (I - W)^T (I - W) g.
    d = 4
    weight, sample = normal(d, d), normal(1, d, seed=1)
    residual = np.eye(d) - weight.numpy()
    both = 2 / d * residual.T @ residual @ sample[0].numpy()
    as_input_only = 2 / d * -weight.numpy().T @ residual @ sample[0].numpy()

    def gradient(detach_target):
        g = sample.clone().requires_grad_()
        target = g.detach() if detach_target else g
        energy = reconstruction_energy(target, g @ weight.T)
        generator_loss(energy, pulling_away(g), pull_away_weight=0.1).backward()
        return g.grad[0].numpy()

    np.testing.assert_allclose(gradient(detach_target=False), both, rtol=1e-10)
    np.testing.assert_allclose(gradient(detach_target=True), as_input_only, rtol=1e-10)
    assert np.abs(both - as_input_only).max() > 0.1


def test_losses_pass_gradcheck():
    x, rebuilt = normal(3, 4).requires_grad_(), normal(3, 4, seed=1).requires_grad_()
    codes = normal(4, 3, seed=2).requires_grad_()
    real = normal(5, seed=3).square().requires_grad_()
    generated = torch.tensor([0.1, 0.4, 0.9, 2.0], dtype=torch.float64, requires_grad=True)
    margin = torch.tensor(0.7, dtype=torch.float64)
    check = torch.autograd.gradcheck
    assert check(energy_map, (x, rebuilt))
    assert check(reconstruction_energy, (x, rebuilt))
    assert check(lambda e: hinge(e, margin=0.7), (generated,))
    assert check(
        lambda a, b: discriminator_loss(a, b, margin=margin, hinge_weight=0.3), (real, generated)
    )
    assert check(pulling_away, (codes,))
    assert check(
        lambda e, c: generator_loss(e, pulling_away(c), pull_away_weight=0.5), (generated, codes)
    )
