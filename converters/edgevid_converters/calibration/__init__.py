"""Calibration: the clips, the trajectories recorded from the source model, and their checks."""
