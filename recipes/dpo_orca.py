"""DPO on Orca pairs with 4-bit LoRA on one device.

    python recipes/dpo_orca.py                         # gpu preset where there is a CUDA device, else cpu
    python recipes/dpo_orca.py --dry_run               # say what would run
    python recipes/dpo_orca.py --model_name_or_path Qwen/Qwen3-0.6B --max_steps 50

The cpu preset needs no network: rows and model are embedded. Presets are in configs/dpo_orca/. Every argument of
`DPOConfig` and `ModelConfig` is a flag, or a key of `--config file.yaml`.
"""

from trl_kochat.startup import begin_command


if __name__ == "__main__":
    begin_command()

import trl

from trl_kochat import Run, measure


def main(argv: list[str] | None = None) -> None:
    run = Run("dpo_orca", trl.DPOConfig, argv)
    _, held_out = run.rows("orca_pairs")

    # The reference is the same base with the adapter off, so no second model.
    trainer = trl.DPOTrainer(**run.trainer_arguments)
    run.train(trainer, measure.pairs(trainer, held_out))


if __name__ == "__main__":
    Run.as_command(main)
