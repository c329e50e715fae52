"""Games that the tests of training play, and a trainer for them."""

import torch
from torch import nn

from ebgan_detect.networks import build_networks, conv_networks, mlp_networks
from ebgan_detect.objectives import AutoEncoderObjective, EBGANObjective, Objective
from ebgan_detect.training import (
    Callback,
    ResidentRows,
    Trainer,
)

CPU = torch.device("cpu")


class Counting(Objective):
    """Its weight counts updates."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.batches = []
        self.progress = []

    def configure_optimizers(self, learning_rate):
        self.optimizers = {}

    def begin_step(self, progress):
        self.progress.append(progress)

    def update(self, real, rng):
        self.batches.append(real[:, 0].clone())
        with torch.no_grad():
            self.weight += 1
        value = self.weight.detach()[0].float()
        return {"loss": 1 / value, "value": value}

    def energy(self, x):
        return x.double().mean(dim=1)


class Mean(Objective):
    """Finds the mean of the rows by gradient descent: a loss of this test's own."""

    def __init__(self):
        super().__init__()
        self.center = nn.Parameter(torch.zeros(2))
        self.rate_factors = {"main": 0.5}
        self.rates = []

    def configure_optimizers(self, learning_rate):
        self.optimizers = {"main": torch.optim.SGD([self.center], lr=learning_rate)}

    def update(self, real, rng):
        self.rates.append(self.optimizers["main"].param_groups[0]["lr"])
        loss = (real - self.center).square().sum(dim=1).mean()
        self.optimizers["main"].zero_grad()
        loss.backward()
        self.optimizers["main"].step()
        return {"loss_of_my_own": loss.detach()}

    def energy(self, x):
        return (x - self.center).square().sum(dim=1).double()


def numbered_rows(n=10):
    return ResidentRows(torch.arange(n, dtype=torch.float32)[:, None])


def random_rows(n=40, d=4):
    return ResidentRows(torch.randn(n, d, generator=torch.Generator().manual_seed(9)))


def trainer(**options):
    settings = {
        "max_epochs": 4,
        "batch_size": 8,
        "learning_rate": 0.01,
        "device": CPU,
        "seed": 5,
        **options,
    }
    return Trainer(**settings)


def make_game(kind="ebgan"):
    """A game that uses every part of a training's state."""
    family, shape, sizes = (
        (conv_networks, (1, 8, 8), (3,)) if kind == "conv" else (mlp_networks, (4,), (8,))
    )
    networks = build_networks(
        lambda s: family(s, hidden_sizes=sizes, code_dim=2, latent_dim=3, bounded=False),
        shape,
        latent_dim=3,
        seed=1,
    )
    if kind == "autoencoder":
        return AutoEncoderObjective(networks, noise=0.1, n_snapshots=3)
    return EBGANObjective(
        networks,
        input_shape=shape,
        latent_dim=3,
        margin=lambda progress: 2 - progress,
        replay_size=50,
        noise=0.1,
        n_snapshots=3,
    )


def metrics(measured):
    """Means of what an update returned, as they stand in the history."""
    assert not any(value.requires_grad for value in measured.values())
    return {name: value.double().mean().item() for name, value in measured.items()}


def state(game):
    return {name: value.detach().clone() for name, value in game.state_dict().items()}


def check_equal(found, expected):
    """Bit for bit."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        assert found[name].numpy().tobytes() == value.numpy().tobytes(), name


class Recorder(Callback):
    def __init__(self, log, name):
        self.log, self.name = log, name

    def on_train_begin(self, run):
        self.log.append((self.name, "begin", run.epoch, len(run.history)))

    def on_step_end(self, run):
        self.log.append((self.name, "step", run.epoch))

    def on_epoch_end(self, run):
        self.log.append((self.name, "epoch", run.epoch, len(run.history["epoch"])))

    def on_train_end(self, run):
        self.log.append((self.name, "end", run.epoch, run.objective.training))


class Interrupt(Callback):
    """Ctrl-C in the middle of an epoch."""

    def __init__(self, epoch, error=KeyboardInterrupt):
        self.epoch, self.error = epoch, error
        self.kept = None
        self.steps = 0

    def on_step_end(self, run):
        self.steps += 1
        if run.epoch == self.epoch - 1 and self.steps % run.steps_per_epoch == 3:
            raise self.error

    def on_epoch_end(self, run):
        self.kept = state(run.objective)
