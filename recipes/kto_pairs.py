"""KTO on answers marked good or bad, or on pairs as such answers, with 4-bit LoRA on one device.

    python recipes/kto_pairs.py                        # gpu preset where there is a CUDA device, else cpu
    python recipes/kto_pairs.py --dry_run              # say what would run
    python recipes/kto_pairs.py --dataset_name marked.jsonl   # rows of prompt, completion, label

The cpu preset needs no network: rows and model are embedded. Presets are in configs/kto_pairs/. The page tells the loss
of the good held-out answers and what the model answers itself; the margin of good over bad is among its curves.
"""

from trl_kochat.startup import begin_command


if __name__ == "__main__":
    begin_command()

import trl

from trl_kochat import Run, measure
from trl_kochat.data.pairs import unpaired


def main(argv: list[str] | None = None) -> None:
    run = Run("kto_pairs", trl.KTOConfig, argv)
    _, held_out = run.rows(
        "unpaired_preference", lambda rows: unpaired(rows) if "chosen" in rows.column_names else rows
    )

    # The reference is the same base with the adapter off, so no second model.
    trainer = trl.KTOTrainer(**run.trainer_arguments)
    run.train(trainer, measure.answers(trainer, held_out.filter(lambda row: row["label"])))


if __name__ == "__main__":
    Run.as_command(main)
