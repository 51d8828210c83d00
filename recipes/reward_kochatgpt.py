"""KoChatGPT stage 2, a reward model from rankings of answers, with 4-bit LoRA on one device.

    python recipes/reward_kochatgpt.py                 # gpu preset where there is a CUDA device, else cpu
    python recipes/reward_kochatgpt.py --dry_run       # say what would run

A ranking of three answers gives up to three pairs; a tie gives none, and no prompt stands on both sides of the split.
The cpu preset needs no network: rows and model are embedded. Presets are in configs/reward_kochatgpt/.
"""

from trl_kochat.startup import begin_command


if __name__ == "__main__":
    begin_command()

import trl

from trl_kochat import KoreanSamplesCallback, Run, measure
from trl_kochat.measure.score import score_completions
from trl_kochat.processes import say
from trl_kochat.run.arguments import RankingArguments


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
    run = Run("reward_kochatgpt", trl.RewardConfig, argv, extra_arguments=RankingArguments)
    _, held_out = run.rows("kochatgpt_rm")
    trainer = trl.RewardTrainer(**run.trainer_arguments)
    samples = KoreanSamplesCallback(held_out.select(range(min(8, len(held_out)))))
    if run.train(trainer, measure.scores(trainer, held_out), samples=samples):
        say(f"Scores of answers to {QUESTION!r}, worst first:")
        scores = score_completions(trainer.model, run.tokenizer, [QUESTION] * len(DESCRIPTIONS), DESCRIPTIONS)
        for score, text in sorted(zip(scores, DESCRIPTIONS, strict=True)):
            say(f"{score:8.3f}  {text}")


if __name__ == "__main__":
    Run.as_command(main)
