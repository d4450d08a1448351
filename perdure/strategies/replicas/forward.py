"""Several equal models on a batch each, in one pass: (S, B, ...) to (S, B, C), to the bits that each gives alone.

Linear layers become batched products where those round as single ones do, which is tried out once for every shape. On
a GPU, where kernels are chosen by shape, they always do, and replicas come to what single runs do up to rounding.
A layer that is not known here is asked replica by replica, on copies that begin where tensors of their own would.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from ..models.standardized import Standardize
from .noise import Noise
from .weights import LINE, Stack, Weights

SINGLE = (nn.ReLU, nn.Identity, Standardize)  # what they make of an element hangs on it alone
SILENT = (nn.Linear, nn.Conv2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.modules.batchnorm._BatchNorm, nn.LayerNorm)
KNOWN = (*SINGLE, nn.Sequential, nn.Linear, nn.Flatten, nn.Dropout)
TRIED = 4000  # numbers that are compared before a batched product is trusted
EXACT = "cpu"  # where replicas come to the bits of single runs; elsewhere kernels differ with the shape: to rounding


class Abreast:
    """What S equal models answer. noise: where their random layers draw from."""

    def __init__(self, models: Sequence[nn.Module], stack: Stack, noise: Noise):
        self._models, self._stack, self._noise = tuple(models), stack, noise
        self._layers: dict[int, Products] = {}

    def __call__(self, x: Tensor) -> Tensor:
        """(S, B, ...) to (S, B, C)."""
        return self._passed(self._models, x)

    def _passed(self, layers: tuple[nn.Module, ...], x: Tensor) -> Tensor:
        one = layers[0]
        if any(watched(layer) for layer in layers):
            return self._apart(layers, x)
        if not known(one, *KNOWN):
            return self._apart(layers, x)
        match one:
            case nn.Sequential():
                for parts in zip(*layers, strict=True):  # as often as it is in the chain: `children` tells of each once
                    x = self._passed(parts, x)
                return x
            case nn.Linear() if x.dim() == 3:
                return self._products(one)(x)
            case nn.Flatten() if one.start_dim == 1 and one.end_dim == -1:
                return x.flatten(2)
            case nn.Dropout() if x.device.type == EXACT and not one.inplace:  # a GPU's kernel draws in another order
                return self._dropped(one, x) if one.training and one.p else x
        return one(x.flatten(0, 1)).view(x.shape) if known(one, *SINGLE) else self._apart(layers, x)

    def _products(self, layer: nn.Linear) -> "Products":
        if id(layer) not in self._layers:
            bias = None if layer.bias is None else self._stack.of[id(layer.bias)]
            self._layers[id(layer)] = Products(self._stack.of[id(layer.weight)], bias)
        return self._layers[id(layer)]

    def _dropped(self, layer: nn.Dropout, x: Tensor) -> Tensor:
        kept = torch.empty_like(x)
        for n, part in enumerate(kept):
            part.bernoulli_(1 - layer.p, generator=self._noise[n])
        return x * kept.div_(1 - layer.p)

    def _apart(self, layers: tuple[nn.Module, ...], x: Tensor) -> Tensor:
        parts = _Parted.apply(x)
        if known(layers[0], *SILENT) and not watched(layers[0]):
            made = [layer(part) for layer, part in zip(layers, parts, strict=True)]
        else:
            made = []
            for n, (layer, part) in enumerate(zip(layers, parts, strict=True)):
                with self._noise.of(n):
                    made.append(layer(part))
        return _Joined.apply(*made)


class Products:
    """A linear layer of S models, whose gradients go to `weight` and `bias`."""

    def __init__(self, weight: Weights, bias: Weights | None):
        self.weight, self.bias = weight, bias
        self._exact: dict[int, tuple[bool, ...]] = {}  # for batches of a size: which batched products are

    def __call__(self, x: Tensor) -> Tensor:
        learned = self.weight.learned or (self.bias is not None and self.bias.learned)
        return _Product.apply(x, self.weight.anchor if learned else self.weight.anchor.detach(), self)

    def forward(self, x: Tensor) -> Tensor:
        batched = self.exact(x.shape[1])[0]
        return (_ahead if batched else partial(_each, _ahead_alone))(x, self.weight.whole, self._offset())

    def backward(self, g: Tensor, x: Tensor, needed: bool) -> Tensor | None:
        _, weight, bias, back = self.exact(x.shape[1])
        if self.weight.learned:
            self.weight.slope(_across(g, x) if weight else _each(_across_alone, g, x))
        if self.bias is not None and self.bias.learned:
            self.bias.slope(g.sum(1) if bias else _each(_summed_alone, g))
        if not needed:
            return None
        return torch.bmm(g, self.weight.whole) if back else _each(torch.mm, g, self.weight.whole)

    def exact(self, size: int) -> tuple[bool, ...]:
        """Whether the batched form is used on batches of `size`: where it has the bits of a single one."""
        if self.weight.whole.device.type != EXACT:
            return (True,) * 4
        if size not in self._exact:
            with torch.no_grad():
                self._exact[size] = self._tried(size)
        return self._exact[size]

    def _offset(self) -> Tensor | None:
        return None if self.bias is None else self.bias.whole

    def _tried(self, size: int) -> tuple[bool, ...]:
        count, out, into = self.weight.whole.shape
        chance, same = torch.Generator(self.weight.whole.device).manual_seed(0), [True] * 4
        w = torch.empty_strided((count, out, into), self.weight.whole.stride()).to(self.weight.whole)
        for _ in range(max(1, min(8, TRIED // (count * min(size * out, out * into, size * into))))):
            x, g, b = (w.new_empty(*shape) for shape in ((count, size, into), (count, size, out), (count, out)))
            for t in (x, g, b, w):
                t.normal_(generator=chance)
            offset = None if self.bias is None else b
            pairs = (
                (_ahead(x, w, offset), _each(_ahead_alone, x, w, offset)),
                (_across(g, x), _each(_across_alone, g, x)),
                (g.sum(1), _each(_summed_alone, g)),
                (torch.bmm(g, w), _each(torch.mm, g, w)),
            )
            same = [so_far and torch.equal(*pair) for so_far, pair in zip(same, pairs, strict=True)]
        return tuple(same)


def _ahead(x: Tensor, w: Tensor, offset: Tensor | None) -> Tensor:
    return torch.bmm(x, w.mT) if offset is None else torch.baddbmm(offset[:, None], x, w.mT)


def _ahead_alone(x: Tensor, w: Tensor, offset: Tensor | None) -> Tensor:
    return F.linear(x, w, offset)


def _across(g: Tensor, x: Tensor) -> Tensor:
    return torch.bmm(g.mT, x)


def _across_alone(g: Tensor, x: Tensor) -> Tensor:
    return g.t() @ x


def _summed_alone(g: Tensor) -> Tensor:
    return g.sum(0)


def _each(product: Callable[..., Tensor], *stacks: Tensor | None) -> Tensor:
    """A product of every replica by itself."""
    count = next(len(s) for s in stacks if s is not None)
    columns = [[None] * count if s is None else [aligned(part) for part in s] for s in stacks]
    return torch.stack([product(*row) for row in zip(*columns, strict=True)])


def aligned(part: Tensor) -> Tensor:
    """The same numbers, beginning where a tensor of its own would."""
    return part if part.data_ptr() % LINE == 0 else part.clone()


def known(layer: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Whether a layer is of one of these kinds, with that kind's own forward pass: a subclass may have another."""
    return any(isinstance(layer, kind) and type(layer).forward is kind.forward for kind in kinds)


def watched(layer: nn.Module) -> bool:
    return bool(layer._forward_hooks or layer._forward_pre_hooks)


class _Product(Function):
    @staticmethod
    def forward(ctx, x, anchor, layer):
        ctx.save_for_backward(x)
        ctx.layer = layer
        return layer.forward(x)

    @staticmethod
    def backward(ctx, *given):
        (g,) = given
        return ctx.layer.backward(g.contiguous(), *ctx.saved_tensors, ctx.needs_input_grad[0]), None, None


class _Parted(Function):
    """(S, ...) to S tensors of their own, and their gradients back."""

    @staticmethod
    def forward(ctx, x):
        return tuple(part.clone() for part in x)

    @staticmethod
    def backward(ctx, *given):
        return torch.stack(given)


class _Joined(Function):
    """S tensors to (S, ...); each gets a gradient of its own."""

    @staticmethod
    def forward(ctx, *parts):
        return torch.stack(parts)

    @staticmethod
    def backward(ctx, *given):
        return tuple(part.clone() for part in given[0])
