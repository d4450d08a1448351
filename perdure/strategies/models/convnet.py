"""Small convolutional network."""

from dataclasses import dataclass, field

from torch import nn

from ...notation import STAR
from .images import channels
from .winners import activation, refuse_no_share


@dataclass(frozen=True)
class ConvNet:
    """Convolutions of 3 x 3, each with ReLU and a halving of the image, as convnet(32, 64); no normalisation."""

    widths: tuple[int, ...] = field(default=(32, 64), metadata=STAR)
    hidden: int = 128  # units of the layer before the head
    winners: float = 0.0  # share of units kept by k-winners-take-all in place of ReLU; 0 for ReLU
    boost: float = 0.0  # of units that win seldom

    def __post_init__(self):
        if not self.widths or any(w < 1 for w in (*self.widths, self.hidden)):
            raise ValueError(f"expected widths and hidden of at least 1, got {self.widths} and {self.hidden}")
        refuse_no_share(self.winners, self.boost)

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        depth, (height, width) = channels(shape, "convnet"), shape[1:]
        layers: list[nn.Module] = []
        for wide in self.widths:
            layers += [
                nn.Conv2d(depth, wide, 3, padding=1),
                activation(self.winners, wide, self.boost),
                nn.MaxPool2d(2),
            ]
            depth, height, width = wide, height // 2, width // 2
        if not height * width:
            raise ValueError(f"{len(self.widths)} halvings leave nothing of images of shape {shape}; take fewer widths")
        head: list[nn.Module] = [nn.Flatten(), nn.Linear(depth * height * width, self.hidden)]
        head.append(activation(self.winners, self.hidden, self.boost))
        return nn.Sequential(*layers, *head, nn.Linear(self.hidden, classes))
