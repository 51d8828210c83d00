"""Models and adapters from disk: safetensors only, no code of the model's own, an adapter only on its own base."""

import json
import logging
import re
import shlex
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import metadata
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    StrictDataclassError,
)
from peft import PeftConfig, PeftModel, get_peft_model
from safetensors import SafetensorError, safe_open
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForSequenceClassification,
    BitsAndBytesConfig,
    PreTrainedModel,
)
from transformers.utils import logging as transformers_logging

from .errors import InputError, network_errors
from .sample import embedded
from .score_head import give_score_head
from .versions import check_torchao


logger = logging.getLogger(__name__)

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
# Files of weights that torch.load would unpickle; others of these endings, such as training_args.bin, nobody reads.
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_WEIGHTS_OF_PICKLES = ("pytorch_model", "adapter_model", "model", "value_head", "v_head", "consolidated")


def is_adapter(path: str | PathLike[str]) -> bool:
    """Whether a folder on this machine holds an adapter and not a whole model."""
    return (Path(path) / CONFIG).is_file()


def adapter_folder(path: str | PathLike[str]) -> Path:
    """The folder with both files of an adapter: `path` itself, or the cached copy of a repository on the Hub.

    Raises:
        ValueError: There is no such folder or repository, one of the two files is missing, or peft cannot load any
            adapter here.
    """
    check_torchao()
    folder = Path(embedded(path))
    if not folder.is_dir():
        try:
            folder = Path(snapshot_download(str(path), allow_patterns=[CONFIG, WEIGHTS]))
        except (HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError) as error:
            raise InputError(
                f"No adapter {path}: no folder of that name here, nor a repository within reach."
            ) from error
    missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        pickled = (
            " A pickled adapter_model.bin is not loaded: save it again as safetensors." if missing == [WEIGHTS] else ""
        )
        if CONFIG not in missing:
            refuse_what_runs_code(folder)
        raise InputError(f"{path} is no adapter that can be loaded: {' and '.join(missing)} missing.{pickled}")
    return folder


def refuse_what_runs_code(name_or_path: str | PathLike[str], *, trust_remote_code: bool = False) -> None:
    """Raise for a folder whose loading would run code that came with it.

    A repository on the Hub is not looked at: what reads it takes safetensors only, and no code unless told to.

    Args:
        name_or_path (`str`): Folder of a model or an adapter.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Whether code of the model's own may run. There is
            no such leave for pickles.

    Raises:
        ValueError: It has pickled weights and no safetensors, or only Python code beside it can build the model.
    """
    folder = Path(name_or_path)
    if not folder.is_dir():
        return
    names = sorted(path.name for path in folder.iterdir())
    weights = "adapter_model" if CONFIG in names else "model"
    readable = any(name.startswith(weights) and name.endswith(".safetensors") for name in names)
    pickled = [name for name in names if name.endswith(_PICKLES) and name.startswith(_WEIGHTS_OF_PICKLES)]
    if pickled and not readable:
        raise InputError(
            f"{folder} holds pickled weights ({pickled[0]}) and no safetensors. Reading a pickle can run any code, so "
            "it is not loaded. Where you trust its source, load it with transformers or PEFT alone and save it again "
            "(save_pretrained writes safetensors), or ask its author to."
        )
    config = folder / "config.json"
    if trust_remote_code or not config.is_file():
        return
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except ValueError:
        return  # broken, as transformers says with its own words
    if isinstance(content, dict) and content.get("auto_map") and content.get("model_type") not in CONFIG_MAPPING:
        raise InputError(remote_code(folder))


def remote_code(what: object) -> str:
    """What to say of a model or tokenizer that comes with code of its own."""
    return (
        f"{what} needs Python code that comes with it (auto_map in its config), which is not run unless asked for. Read "
        "that code; then --trust_remote_code, or trust_remote_code=True, lets it run."
    )


def not_to_be_had(name: object, reason: str) -> OSError:
    """What to raise where a model or tokenizer is neither here nor on the Hub, or the Hub is out of reach."""
    return OSError(f"There is no folder {name} here, and as a repository of the Hub it is not to be had: {reason}")


def read_adapter_config(path: str | PathLike[str]) -> PeftConfig:
    """What an adapter says of itself: its `task_type`, its `base_model_name_or_path`, its modules.

    Raises:
        ValueError: There is no such adapter, or its adapter_config.json is broken.
    """
    folder = adapter_folder(path)
    try:
        config = PeftConfig.from_pretrained(str(folder))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder / CONFIG} is not the config of an adapter: {error}") from error
    if config.peft_type is None:
        raise InputError(f"{folder / CONFIG} is not the config of an adapter: it names no peft_type.")
    return config


