"""What image models ask of a sample's shape."""


def channels(shape: tuple[int, ...], name: str) -> int:
    """Of samples of shape (C, H, W)."""
    if len(shape) != 3:
        raise ValueError(f"{name} needs images of shape (channels, height, width), got {shape}; mlp takes any shape")
    return shape[0]
