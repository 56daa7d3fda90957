"""How good the lists are: metrics, protocol, baselines."""
