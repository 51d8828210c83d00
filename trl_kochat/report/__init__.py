"""The run report: what training did, kept in `<output_dir>/report/` as numbers, plots and one page."""

from .card import write_card
from .comparison import write_comparison
from .measures import MEASURES, Measure, verdict
from .page import write_page
from .record import RunRecord, find_report, report_folder
from .samples import Sample, append_samples, read_samples, write_samples
from .table import before_after_table


__all__ = [
    "MEASURES",
    "Measure",
    "RunRecord",
    "Sample",
    "append_samples",
    "before_after_table",
    "find_report",
    "read_samples",
    "report_folder",
    "verdict",
    "write_card",
    "write_comparison",
    "write_page",
    "write_samples",
]
