"""`python -m perdure` is the command `perdure`."""

import sys
from pathlib import Path

if sys.path[0] == str(Path.cwd()) != str(Path(__file__).parents[1]):
    del sys.path[0]  # or a torch.py in the working folder would be taken for torch
from .jobs.main import main

main()
