"""What metrics are called, wherever people read them: a new metric is one entry here, too."""

from dataclasses import dataclass


@dataclass(frozen=True)
class MetricName:
    """short: where there is little room; long: in a sentence or a list."""

    short: str
    long: str
    says: str
    """What it is."""


METRIC_NAMES = {
    "auroc": MetricName("AUROC", "AUROC", "how well positives are ranked above negatives"),
    "average_precision": MetricName("AP", "average precision", "average precision"),
    "sensitivity": MetricName("Sens.", "sensitivity", "sensitivity at the threshold"),
    "specificity": MetricName("Spec.", "specificity", "specificity at the threshold"),
    "f1": MetricName("F1", "F1", "at the threshold"),
    "brier": MetricName("Brier", "Brier score", "mean squared difference of score and truth; lower is better"),
    "calibration_slope": MetricName("Slope", "calibration slope", "of calibration: 1 is right, below 1 too extreme"),
    "ece": MetricName("ECE", "expected calibration error", "expected calibration error; lower is better"),
    "net_benefit": MetricName("Net ben.", "net benefit", "net benefit at the threshold"),
}
"""Of one class, and as the mean of classes."""
WHOLE_NAMES = {
    "accuracy": MetricName("accuracy", "accuracy", "share of images whose highest score is the true class's"),
    "quadratic_kappa": MetricName("kappa", "quadratic kappa", "agreement on a scale beyond chance"),
}
"""Of all classes together, where they exclude each other."""
