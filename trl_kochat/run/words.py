"""Flags and keys that nobody knows: the one that was meant, in the words of other tools or by its spelling."""

import difflib
from collections.abc import Collection, Iterable

from ..errors import InputError


# What users of other tools type (axolotl, LLaMA-Factory, ms-swift, unsloth, torchtune, TRL of before) -> TRL's word.
# Of several the first that the recipe has is named.
MEANT: dict[str, tuple[str, ...]] = {
    word: names
    for words, names in (
        ("lr learn_rate", ("learning_rate",)),
        (
            "dataset datasets data data_path data_file data_files train_file train_data train_dataset training_data file",
            ("dataset_name",),
        ),
        ("split dataset_split train_split", ("dataset_train_split",)),
        ("val_size val_set_size test_size eval_size eval_split validation_split", ("eval_fraction",)),
        ("model model_name model_id model_path base_model pretrained_model_name_or_path", ("model_name_or_path",)),
        ("revision", ("model_revision",)),
        ("tokenizer tokenizer_name tokenizer_name_or_path tokenizer_path", ("model_name_or_path",)),
        (
            "batch batch_size bs bsz train_batch_size micro_batch_size per_device_batch_size",
            ("per_device_train_batch_size",),
        ),
        ("eval_batch_size", ("per_device_eval_batch_size",)),
        (
            "grad_accum grad_acc gradient_accumulation grad_accumulation_steps accumulation_steps",
            ("gradient_accumulation_steps",),
        ),
        ("epoch epochs num_epochs n_epochs max_epochs train_epochs", ("num_train_epochs",)),
        ("ppo_epochs", ("num_ppo_epochs",)),
        ("steps num_steps max_iters iters train_steps num_train_steps", ("max_steps",)),
        ("warmup num_warmup_steps lr_warmup_steps warmup_ratio", ("warmup_steps",)),
        ("scheduler lr_scheduler", ("lr_scheduler_type",)),
        ("optimizer", ("optim",)),
        ("wd", ("weight_decay",)),
        ("clip max_norm grad_clip gradient_clipping clip_grad_norm", ("max_grad_norm",)),
        (
            "max_seq_length max_seq_len seq_len seq_length sequence_len sequence_length cutoff_len context_length "
            "block_size model_max_length",
            ("max_length", "max_completion_length"),
        ),
        ("prompt_length", ("max_prompt_length", "max_length")),
        (
            "response_length max_new_tokens max_response_length completion_length",
            ("max_completion_length", "max_length"),
        ),
        ("lora use_lora peft", ("use_peft",)),
        ("r rank lora_rank", ("lora_r",)),
        ("alpha", ("lora_alpha",)),
        ("dropout", ("lora_dropout",)),
        ("target_modules lora_target lora_modules", ("lora_target_modules",)),
        ("modules_to_save additional_target", ("lora_modules_to_save",)),
        (
            "use_4bit use_4_bit 4bit load_4bit load_in_4_bit qlora quantization quantization_bit bits",
            ("load_in_4bit",),
        ),
        ("use_8bit 8bit load_8bit", ("load_in_8bit",)),
        ("double_quant use_nested_quant bnb_4bit_use_double_quant", ("use_bnb_nested_quant",)),
        ("torch_dtype precision", ("dtype",)),
        ("mixed_precision amp", ("bf16",)),
        ("half", ("fp16",)),
        ("flash_attn flash_attention use_flash_attention_2 attn attention", ("attn_implementation",)),
        ("output out out_dir save_dir output_path save_path", ("output_dir",)),
        ("resume resume_from from_checkpoint checkpoint", ("resume_from_checkpoint",)),
        ("log_steps log_every log_interval", ("logging_steps",)),
        ("save_every save_interval", ("save_steps",)),
        ("eval_every eval_interval", ("eval_steps",)),
        ("logger tracker log_with wandb use_wandb", ("report_to",)),
        ("wandb_project", ("project",)),
        ("wandb_run_name", ("run_name",)),
        ("device no_cuda cpu gpu", ("preset",)),
        ("random_seed", ("seed",)),
        ("remote_code", ("trust_remote_code",)),
        ("dpo_beta pref_beta", ("beta",)),
        ("loss pref_loss", ("loss_type",)),
        ("init_kl_coef kl kl_beta", ("kl_coef",)),
        ("clip_range clip_eps", ("cliprange",)),
        ("sft_model sft_model_path", ("sft_adapter",)),
        ("reward_model reward_model_path", ("reward_adapter",)),
        ("format data_format", ("formatter",)),
        ("test check", ("dry_run",)),
    )
    for word in words.split()
}


def refuse_unknown(keys: Iterable[str], known: Collection[str], where: str) -> None:
    """
    Args:
        keys (`Iterable[str]`): Flags or keys of a file, with or without their dashes.
        known (`Collection[str]`): Names that the recipe takes.
        where (`str`): Where they stood, e.g. "on the command line".

    Raises:
        ValueError: One of the keys is not known; the name that was meant is given, if it can be told.
    """
    for key in sorted(keys):
        name = key.lstrip("-").replace("-", "_")
        if name in known:
            continue
        meant = meant_by(name, known)
        raise InputError(
            f"Unknown key {name!r} {where}" + (f"; did you mean {meant!r}?" if meant else "; --help_all lists all.")
        )


def meant_by(name: str, known: Collection[str]) -> str | None:
    """
    >>> meant_by("lr", ["lora_r", "learning_rate"]), meant_by("lerning_rate", ["lora_r", "learning_rate"])
    ('learning_rate', 'learning_rate')
    """
    by_word = [word for word in MEANT.get(name.lower(), ()) if word in known]
    return next(iter(by_word + difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)), None)
