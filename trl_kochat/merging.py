"""An adapter and its base made into one model, which any server loads without PEFT."""

import gc
from contextlib import AbstractContextManager
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from peft import PeftModel, TaskType
from peft.helpers import rescale_adapter_scale
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerBase

from .data import load_rows
from .errors import InputError
from .measure.generate import load_generator
from .measure.logps import response_logps
from .measure.score import load_reward_model, score_completions
from .models import read_adapter_config, saying_which_model, tokenizer_source
from .report import write_card
from .sample import SAMPLE_DIR, embedded
from .tokenizer import load_tokenizer, save_hand_over, save_portable


# How far log-probabilities of tokens (nats) and scores may move, by the number format the base is stored in. Ours:
# above what rounding the weights did to the embedded model (2e-6, 5e-4, 3e-3) and to SmolLM2-135M (3e-5, 0.012, 0.11).
BOUNDS = {torch.float32: 1e-3, torch.float16: 0.1, torch.bfloat16: 0.5}
# The part of what the adapter changes that may be lost on the way (ours).
SHARE = 0.25
NUM_CHECK_ROWS = 8


class Merge(NamedTuple):
    """What was merged, and how the model on disk compares with the adapter on its base."""

    base: str
    is_reward_model: bool
    """Whether scores were compared; log-probabilities of tokens, in nats, otherwise."""
    dtype: torch.dtype
    difference: float
    """The largest one between the adapter on its base and the merged model as it was loaded again."""
    effect: float
    """The largest one that the adapter makes; of a reward model, without its head."""


def merge_adapter(
    adapter: str | PathLike[str],
    output: str | PathLike[str],
    *,
    base: str | PathLike[str] | None = None,
    trust_remote_code: bool = False,
) -> Merge:
    """Merge an adapter into its base, in the precision the base is stored in, and save model and tokenizer.

    The sum is made in float32 and rounded once. What was saved is loaded again and compared with the adapter on its
    base, on rows of the sample: in float32, so that the only difference is that rounding. It takes 4 bytes of memory
    for each parameter. Nothing is left in `output` when it fails.

    Args:
        adapter (`str`): Folder, or repository id on the Hub: of a causal model, or of a reward model with its head.
        output (`str`): Folder to make; it may be there if it is empty. It gets safetensors and a tokenizer that
            transformers 4 and 5 read alike.
        base (`str`, *optional*): Base of the adapter; by default the one that the adapter names.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Whether code that comes with the base may run.

    Returns:
        [`Merge`]

    Raises:
        ValueError: `output` is not empty, the adapter names no base, does not belong to it or is of a kind that has
            no weights to add, the base is stored quantized, the adapter changes weights that the base shares between
            its embedding and its head, or the merged model is not the same model: it differs by more than rounding
            explains, or by more than a quarter of what the adapter changes.
    """
    output = Path(output)
    if output.is_file() or (output.is_dir() and any(output.iterdir())):
        raise InputError(f"{output} exists and is not an empty folder; give another name, or remove it.")
    name, is_reward_model = _check(adapter, base, trust_remote_code)
    tokenizer = load_tokenizer(tokenizer_source(adapter, name), trust_remote_code=trust_remote_code)
    output.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as temporary:
        folder = Path(temporary) / "model"
        save_portable(tokenizer, folder)  # first: what it refuses is told before a model is loaded
        kwargs: Any = {"dtype": "auto", "trust_remote_code": trust_remote_code}
        if is_reward_model:
            model: Any = load_reward_model(adapter, base=name, **kwargs)
        else:
            model = load_generator(name, [adapter], **kwargs)
        dtype, before, effect = _save_merged(model, tokenizer, adapter, folder)
        del model
        gc.collect()
        tokenizer = load_tokenizer(folder, trust_remote_code=trust_remote_code)
        model = load_reward_model(folder, **kwargs) if is_reward_model else load_generator(folder, **kwargs)
        difference = _largest(before - _measure(model.float(), tokenizer))
        merge = Merge(name, is_reward_model, dtype, difference, effect)
        _check_same(merge, adapter, output)
        notes = f"The adapter `{Path(adapter).resolve().name}` is in its weights: it loads without peft."
        named = str(base or read_adapter_config(adapter).base_model_name_or_path)
        write_card(folder, title=output.name, base=named, made_by="trl-kochat merge", notes=notes)
        if output.is_dir():
            output.rmdir()
        folder.rename(output)
    return merge


