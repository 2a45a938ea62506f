"""Questions to commit to before an experiment, and checks of exercises."""

from labkit.course.checks import Check, check
from labkit.course.predict import Prediction, predict

__all__ = ["Check", "Prediction", "check", "predict"]
