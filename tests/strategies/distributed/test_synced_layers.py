"""Layers that see a batch as a whole, where workers pass slices of it through."""

import pytest
import torch
import torch.distributed as dist
from torch import nn

from perdure.strategies.distributed.synced_layers import SharedBatchNorm, SharedDropout, batch_norm, prepare


@pytest.fixture
def team_of_one(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("team_of_one")
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.02)]
)
def test_it_normalises_as_torch_does_and_keeps_the_same_statistics(dtype, tolerance):
    torch.manual_seed(0)
    x = (3 + 2 * torch.randn(37, 5, 7, 7)).to(dtype)  # 1813 values of a channel: no number of bfloat16
    kept = torch.float64 if dtype == torch.float64 else torch.float32
    ours, theirs = (nn.BatchNorm2d(5, dtype=kept) for _ in range(2))
    told, expected = batch_norm(x, ours, running=True), theirs(x.to(kept))
    assert told.dtype == dtype
    torch.testing.assert_close(told.to(kept), expected, atol=tolerance, rtol=tolerance)
    exact = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(ours.running_mean, theirs.running_mean, atol=exact, rtol=exact)
    torch.testing.assert_close(ours.running_var, theirs.running_var, atol=exact, rtol=exact)


@pytest.mark.usefixtures("team_of_one")
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", [(6, 3), (5, 3, 2, 2)])
def test_its_gradients_are_those_of_torch_of_first_and_of_second_order(shape, affine):
    torch.manual_seed(0)
    x, away = torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    layer = (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d)(3, affine=affine, dtype=torch.float64)
    for p in layer.parameters():
        nn.init.normal_(p)
    leaves = [x.requires_grad_(), *layer.parameters()]
    told = []
    for out in (batch_norm(x, layer, running=False), layer(x)):
        once = torch.autograd.grad((out * away).square().sum(), leaves, retain_graph=True)
        first = torch.autograd.grad((out * away).square().sum(), leaves, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), leaves)
        told.append([*once, *first, *second])
    for ours, theirs in zip(*told, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-9)


def test_layers_are_put_in_place_with_weights_and_names():
    model = nn.Sequential(nn.Linear(4, 6), nn.Sequential(nn.BatchNorm1d(6), nn.Dropout(0.3)))
    weights, names = list(model.parameters()), list(model.state_dict())
    prepare(model)
    assert isinstance(model[1][0], SharedBatchNorm) and isinstance(model[1][1], SharedDropout)
    assert all(a is b for a, b in zip(model.parameters(), weights, strict=True)) and list(model.state_dict()) == names
    with pytest.raises(ValueError, match="cannot share a model with AlphaDropout"):
        prepare(nn.Sequential(nn.AlphaDropout()))
