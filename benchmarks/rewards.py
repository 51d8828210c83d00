"""Answers a second that each reward of `trl_kochat.rewards` takes on one core, and what it makes of spoilt ones.

    taskset -c 0 python -m benchmarks.rewards

On the answers in scripts/world/everyday: as they stand, with their words shuffled, with their particles swapped for the
other form, with the first word eight times over.
"""

import random
import time
from statistics import fmean

from scripts.world.phrases import load_everyday
from trl_kochat import rewards


REWARDS = {
    "korean_script": rewards.korean_script(),
    "speech_level": rewards.speech_level("존댓말"),
    "fluency": rewards.fluency(),
    "no_repetition": rewards.no_repetition(),
    "ends": rewards.ends(),
    "length": rewards.length(10, 60),
    "format": rewards.format("3"),
    "keyword": rewards.keyword("물", "밥"),
    "spacing": rewards.spacing(),
    "particles": rewards.particles(),
    "relevance": rewards.relevance(),
}
OTHER = dict(zip("은이을과는가를와", "는가를와은이을과", strict=True))


def shuffled(text: str) -> str:
    words = text.split()
    random.Random(0).shuffle(words)
    return " ".join(words)


def swapped(text: str) -> str:
    return " ".join(word[:-1] + OTHER.get(word[-1], word[-1]) for word in text.split())


def main() -> None:
    answers = [row.answer for row in load_everyday()]
    kinds = {
        "as it stands": answers,
        "shuffled": [*map(shuffled, answers)],
        "particles": [*map(swapped, answers)],
        "one word": [" ".join([text.split()[0]] * 8) for text in answers],
    }
    print(f"{len(answers)} answers of {fmean(map(len, answers)):.0f} characters; references in batches of 64")
    print(f"| reward | answers/s | {' | '.join(kinds)} | as it stands above |\n|---|---|---|---|---|---|---|")
    for name, reward in REWARDS.items():
        reward(["?"], ["네."], None, reference=["네."])  # the analyser loads
        scores, seconds = {}, 0.0
        for kind, texts in kinds.items():
            scores[kind] = []
            for start in range(0, len(texts), 64):
                part, references = texts[start : start + 64], answers[start : start + 64]
                began = time.perf_counter()
                scores[kind] += reward(["?"] * len(part), part, None, reference=references)
                seconds += time.perf_counter() - began
        above = [fmean(a > b for a, b in zip(scores["as it stands"], scores[kind], strict=True)) for kind in kinds]
        means = " | ".join(f"{fmean(scores[kind]):.2f}" for kind in kinds)
        print(
            f"| `{name}` | {len(answers) * len(kinds) / seconds:,.0f} | {means} | "
            f"{', '.join(f'{share:.0%}' for share in above[1:])} |"
        )
    fluent = sorted(REWARDS["fluency"](["?"] * len(answers), answers, None))
    print(
        f"fluency of the answers: 95 % of them from {fluent[len(fluent) // 40]:.2f} to {fluent[-len(fluent) // 40]:.2f}"
    )


if __name__ == "__main__":
    main()