def tokenizer_source(path: str | PathLike[str], base: str | PathLike[str] | None = None) -> str:
    """Where the tokenizer of a model or an adapter lies: training saves one beside the adapter, with its template.

    Args:
        path (`str`): Folder, or repository id on the Hub.
        base (`str`, *optional*): Base of the adapter; by default the one that the adapter names.
    """
    if (Path(path) / "tokenizer_config.json").is_file() or (base is None and not is_adapter(path)):
        return str(path)
    return embedded(base or read_adapter_config(path).base_model_name_or_path or "")


def adapter_keys(path: str | PathLike[str]) -> list[str]:
    """Names of the tensors in an adapter's file; the weights themselves are not read."""
    weights = adapter_folder(path) / WEIGHTS
    try:
        with safe_open(weights, framework="pt") as tensors:
            return list(tensors.keys())
    except SafetensorError as error:
        raise InputError(f"{weights} is broken: {error}.") from error


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers from reporting what is looked at right after (new heads, weights left over)."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)


@contextmanager
def eval_mode(model: torch.nn.Module) -> Iterator[None]:
    """Every module in eval mode, and back into its own mode after: some may stand in eval mode on purpose.

    A model with weights of several float types, such as float32 adapters or a float32 head on a half-precision base,
    computes under autocast, as it does in training.
    """
    training = [module for module in model.modules() if module.training]
    if training:
        keep_4bit_gradients(model)
    model.eval()
    try:
        with _autocast_if_mixed(model):
            yield
    finally:
        for module in training:
            module.training = True


def _autocast_if_mixed(model: torch.nn.Module) -> AbstractContextManager[Any]:
    # A packed 4-bit weight may be stored in any type and says nothing of the computation.
    weights = [p for p in model.parameters() if p.is_floating_point() and not hasattr(p, "quant_state")]
    half = {p.dtype for p in weights} & {torch.float16, torch.bfloat16}
    if len(half) != 1 or half == {p.dtype for p in weights}:
        return nullcontext()
    return torch.autocast(weights[0].device.type, dtype=half.pop())


