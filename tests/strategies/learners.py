"""Small learners and experiences that the tests of single methods share."""

import torch

from perdure.strategies.learner import Learner
from perdure.strategies.names import model
from perdure.strategies.numerics.rng import Rng
from perdure.strategies.training.optimizers import SGD
from perdure.streams.experience import Experience, Split


def learner(stream, seed=0, text="mlp(12)"):
    torch.manual_seed(seed)
    return Learner(model(text).build(stream.shape, stream.classes.shape[1]), SGD(0.1), Rng(seed))


def moved(one):
    """Every weight somewhere else."""
    with torch.no_grad():
        for p in one.params.values():
            p += 0.1 * torch.randn_like(p)


def around(module, protocol="class", optimizer=SGD(0.1)):  # noqa: B008
    """A learner of a model that is given."""
    return Learner(module, optimizer, Rng(0), protocol=protocol)


def experience(x, y, index=0):
    x, y = torch.as_tensor(x), torch.as_tensor(y)
    split = Split(x, y, torch.full_like(y, index), torch.arange(len(y)))
    return Experience(index, index, split, split)


def labelled(y, index=0):
    """Samples that tell by their one value which they are: a thousandth each, and the experience."""
    y = torch.tensor(y)
    x = torch.arange(len(y)).float()[:, None] / 1000 + index
    split = Split(x, y, torch.zeros_like(y), torch.arange(len(y)))
    return Experience(index, index, split, split)


def batch_of(whole):
    return whole.train.batch(torch.arange(len(whole)))
