"""Latencies of a machine that is not quite at rest, made: one noise, and many at once.

Every function gives factors around 1, float64 ``(machines, samples)``; a trace is a latency times
some of them.
"""

from __future__ import annotations

import numpy as np


def ar(rng, machines, samples, correlation=0.7, spread=0.03):
    """Noise in which a sample is like the one before."""
    fresh = rng.normal(size=(samples, machines))
    level = fresh[0].copy()
    out = np.empty((samples, machines))
    for at in range(samples):
        level = correlation * level + np.sqrt(1 - correlation**2) * fresh[at]
        out[at] = level
    return np.exp(spread * out.T)


def spikes(rng, machines, samples, share=0.02, height=3.0):
    """Now and then something else runs: up to ``height`` times as long, bursts included."""
    hit = rng.random((machines, samples)) < share
    hit |= np.roll(hit, 1, axis=1) & (rng.random((machines, samples)) < 0.5)
    return np.where(hit, rng.uniform(1.2, height, (machines, samples)), 1.0)


def drift(rng, machines, samples, most=0.15):
    """The machine warms up, or cools down, by up to ``most`` from the first to the last sample."""
    slope = rng.uniform(-most, most, (machines, 1))
    return 1 + slope * np.linspace(0, 1, samples) ** rng.uniform(0.5, 2, (machines, 1))


def modes(rng, machines, samples, stay=200.0, slower=1.2):
    """A clock with two speeds that changes every ``stay`` samples or so."""
    changes = rng.random((machines, samples)) < 1 / stay
    first = rng.random((machines, 1)) < 0.5
    return np.where((changes.cumsum(axis=1) + first) % 2, slower, 1.0)


def rounds(rng, machines, samples, length, spread=0.015):
    """Each ``length`` samples have a level of their own: where pages lay, what woke the child."""
    levels = rng.normal(size=(machines, -(-samples // length)))
    return np.exp(spread * levels.repeat(length, axis=1)[:, :samples])


def machines(rng, how_many, samples, length):
    """What machines do to latencies, by the name of what ails them; rounds have ``length``."""

    def usual():
        return (
            ar(rng, how_many, samples)
            * spikes(rng, how_many, samples)
            * rounds(rng, how_many, samples, length)
        )

    short, long = length / 3, length * 30
    return {
        "like the one before": ar(rng, how_many, samples, 0.9, 0.05),
        "spikes": ar(rng, how_many, samples) * spikes(rng, how_many, samples, 0.05, 5.0),
        "rounds of their own": usual() * rounds(rng, how_many, samples, length),
        "drift": usual() * drift(rng, how_many, samples),
        "two speeds, short": usual() * modes(rng, how_many, samples, short, 1.1),
        "two speeds, long": usual() * modes(rng, how_many, samples, long, 1.2),
        "drift and two speeds": usual()
        * drift(rng, how_many, samples)
        * modes(rng, how_many, samples, long, 1.1),
    }


def interleaved(factors, length, percentile=50):
    """Rounds of A and of B in turn, ``(machines, rounds)`` each: a percentile of every round."""
    rounds_ = factors[:, : factors.shape[1] // length * length].reshape(len(factors), -1, length)
    figures = np.quantile(rounds_, percentile / 100, axis=2, method="inverted_cdf")
    return figures[:, ::2], figures[:, 1::2]


def warm_up(kind, samples, knee, height, tolerance):
    """``height`` more at the start, and within ``tolerance`` from sample ``knee`` on.

    A step and a slope end at the knee; an exponential has come to the tolerance there.
    """
    at = np.arange(samples)
    if kind == "step":
        return 1 + height * (at < knee)
    if kind == "slope":
        return 1 + height * np.clip(1 - at / knee, 0, None)
    return 1 + height * np.exp(-at * np.log(abs(height) / tolerance) / knee)
