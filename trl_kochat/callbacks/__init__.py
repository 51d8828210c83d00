"""Callbacks for any trainer of TRL: answers to fixed prompts, a guard over the log, the run report, and a good end."""

from .health_guard import HealthGuardCallback
from .interrupt import InterruptCallback, Interrupted
from .run_report import RunReportCallback
from .samples import KoreanSamplesCallback


__all__ = [
    "HealthGuardCallback",
    "InterruptCallback",
    "Interrupted",
    "KoreanSamplesCallback",
    "RunReportCallback",
]