def max_positions(model: Any) -> int | None:
    """Most tokens that a model was made for, prompt and answer together, if its config says."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


@contextmanager
def saying_which_model(name_or_path: str | PathLike[str], *, trust_remote_code: bool = False) -> Iterator[None]:
    """Say which model it is that is not loaded: neither here nor to be had, or not without running code of its own."""
    refuse_what_runs_code(name_or_path, trust_remote_code=trust_remote_code)
    if Path(name_or_path).is_file():
        raise InputError(f"{name_or_path} is a file; a model is a folder, or a repository of the Hub.")
    try:
        yield
    except ValueError as error:
        if "trust_remote_code" in str(error):
            raise InputError(remote_code(name_or_path)) from error
        if not re.search("model.type", str(error)):  # as transformers says that a config.json tells it nothing
            raise
        adapter = f"it is an adapter: `trl-kochat merge {shlex.quote(str(name_or_path))} merged` makes one"
        why = adapter if is_adapter(name_or_path) else error
        raise InputError(f"{name_or_path} is no model that can be loaded; {why}") from error
    except StrictDataclassError as error:
        raise InputError(
            f"transformers {metadata.version('transformers')} refuses the config.json of {name_or_path}: "
            f"{error.__cause__ or error} docs/models.md names ways out."
        ) from error
    except network_errors() as error:
        if Path(name_or_path).is_dir():
            raise
        raise not_to_be_had(name_or_path, " ".join(str(error).split())) from error


def load_base(
    auto_class: Any,
    name_or_path: str | PathLike[str],
    *,
    load_in_4bit: bool = False,
    dtype: str | torch.dtype | None = None,
    trust_remote_code: bool = False,
    **kwargs: Any,
) -> Any:
    """Load a model with one of the `AutoModelFor...` classes onto the accelerator, or the CPU where there is none.

    Args:
        auto_class: `AutoModelForCausalLM` or `AutoModelForSequenceClassification`.
        name_or_path (`str`): Folder, or repository id on the Hub.
        load_in_4bit (`bool`, *optional*, defaults to `False`): Quantize the linear layers to NF4, as the recipes do.
        dtype (`str` or `torch.dtype`, *optional*): By default that of the saved weights (`"auto"`), but float32 on the
            CPU, which is slow in half precision.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Whether code that comes with the model may run.
        kwargs: Passed to `from_pretrained`, such as `num_labels` or `revision`.

    Raises:
        ValueError: The weights are broken, or pickled, or the model needs code of its own, or it cannot have a head.
        OSError: The model is neither on this machine nor to be had.
    """
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    if dtype is None:
        dtype = torch.float32 if device.type == "cpu" else "auto"
    name_or_path = embedded(name_or_path)
    if load_in_4bit:
        # The CPU and cards before Ampere are slow in bfloat16 or lack it.
        bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        compute_dtype = torch.bfloat16 if bf16 else torch.float16 if device.type == "cuda" else torch.float32
        kwargs["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=compute_dtype,
        )
    try:
        with saying_which_model(name_or_path, trust_remote_code=trust_remote_code):
            if auto_class is AutoModelForSequenceClassification:
                where = {key: kwargs[key] for key in ("revision", "subfolder", "cache_dir") if key in kwargs}
                give_score_head(AutoConfig.from_pretrained(name_or_path, trust_remote_code=trust_remote_code, **where))
            return auto_class.from_pretrained(
                name_or_path,
                dtype=dtype,
                device_map={"": device},
                use_safetensors=True,
                trust_remote_code=trust_remote_code,
                **kwargs,
            )
    except SafetensorError as error:
        raise InputError(f"The weights of {name_or_path} are broken: {error}.") from error


def attach_adapter(model: PreTrainedModel | PeftModel, path: str | PathLike[str], adapter_name: str) -> PeftModel:
    """Load an adapter, frozen, beside those that `model` has, in place; the new one becomes the active one.

    Args:
        model ([`~transformers.PreTrainedModel`] or `PeftModel`): A base model, or one with adapters already.
        path (`str`): Folder, or repository id on the Hub, with `adapter_config.json` and `adapter_model.safetensors`.
        adapter_name (`str`): Name under which `set_adapter` finds it.

    Raises:
        ValueError: Files are missing, or the adapter does not belong to this base: other modules, another number of
            layers, other shapes. `model` is of no further use then.
    """
    folder = str(adapter_folder(path))
    config = read_adapter_config(folder)
    adapter_keys(folder)  # says so when the file is broken, before the model is changed
    config.inference_mode = True
    base_name = model.config.name_or_path
    stranger = f"The adapter {path} does not belong to the base model {base_name}"
    if config.base_model_name_or_path and config.base_model_name_or_path != base_name:
        stranger += f" (it was trained on {config.base_model_name_or_path})"
    try:
        if isinstance(model, PeftModel):
            peft_model = model
        else:
            config.base_model_name_or_path = model.name_or_path  # the same base, perhaps at another place by now
            peft_model = get_peft_model(model, config, adapter_name)  # type: ignore[assignment]
        result = peft_model.load_adapter(folder, adapter_name, torch_device=str(model.device))
    except (ValueError, KeyError) as error:  # modules the base does not have
        raise InputError(f"{stranger}: {error}") from error
    except RuntimeError as error:
        if "size mismatch" not in str(error):
            raise
        first = next(line.strip() for line in str(error).splitlines() if "size mismatch" in line)
        raise InputError(f"{stranger}: {first}") from error
    odd = [*result.missing_keys, *result.unexpected_keys]
    if odd:
        raise InputError(f"{stranger}: {len(odd)} tensors are on one side only, {odd[0]} for one.")
    peft_model.set_adapter(adapter_name)
    peft_model.requires_grad_(False)
    return peft_model.eval()


def keep_4bit_gradients(model: torch.nn.Module) -> None:
    """Let 4-bit layers on a CPU go on having a gradient after they were used in eval mode; changes `model` in place.

    On CPUs with AVX512-BF16, bitsandbytes (0.50) repacks the weights at the first forward pass in eval mode, a rollout
    say, and multiplies by them with a kernel that has no backward: from then on, what reaches the adapters below is
    not their gradient, and nothing but a warning tells.
    """
    for module in model.modules():
        if getattr(module, "support_avx512bf16_for_cpu", False):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]
            # Weights that are repacked already: taking the state puts them back.
            module.state_dict()


def train_in_float32(model: torch.nn.Module) -> None:
    """Cast what is trained to float32, in place, whatever the other weights are in, and keep 4-bit gradients right.

    TRL casts the adapters of a quantized model to bf16. There are no master weights beside them then, and updates
    smaller than bf16's 8 bits are rounded away; the gradient scaler of fp16 training (a T4) crashes on those. Autocast
    computes in half precision all the same.
    """
    keep_4bit_gradients(model)  # the measures before training are forward passes in eval mode
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
