"""Residual network (He et al. 2016, arXiv:1512.03385)."""

from dataclasses import dataclass

from torch import Tensor, nn

from .images import channels
from .winners import activation, refuse_no_share


@dataclass(frozen=True)
class ResNet18:
    """Residual network of 18 layers for small images: a 3 x 3 stem and no first pooling.

    width=64 is the full network of 11 million weights; width=20 the slim one that continual learning
    uses (Lopez-Paz & Ranzato 2017, arXiv:1706.08840).
    """

    width: int = 64
    winners: float = 0.0  # share of units kept by k-winners-take-all in place of ReLU; 0 for ReLU
    boost: float = 0.0  # of units that win seldom

    def __post_init__(self):
        if self.width < 1:
            raise ValueError(f"width must be at least 1, got {self.width}")
        refuse_no_share(self.winners, self.boost)

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        w, depth = self.width, channels(shape, "resnet18")
        blocks: list[nn.Module] = []
        before = w
        for stage, wide in enumerate((w, 2 * w, 4 * w, 8 * w)):
            for stride in (2 if stage else 1, 1):
                blocks.append(_Block(before, wide, stride, self.winners, self.boost))
                before = wide
        stem = [
            nn.Conv2d(depth, w, 3, padding=1, bias=False),
            nn.BatchNorm2d(w),
            activation(self.winners, w, self.boost),
        ]
        return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * w, classes))


class _Block(nn.Module):
    def __init__(self, before: int, wide: int, stride: int, winners: float, boost: float):
        super().__init__()
        self.first = nn.Conv2d(before, wide, 3, stride, padding=1, bias=False)
        self.second = nn.Conv2d(wide, wide, 3, padding=1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(wide), nn.BatchNorm2d(wide)])
        self.active = nn.ModuleList([activation(winners, wide, boost) for _ in range(2)])
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or before != wide:
            self.shortcut = nn.Sequential(nn.Conv2d(before, wide, 1, stride, bias=False), nn.BatchNorm2d(wide))

    def forward(self, x: Tensor) -> Tensor:
        out = self.active[0](self.norms[0](self.first(x)))
        return self.active[1](self.norms[1](self.second(out)) + self.shortcut(x))
