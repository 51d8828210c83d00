"""KoChatGPT stage 3, PPO, with 4-bit LoRA on one device: policy, value, reward and reference on one base in memory.

    python recipes/ppo_kochatgpt.py                    # gpu preset where there is a CUDA device, else cpu
    python recipes/ppo_kochatgpt.py --dry_run          # say what would run

The policy starts from the adapter of stage 1, which is also the reference; stage 2's adapter gives the rewards and
starts the value. The cpu preset needs no network: it takes stages 1 and 2 from runs/ where you have run them, else
adapters that are embedded like rows and model.

A reward can be had by writing worse: the health guard warns when repetition in the answers rises by more than 0.25,
Chinese characters by more than 0.05, Latin letters by more than 0.2, or KL beyond 20 nats a completion.
"""

import os


# TRL sends a ping when a trainer is built, unless this is set before its import. Set it to 0 if you want that.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from transformers import AutoModelForCausalLM

from trl_kochat import (
    HealthGuardCallback,
    KoreanSamplesCallback,
    PPOConfig,
    PPOTrainer,
    RunReportCallback,
    format_dataset,
    split_by_prompt,
)
from trl_kochat.callbacks import InterruptCallback
from trl_kochat.data import RowCounts
from trl_kochat.data.formatters.kochatgpt import to_prompt_only
from trl_kochat.measure.evaluate import evaluate_ppo
from trl_kochat.models import attach_adapter
from trl_kochat.processes import say
from trl_kochat.run.arguments import (
    StageArguments,
    announce,
    cut_prompts,
    describe,
    find_stage,
    load_raw_rows,
    lora_arguments,
    parse,
    refuse_lora_settings,
    row_summary,
    use_float32_adapters,
)
from trl_kochat.run.checkpoints import no_step_too_many
from trl_kochat.run.checks import check_before_loading, check_before_training, set_up_wandb
from trl_kochat.run.command import resume_command, run_as_command
from trl_kochat.sample import SAMPLE_DIR
from trl_kochat.tokenizer import load_tokenizer_with_findings


DEFAULTS = {
    # The course's values, except where a comment says "ours".
    "gpu": {
        "model_name_or_path": "skt/kogpt2-base-v2",
        "dataset_name": ["kochatgpt_3_PPO.jsonl"],
        "eval_fraction": 0.005,  # ours: some 60 prompts to measure on; the course holds none out
        "load_in_4bit": True,  # ours, like LoRA: the course trains all of two models and holds four
        "use_bnb_nested_quant": True,
        "use_peft": True,
        "max_steps": 200,  # ours: the course stops after 10 updates, too early to see anything
        "per_device_train_batch_size": 8,
        "num_ppo_epochs": 1,
        "learning_rate": 5e-6,
        "max_prompt_length": 96,
        "max_completion_length": 96,  # 128 tokens in all for a prompt of 32, template included
        "temperature": 1.0,
        "top_k": 50,
        "missing_eos_penalty": 1.0,  # ours: an answer that does not end is not a good one
        "logging_steps": 5,
        "save_steps": 50,  # ours: a Colab may not live to the end
        "report_to": ["wandb"],  # ours
    },
    # Ours: small enough for two cores and two minutes, on the same 4-bit LoRA path.
    "cpu": {
        "model_name_or_path": str(SAMPLE_DIR / "tiny-ko"),
        "dataset_name": [str(SAMPLE_DIR / "kochatgpt_3_PPO.jsonl")],
        "eval_fraction": 0.2,
        "load_in_4bit": True,
        "use_bnb_nested_quant": True,
        "use_peft": True,
        "max_steps": 48,
        "per_device_train_batch_size": 16,
        "gradient_checkpointing": False,
        "num_ppo_epochs": 2,
        "learning_rate": 5e-4,
        "kl_coef": 0.15,
        "max_prompt_length": 96,
        "max_completion_length": 48,
        "temperature": 1.0,
        "top_k": 50,
        "missing_eos_penalty": 1.0,
        "logging_steps": 2,
        "save_steps": 12,  # a multiple of logging_steps: a resumed run then logs the same numbers
        "report_to": ["none"],
    },
}


def main(argv: list[str] | None = None) -> None:
    # 1. What to run, from which stages
    plan, arguments, config, model_args = parse("ppo_kochatgpt", PPOConfig, DEFAULTS, argv, StageArguments)
    refuse_lora_settings(plan, model_args)
    quantization_config, _ = lora_arguments(model_args, config)
    set_up_wandb(config)
    announce(plan, arguments, model_args, adapters="LoRA of stages 1 and 2")
    checkpoint = check_before_loading(config, model_args)
    sft_adapter = find_stage("sft_kochatgpt", arguments.sft_adapter, plan.preset)
    reward_adapter = find_stage("reward_kochatgpt", arguments.reward_adapter, plan.preset)

    # 2. Prompts
    tokenizer, findings = load_tokenizer_with_findings(
        model_args.model_name_or_path, revision=model_args.model_revision, trust_remote_code=config.trust_remote_code
    )
    counts = RowCounts()
    dataset = format_dataset(load_raw_rows(arguments), to_prompt_only, counts=counts)
    dataset = cut_prompts(dataset, tokenizer, config.max_prompt_length)
    train, held_out = split_by_prompt(dataset, arguments.eval_fraction, seed=arguments.split_seed)

    # 3. Trainer: one base; the other three roles are adapters on it, or it with an adapter off
    base = AutoModelForCausalLM.from_pretrained(
        model_args.model_name_or_path,
        quantization_config=quantization_config,
        trust_remote_code=config.trust_remote_code,
        **config.model_init_kwargs,
    )
    config.model_init_kwargs = None  # they are in the model now
    trainer = PPOTrainer(
        attach_adapter(base, sft_adapter, "sft"),
        reward_funcs=reward_adapter,
        args=config,
        train_dataset=train,
        eval_dataset=held_out,
        processing_class=tokenizer,
    )
    use_float32_adapters(trainer)
    rows = row_summary(counts, train, held_out, trainer)
    check_before_training(trainer, arguments, findings, checkpoint)
    if arguments.dry_run:
        describe(trainer, tokenizer, rows, train)
        return

    # 4. Train, and measure answers to the held-out prompts before and after
    report = RunReportCallback(
        recipe=plan.recipe,
        method="ppo",
        preset=plan.preset,
        model=model_args.model_name_or_path,
        rows=rows,
        tokenizer_findings=findings,
        evaluate=lambda model: evaluate_ppo(trainer),
    )
    samples = KoreanSamplesCallback(score=trainer.score_answers)
    interrupt = InterruptCallback(go_on=resume_command(argv))
    for callback in (samples, HealthGuardCallback(), report, interrupt):
        trainer.add_callback(callback)
    with report, interrupt, no_step_too_many(trainer):
        trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_model()
    say(f"Adapter: {config.output_dir}")
    say(
        f"Compare: trl-kochat generate {model_args.model_name_or_path} --adapter {sft_adapter} "
        f"--adapter {config.output_dir}"
    )
    trainer.accelerator.end_training()  # several processes leave together; else one may abort at exit


if __name__ == "__main__":
    run_as_command(main)