def _save_merged(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, adapter: str | PathLike[str], folder: Path
) -> tuple[torch.dtype, torch.Tensor, float]:
    """Merge in place and save; the base's precision, what the model says with the adapter, and the adapter's effect."""
    dtype: Any = model.get_base_model().config.dtype
    if dtype not in BOUNDS:
        raise InputError(f"The base is stored as {dtype}; there are {', '.join(map(str, BOUNDS))} to merge into.")
    _refuse_tied(model, adapter)
    model.float()
    before = _measure(model, tokenizer)
    with _without_sum(model):
        effect = _largest(before - _measure(model, tokenizer))
    merged: Any = model.merge_and_unload(safe_merge=True)
    for parameter in merged.parameters():
        parameter.data = parameter.data.to(dtype)
    merged.save_pretrained(folder)
    save_hand_over(merged, tokenizer, folder)
    return dtype, before, effect


def _check(
    adapter: str | PathLike[str], base: str | PathLike[str] | None, trust_remote_code: bool
) -> tuple[str, bool]:
    """Name of the base, and whether the adapter makes a reward model of it."""
    config = read_adapter_config(adapter)
    name = embedded(base or config.base_model_name_or_path or "")
    if not name:
        raise InputError(f"The adapter {adapter} does not name its base model; give it (base=, or --base).")
    if config.is_prompt_learning:
        raise InputError(
            f"The adapter {adapter} is {config.peft_type}: prompts, no weights to add to those of a base."
        )
    if config.task_type not in (TaskType.CAUSAL_LM, TaskType.SEQ_CLS, None):
        raise InputError(f"The adapter {adapter} is for {config.task_type}; CAUSAL_LM and SEQ_CLS can be merged.")
    with saying_which_model(name, trust_remote_code=trust_remote_code):
        base_config = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
    if getattr(base_config, "quantization_config", None):
        raise InputError(
            f"The base {name} is stored quantized, and a sum with rounded weights is not what was trained; give the "
            "model that it was quantized from (base=, or --base)."
        )
    return name, config.task_type == TaskType.SEQ_CLS


def _refuse_tied(model: PeftModel, adapter: str | PathLike[str]) -> None:
    """Raise where a change of the head would also be one of the embedding, or the other way round."""
    base: Any = model.get_base_model()
    ends = [base.get_input_embeddings(), base.get_output_embeddings()]
    changed = [end for end in ends if type(end).__module__.startswith("peft.")]
    if base.config.get_text_config().tie_word_embeddings and None not in ends and changed:
        names = " and ".join(name for name, module in base.named_modules() if module in changed)
        raise InputError(
            f"The adapter {adapter} changes {names}, and its base has one matrix for embedding and head "
            "(tie_word_embeddings): merged into it the change would be made in both. Serve the adapter beside its base."
        )


def _is_reward_model(model: PreTrainedModel | PeftModel) -> bool:
    return model.get_output_embeddings() is None  # a score head makes no words


def _without_sum(model: PeftModel) -> AbstractContextManager[None]:
    """The model without what is added to its weights; a reward model keeps its head, without which it says nothing."""
    is_lora = model.peft_config[model.active_adapter].peft_type == "LORA"
    return rescale_adapter_scale(model, 0.0) if _is_reward_model(model) and is_lora else model.disable_adapter()


@torch.no_grad()
def _measure(model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase) -> torch.Tensor:
    """Scores of the rows, or log-probabilities of all their answers' tokens; 1-D, on the CPU."""
    rows: Any = load_rows(SAMPLE_DIR / "kochatgpt_1_SFT.jsonl")
    prompts = [[{"role": "user", "content": row["prompt"]}] for row in rows[:NUM_CHECK_ROWS]]
    completions = [row["completion"] for row in rows[:NUM_CHECK_ROWS]]
    if _is_reward_model(model):
        return torch.tensor(score_completions(model, tokenizer, prompts, completions))
    logps = [
        response_logps(model, tokenizer, prompt, [completion], per_token=True)[0]
        for prompt, completion in zip(prompts, completions, strict=True)
    ]
    return torch.cat(logps).cpu()


def _largest(difference: torch.Tensor) -> float:
    return difference.abs().max().item()


def _check_same(merge: Merge, adapter: str | PathLike[str], output: Path) -> None:
    dtype, difference = str(merge.dtype).removeprefix("torch."), merge.difference
    if not difference <= BOUNDS[merge.dtype]:
        raise InputError(
            f"The merged model is another one: it differs by {difference:.2g} from {adapter} on {merge.base}, more than "
            f"{BOUNDS[merge.dtype]:g}, which is what rounding to {dtype} can explain. {output} is not written."
        )
    if not difference <= SHARE * merge.effect:
        raise InputError(
            f"The merged model has lost the adapter: it differs by {difference:.2g} from {adapter} on {merge.base}, and "
            f"the adapter itself makes a difference of {merge.effect:.2g}. Rounding to {dtype} may drown so small a "
            f"change: serve the adapter beside its base instead. {output} is not written."
        )
