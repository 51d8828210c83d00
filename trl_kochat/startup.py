"""What a process that runs one command of ours sets for itself. A program that imports the package is left as it is."""

import io
import logging
import os
import sys
import warnings


# Logger -> how messages begin that say nothing to a user of a command.
HARMLESS = {
    # bitsandbytes then computes 4-bit layers on a CPU by other code of its own.
    "bitsandbytes.backends.cpu.ops": (
        "Failed to load CPU gemm_4bit_forward from kernels-community: No module named 'kernels'"
    ),
}


def begin_command() -> None:
    """Set up the process, in place; call it before transformers, datasets or huggingface_hub is imported.

    TRL's ping is off unless asked, libraries draw progress bars on a terminal alone, a console without some character
    shows its escape, and libraries' messages that are known and harmless are left out.
    """
    # TRL sends a ping when a trainer is built; huggingface_hub reads this once, at its import. 0 turns it on.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if not sys.stderr.isatty():  # a bar that cannot be written over fills a log file
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # transformers reads it too
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    for logger in HARMLESS:
        logging.getLogger(logger).addFilter(is_news)
    # transformers 5 renames `gradient_checkpointing`, which TRL sets and PEFT reads.
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing` is deprecated", category=FutureWarning)


def is_news(record: logging.LogRecord) -> bool:
    """A filter for the loggers of `HARMLESS`."""
    return not record.getMessage().startswith(HARMLESS[record.name])
