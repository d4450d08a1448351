"""Small convolutional network."""

from dataclasses import dataclass, field

from torch import nn

from ...notation import STAR
from .images import channels


@dataclass(frozen=True)
class ConvNet:
    """Convolutions of 3 x 3, each with ReLU and a halving of the image, as convnet(32, 64); no normalisation."""

    widths: tuple[int, ...] = field(default=(32, 64), metadata=STAR)
    hidden: int = 128  # units of the layer before the head

    def __post_init__(self):
        if not self.widths or any(w < 1 for w in (*self.widths, self.hidden)):
            raise ValueError(f"expected widths and hidden of at least 1, got {self.widths} and {self.hidden}")

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        depth, (height, width) = channels(shape, "convnet"), shape[1:]
        layers: list[nn.Module] = []
        for wide in self.widths:
            layers += [nn.Conv2d(depth, wide, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            depth, height, width = wide, height // 2, width // 2
        if not height * width:
            raise ValueError(f"{len(self.widths)} halvings leave nothing of images of shape {shape}; take fewer widths")
        head = [nn.Flatten(), nn.Linear(depth * height * width, self.hidden), nn.ReLU()]
        return nn.Sequential(*layers, *head, nn.Linear(self.hidden, classes))
