"""KoChatGPT stage 1, supervised fine-tuning, with 4-bit LoRA on one device.

    python recipes/sft_kochatgpt.py                    # gpu preset where there is a CUDA device, else cpu
    python recipes/sft_kochatgpt.py --dry_run          # say what would run

The course's single-turn rows and its dialogues, of which every answer is trained with its own context. The loss is
taken on the answers alone, their EOS included. The cpu preset needs no network: rows and model are embedded. Presets
are in configs/sft_kochatgpt/.
"""

from trl_kochat.startup import begin_command


if __name__ == "__main__":
    begin_command()

import trl

from trl_kochat import Run, measure


def main(argv: list[str] | None = None) -> None:
    run = Run("sft_kochatgpt", trl.SFTConfig, argv)
    # Prompt and completion apart, so that TRL takes the loss on the completion alone.
    _, held_out = run.rows("kochatgpt_sft")
    trainer = trl.SFTTrainer(**run.trainer_arguments)
    run.train(trainer, measure.answers(trainer, held_out))


if __name__ == "__main__":
    Run.as_command(main)
