"""`python -m benchmarks.quality`."""

from benchmarks.quality.run import app
from recsys.cli.console import guarded

guarded(lambda: app(prog_name="python -m benchmarks.quality"))
