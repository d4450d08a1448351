"""What training ends with where numbers stop being numbers."""


class Diverged(ArithmeticError):
    """The loss or a weight is not finite any more."""
