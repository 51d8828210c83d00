"""Callbacks for any trainer of TRL: answers to fixed prompts, a guard over the log, and the run report."""

from .run_report import RunReportCallback


__all__ = ["RunReportCallback"]
