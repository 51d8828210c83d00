"""The run report: what training did, kept in `<output_dir>/report/` as numbers, plots and one page."""

from .measures import MEASURES, METHODS, Measure, verdict
from .record import RunRecord, report_folder
from .table import before_after_table


__all__ = ["MEASURES", "METHODS", "Measure", "RunRecord", "before_after_table", "report_folder", "verdict"]
