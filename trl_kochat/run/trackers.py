"""What a run logs to, looked at before anything is loaded."""

import netrc
import os
from importlib.util import find_spec

from transformers import TrainingArguments

from ..errors import InputError
from ..processes import is_main_process, say


# Name for `report_to` -> the module that it needs, any of them
# (https://huggingface.co/docs/transformers/main_classes/callback).
TRACKERS = {
    "azure_ml": ("azureml",),
    "clearml": ("clearml",),
    "codecarbon": ("codecarbon",),
    "comet_ml": ("comet_ml",),
    "dagshub": ("dagshub",),
    "dvclive": ("dvclive",),
    "flyte": ("flytekit",),
    "kubeflow": ("kubeflow",),
    "mlflow": ("mlflow",),
    "neptune": ("neptune",),
    "swanlab": ("swanlab",),
    "tensorboard": ("tensorboard", "tensorboardX"),
    "trackio": ("trackio",),
    "wandb": ("wandb",),
}


def is_installed(tracker: str) -> bool:
    return any(find_spec(module) is not None for module in TRACKERS[tracker])


def set_up_trackers(config: TrainingArguments) -> None:
    """Make `report_to` safe to leave alone, in place: no prompt, and no run lost for want of a package or a key.

    Raises:
        ValueError: There is no tracker of that name.
    """
    kept = []
    for name in config.report_to or ():
        if name not in TRACKERS:
            known = ", ".join(TRACKERS)
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
