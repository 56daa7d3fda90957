"""How well the engine recommends, beside the models that it has to beat: `python -m benchmarks.quality --help`."""
