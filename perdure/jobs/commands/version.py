"""`perdure version`: what this is, and what it runs on."""


def version() -> None:
    """Print the version of Perdure, and of what it runs on."""
    from importlib.metadata import version as of
    from platform import python_version

    from ...version import __version__

    print(f"perdure {__version__}")
    print(f"python {python_version()}")
    for package in ("torch", "ray", "mlflow"):
        print(f"{package} {of(package)}")
