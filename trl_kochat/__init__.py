"""Korean post-training on TRL: formatters, tokenizer repairs, callbacks, a PPO trainer and recipes.

Public names are loaded on first use (PEP 562), so that `import trl_kochat` loads neither torch nor transformers.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any


__version__ = "0.1.0"

# Public name -> the module that defines it.
_PUBLIC = {
    "check_rows": "data.health",
    "load_rows": "data",
    "split_by_prompt": "data",
    "detect_formatter": "data",
    "format_dataset": "data",
    "formatter": "data",
    "formatter_names": "data",
    "get_formatter": "data",
    "check_tokenizer": "tokenizer",
    "fix_tokenizer": "tokenizer",
    "load_tokenizer": "tokenizer",
    "save_portable": "tokenizer",
    "set_chat_template": "tokenizer",
    "dpo_loss": "measure.logps",
    "response_logps": "measure.logps",
    "HealthGuardCallback": "callbacks",
    "InterruptCallback": "callbacks",
    "KoreanSamplesCallback": "callbacks",
    "RunReportCallback": "callbacks",
    "PPOConfig": "ppo",
    "PPOTrainer": "ppo",
    "Run": "run",
    "give_score_head": "score_head",
}

__all__ = [
    "__version__",
    "HealthGuardCallback",
    "InterruptCallback",
    "KoreanSamplesCallback",
    "PPOConfig",
    "PPOTrainer",
    "Run",
    "RunReportCallback",
    "check_rows",
    "check_tokenizer",
    "detect_formatter",
    "dpo_loss",
    "fix_tokenizer",
    "format_dataset",
    "formatter",
    "formatter_names",
    "get_formatter",
    "give_score_head",
    "load_rows",
    "load_tokenizer",
    "response_logps",
    "save_portable",
    "set_chat_template",
    "split_by_prompt",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    except ImportError:
        with import_module(f"{__name__}.versions").noting_newer_versions():
            raise
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:
    from .callbacks import HealthGuardCallback, InterruptCallback, KoreanSamplesCallback, RunReportCallback
    from .data import (
        detect_formatter,
        format_dataset,
        formatter,
        formatter_names,
        get_formatter,
        load_rows,
        split_by_prompt,
    )
    from .data.health import check_rows
    from .measure.logps import dpo_loss, response_logps
    from .ppo import PPOConfig, PPOTrainer
    from .run import Run
    from .score_head import give_score_head
    from .tokenizer import check_tokenizer, fix_tokenizer, load_tokenizer, save_portable, set_chat_template
