"""Metrics and their paired tests."""

import numpy as np
import pytest
from scipy import stats

from edgevid.predictions import Classification
from edgevid.tasks.classification.host.accuracy import Accuracy
from edgevid.tasks.evidence import metric_name, recorded_drop
from edgevid.tasks.host.metrics import Comparison, PairedCounts

LABELS = ("a", "b")


def said(*labels):
    return [
        Classification(np.eye(2, dtype=np.float32)[LABELS.index(one)], LABELS) for one in labels
    ]


def test_accuracy_is_the_share_of_right_labels():
    truths = ["a", "a", "b", "b"]
    assert Accuracy().value(said("a", "b", "b", "b"), truths) == 0.75
    assert Accuracy().contributions(said("a", "b", "b", "b"), truths).tolist() == [1, 0, 1, 1]


def test_predictions_and_truths_must_be_as_many():
    with pytest.raises(ValueError, match=r"shorter|longer"):
        Accuracy().value(said("a"), ["a", "b"])


def test_a_paired_test_counts_what_changed():
    truths = ["a", "a", "b", "b", "a"]
    found = Accuracy().paired_test(said(*"aabba"), said(*"babab"), truths)
    assert (found.lost, found.won, found.n) == (3, 0, 5)
    assert found.to_json() == {
        "lost": 3,
        "won": 0,
        "drop_at_most": pytest.approx(found.drop_at_most(), abs=1e-6),
        "p": 0.125,
    }
    assert found.describe() == "lost 3 clips, won 0; by chance: p = 0.12"


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (1, 0), (5, 2), (2, 5), (9, 9)])
def test_p_is_that_of_a_binomial_test(lost, won):
    expected = 1.0
    if lost + won:
        expected = stats.binomtest(lost, lost + won, 0.5, alternative="greater").pvalue
    assert PairedCounts(lost, won, 100).p == pytest.approx(expected)


@pytest.mark.parametrize(("lost", "won", "n"), [(0, 0, 30), (3, 0, 40), (3, 2, 40), (40, 0, 40)])
def test_the_bound_is_that_of_two_clopper_pearson_intervals(lost, won, n):
    def interval(count):
        return stats.binomtest(count, n).proportion_ci(0.95, "exact")

    expected = interval(lost).high - interval(won).low
    assert PairedCounts(lost, won, n).drop_at_most() == pytest.approx(expected)


def test_samples_that_are_needed_rule_the_drop_out():
    for max_drop in (0.2, 0.01, 0.001):
        needed = PairedCounts(0, 0, 1).samples_needed(max_drop)
        assert PairedCounts(0, 0, needed).drop_at_most() <= max_drop
        assert PairedCounts(0, 0, needed - 1).drop_at_most() > max_drop
    assert PairedCounts(0, 0, 1).samples_needed(0.0) is None


def test_evidence_has_what_was_measured():
    paired = PairedCounts(2, 1, 50)
    found = Comparison("accuracy", 0.9, 0.88, 50, agreement=0.94, paired=paired, tries=3)
    assert found.to_json() == {
        "name": "accuracy",
        "source": 0.9,
        "artifact": 0.88,
        "n": 50,
        "agreement": 0.94,
        "lost": 2,
        "won": 1,
        "drop_at_most": round(paired.drop_at_most(3), 6),
        "p": 0.5,
    }
    assert found.drop == pytest.approx(0.02)
    nothing = Comparison()
    assert nothing.to_json() == {"name": None, "source": None, "artifact": None, "n": 0}
    assert (nothing.drop, nothing.drop_at_most) == (None, None)


def test_recorded_metrics_of_strangers():
    assert recorded_drop({}) is None
    assert recorded_drop({"source": "high", "artifact": 0.5}) is None
    assert recorded_drop({"source": 0.5, "artifact": 0.25}) == 0.25
    assert recorded_drop({"source": 2, "artifact": 3, "higher_is_better": False}) == 1
    assert metric_name([{}, {"name": None}, {"name": "mAP"}]) == "mAP"
    assert metric_name([]) == "metric"
