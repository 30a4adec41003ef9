"""Sweeps: a scenario answered at many points, as many as are wanted, on the cores of one machine or of a cluster."""
