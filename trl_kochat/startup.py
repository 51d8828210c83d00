"""What a process that runs one command of ours sets for itself. A program that imports the package is left as it is."""

import gc
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
    shows its escape, and libraries' messages that are known and harmless are left out. The garbage collector is off until
    [`end_imports`].
    """
    # Importing TRL and transformers makes a million objects, over which the collector would go again and again, for a
    # quarter of the time.
    gc.disable()
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


def end_imports() -> None:
    """Turn the garbage collector on where it is off, in place; at what is there by now it looks no more."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def is_news(record: logging.LogRecord) -> bool:
    """A filter for the loggers of `HARMLESS`."""
    return not record.getMessage().startswith(HARMLESS[record.name])
