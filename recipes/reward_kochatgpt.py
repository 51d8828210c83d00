"""KoChatGPT stage 2, a reward model from rankings of answers, with 4-bit LoRA on one device.

    python recipes/reward_kochatgpt.py                 # gpu preset where there is a CUDA device, else cpu
    python recipes/reward_kochatgpt.py --dry_run       # say what would run

A ranking of three answers gives up to three pairs; a tie gives none, and no prompt stands on both sides of the split.
The cpu preset needs no network: rows and model are embedded.
"""

import os


# TRL sends a ping when a trainer is built, unless this is set before its import. Set it to 0 if you want that.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import trl

from trl_kochat import HealthGuardCallback, KoreanSamplesCallback, RunReportCallback, format_dataset, split_by_prompt
from trl_kochat.callbacks import InterruptCallback
from trl_kochat.callbacks.length_groups import group_by_length
from trl_kochat.data import RowCounts
from trl_kochat.data.formatters.kochatgpt import to_preference
from trl_kochat.measure.evaluate import evaluate_reward
from trl_kochat.measure.score import score_completions
from trl_kochat.processes import say
from trl_kochat.run.arguments import (
    announce,
    describe,
    load_raw_rows,
    lora_arguments,
    parse,
    row_summary,
    tokenize,
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
        "dataset_name": ["kochatgpt_2_RM.jsonl"],  # all of it; the course takes 1,000 pairs
        "eval_fraction": 0.05,  # ours: some 500 prompts; the course's 200 pairs share their prompts with training
        "load_in_4bit": True,  # ours, like LoRA: the course trains all of the model
        "use_bnb_nested_quant": True,
        "use_peft": True,
        "lora_task_type": "SEQ_CLS",  # with it PEFT trains and saves the score head
        "lora_r": 16,
        "lora_alpha": 32,
        "lora_dropout": 0.05,
        "lora_target_modules": ["all-linear"],
        "num_train_epochs": 1,
        "per_device_train_batch_size": 4,
        "learning_rate": 5e-5,
        "max_length": 512,
        "center_rewards_coefficient": 0.01,  # ours: scores with mean 0, which PPO needs
        "logging_steps": 10,
        "save_steps": 500,  # ours: a Colab may not live to the end
        "report_to": ["wandb"],  # ours
    },
    # Ours: small enough for two cores and two minutes, on the same 4-bit LoRA path.
    "cpu": {
        "model_name_or_path": str(SAMPLE_DIR / "tiny-ko"),
        "dataset_name": [str(SAMPLE_DIR / "kochatgpt_2_RM.jsonl")],
        "eval_fraction": 0.2,
        "load_in_4bit": True,
        "use_bnb_nested_quant": True,
        "use_peft": True,
        "lora_task_type": "SEQ_CLS",
        "lora_r": 16,
        "lora_alpha": 32,
        "lora_target_modules": ["all-linear"],
        "per_device_train_batch_size": 8,
        "gradient_checkpointing": False,
        "learning_rate": 2e-3,
        "max_steps": 110,
        "warmup_steps": 5,
        "max_length": 256,
        "center_rewards_coefficient": 0.01,
        "logging_steps": 5,
        "save_steps": 20,  # a multiple of logging_steps: a resumed run then logs the same numbers
        "report_to": ["none"],
    },
}

# The course ends by scoring a rude sentence and three descriptions of AI, each longer and better than the one before.
QUESTION = "인공지능이 무엇인지 설명해 줘"
DESCRIPTIONS = [
    "인공지능은 똥멍청이 입니다",
    "인공지능은 사람처럼 보고 듣고 말하며 배우는 일을 컴퓨터가 해내도록 만드는 기술이에요.",
    "인공지능은 컴퓨터가 많은 자료에서 규칙을 배워 글을 쓰고 사진을 알아보게 하는 기술이에요. "
    "덕분에 번역이나 검색처럼 사람이 하던 일을 더 빨리 할 수 있어요.",
    "인공지능은 사람의 지능이 필요한 일을 컴퓨터가 스스로 배워서 하게 만드는 학문이자 기술입니다. "
    "수학과 컴퓨터 과학, 언어학이 함께 쓰이고, 병을 찾거나 길을 안내하는 일처럼 우리 생활 곳곳에서 도움을 줍니다.",
]


def main(argv: list[str] | None = None) -> None:
    # 1. What to run
    plan, arguments, config, model_args = parse("reward_kochatgpt", trl.RewardConfig, DEFAULTS, argv)
    quantization_config, peft_config = lora_arguments(model_args, config)
    set_up_wandb(config)
    announce(plan, arguments, model_args)
    checkpoint = check_before_loading(config, model_args)

    # 2. Rows: every pair of a ranking, with the distance of the two ranks as margin
    counts = RowCounts()
    dataset = format_dataset(load_raw_rows(arguments), to_preference, counts=counts)
    train, held_out = split_by_prompt(dataset, arguments.eval_fraction, seed=arguments.split_seed)

    # 3. Trainer: the padding token is not EOS, else the score would be read before the answer's end
    tokenizer, findings = load_tokenizer_with_findings(
        model_args.model_name_or_path, revision=model_args.model_revision, trust_remote_code=config.trust_remote_code
    )
    trainer = trl.RewardTrainer(
        model=model_args.model_name_or_path,
        args=config,
        train_dataset=tokenize(train, tokenizer, plan, config),
        eval_dataset=tokenize(held_out, tokenizer, plan, config),
        processing_class=tokenizer,
        quantization_config=quantization_config,
        peft_config=peft_config,
    )
    use_float32_adapters(trainer)
    group_by_length(trainer)
    rows = row_summary(counts, train, held_out, trainer)
    check_before_training(trainer, arguments, findings, checkpoint)
    if arguments.dry_run:
        describe(trainer, tokenizer, rows, train)
        return

    # 4. Train, and measure the held-out pairs before and after
    report = RunReportCallback(
        recipe=plan.recipe,
        method="reward",
        preset=plan.preset,
        model=model_args.model_name_or_path,
        rows=rows,
        tokenizer_findings=findings,
        evaluate=lambda model: evaluate_reward(model, tokenizer, held_out),
    )
    samples = KoreanSamplesCallback(held_out.select(range(min(8, len(held_out)))))
    interrupt = InterruptCallback(go_on=resume_command(argv))
    for callback in (samples, HealthGuardCallback(), report, interrupt):
        trainer.add_callback(callback)
    with report, interrupt, no_step_too_many(trainer):
        trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_model()

    # 5. Look at it as the course does
    say(f"Scores of answers to {QUESTION!r}, worst first:")
    scores = score_completions(trainer.model, tokenizer, [QUESTION] * len(DESCRIPTIONS), DESCRIPTIONS)
    for score, text in sorted(zip(scores, DESCRIPTIONS, strict=True)):
        say(f"{score:8.3f}  {text}")
    say(f"Adapter with its score head: {config.output_dir}")
    say(f"Score with it: trl-kochat score {config.output_dir} --prompt PROMPT --completion ANSWER")
    trainer.accelerator.end_training()  # several processes leave together; else one may abort at exit


if __name__ == "__main__":
    run_as_command(main)
