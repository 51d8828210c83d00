"""Says how many inputs were made, and fails a nightly run that made fewer than it promises."""

from typing import Any

from .inputs import COUNTS, NIGHTLY, PROMISED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if COUNTS:
        terminalreporter.write_line(f"fuzz: {COUNTS.total():,} generated inputs in {len(COUNTS)} tests")


def pytest_sessionfinish(session: Any, exitstatus: int) -> None:
    config = session.config.option
    whole = not config.keyword and not any("::" in str(given) for given in session.config.args)
    if NIGHTLY and whole and exitstatus == 0 and COUNTS.total() < PROMISED:
        session.exitstatus = 1
        print(f"\nfuzz: {COUNTS.total():,} inputs are fewer than the {PROMISED:,} promised.")
