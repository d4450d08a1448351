"""`python -m perdure` is the command `perdure`."""

from .jobs.main import main

main()
