"""What a run logs to, looked at before anything is loaded."""

import netrc
import os
from importlib.util import find_spec

from transformers import TrainingArguments
from transformers.integrations import INTEGRATION_TO_CALLBACK

from ..errors import InputError
from ..processes import is_main_process, say


# The modules of those trackers whose name is none, any of which will do.
MODULES = {"azure_ml": ("azureml",), "flyte": ("flytekit",), "tensorboard": ("tensorboard", "tensorboardX")}


def is_installed(tracker: str) -> bool:
    return any(find_spec(module) is not None for module in MODULES.get(tracker, (tracker,)))


def set_up_trackers(config: TrainingArguments) -> None:
    """Make `report_to` safe to leave alone, in place: no prompt, and no run lost for want of a package or a key.

    Raises:
        ValueError: There is no tracker of that name.
    """
    kept = []
    for name in config.report_to or ():
        if name not in INTEGRATION_TO_CALLBACK:
            known = ", ".join(INTEGRATION_TO_CALLBACK)
            raise InputError(f"--report_to {name}: there is no such tracker; there are all, none, {known}.")
        if is_installed(name):
            kept.append(name)
        else:
            package = "'trl_kochat[wandb]'" if name == "wandb" else name
            say(f"{name} is not installed (pip install {package}): this run logs without it.")
    config.report_to = kept
    if "wandb" in kept and is_main_process() and "WANDB_MODE" not in os.environ and not _has_wandb_key():
        import wandb

        wandb.setup(settings=wandb.Settings(mode="offline"))
        say("No wandb key found: wandb logs offline; `wandb sync wandb/offline-run-*` uploads the runs later.")


def _has_wandb_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("://")[-1].strip("/")
    try:
        return netrc.netrc().authenticators(host) is not None
    except (FileNotFoundError, netrc.NetrcParseError):
        return False
