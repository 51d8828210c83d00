"""Presets: values to start from, in YAML files beside the recipes, and the number formats of the machine."""

from collections.abc import Mapping
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import Any

import torch
import yaml
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig

from ..errors import InputError
from ..sample import embedded


# Ours, from benchmarks/number_format.py: with narrower models bfloat16 gains nothing on a CPU, or loses.
LEAST_WIDTH = 512

PRESETS = ("cpu", "gpu")
# The recipes' own, `configs/<recipe>/<preset>.yaml`: in an installed package, and in the repository.
_FOLDERS = [folder / "recipes" / "configs" for folder in Path(__file__).parents[1:3]]

# A folder with `cpu.yaml` and `gpu.yaml`, or their values.
Presets = str | PathLike[str] | Mapping[str, Mapping[str, Any]]


def choose_preset(asked: str) -> tuple[str, str]:
    """The preset to take, and the reason in words.

    Raises:
        InputError: There is no such preset, or `gpu` was asked for where there is no CUDA device.
    """
    cuda = torch.cuda.is_available()
    if asked == "auto":
        return ("gpu", "a CUDA device is there") if cuda else ("cpu", "no CUDA device is there")
    if asked not in PRESETS:
        raise InputError(f"No preset {asked!r}; there are auto, {', '.join(PRESETS)}.")
    if asked == "gpu" and not cuda:
        raise InputError("--preset gpu: no CUDA device is there. Take --preset cpu, or look at `nvidia-smi`.")
    return asked, "as asked"


def preset_values(recipe: str, preset: str, presets: Presets | None = None) -> dict[str, Any]:
    """The values of a preset; none where a recipe of somebody's own has no presets."""
    if isinstance(presets, Mapping):
        return dict(presets.get(preset, {}))
    folders = [Path(presets)] if presets is not None else [folder / recipe for folder in _FOLDERS]
    file = next((folder / f"{preset}.yaml" for folder in folders if folder.is_dir()), None)
    return {} if file is None else read_yaml(file)


def read_yaml(path: Path) -> dict[str, Any]:
    """The `key: value` lines of a file.

    Raises:
        InputError: There is no such file, or it holds something else.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML: {error}") from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise InputError(f"{path} does not hold `key: value` lines.")
    return values


def bf16_pays_on_a_cpu(model: str) -> bool:
    """Whether autocast makes training faster: the processor has instructions for bfloat16, and the model is wide."""
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older torch has none
    if not (capabilities.get("amx_bf16") or capabilities.get("avx512_bf16")):
        return False
    with suppress(OSError, ValueError, StrictDataclassError):  # said of the model where it is loaded
        config = AutoConfig.from_pretrained(embedded(model), trust_remote_code=False)
        return config.get_text_config().hidden_size >= LEAST_WIDTH
    return False


def precision(preset: str, dtype: str | None = None, *, model: str | None = None) -> dict[str, Any]:
    """Number formats to compute in: as asked by `dtype`, else bf16 where card or processor gain by it (see
    [`bf16_pays_on_a_cpu`] of `model`), fp16 (a T4), or float32 on a CPU.

    Weights that are trained are float32 all the same (see `float32_weights`): autocast computes in the format of the
    others. TRL's own configs would turn bf16 on by themselves, transformers' (PPO's) would not.

    Raises:
        InputError: float16 on a CPU, which has no such training.
    """
    on_cpu = preset == "cpu"
    if dtype in (None, "auto"):
        if on_cpu:
            computed = "bfloat16" if model and bf16_pays_on_a_cpu(model) else "float32"
        else:
            computed = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
        dtype = dtype or computed
    else:
        computed = str(dtype)
    if on_cpu and computed == "float16":
        raise InputError("--dtype float16: nothing trains in it on a CPU. Take float32 or bfloat16.")
    formats = {"dtype": dtype, "bf16": computed == "bfloat16", "fp16": computed == "float16"}
    return {**formats, "use_cpu": True} if on_cpu else formats
