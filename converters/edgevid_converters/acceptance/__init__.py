"""Acceptance of artifacts: parity with the source model, metric gates, and repair."""
