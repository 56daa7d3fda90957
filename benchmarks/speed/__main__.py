"""`python -m benchmarks.speed`."""

from benchmarks.speed.run import app
from recsys.cli.console import guarded

guarded(lambda: app(prog_name="python -m benchmarks.speed"))
