"""Callbacks for any trainer of TRL: answers to fixed prompts, a guard over the log, and the run report."""

from .health_guard import HealthGuardCallback
from .run_report import RunReportCallback
from .samples import KoreanSamplesCallback


__all__ = ["HealthGuardCallback", "KoreanSamplesCallback", "RunReportCallback"]
