"""KoChatGPT stage 3, PPO, with 4-bit LoRA on one device: policy, value, reward and reference on one base in memory.

    python recipes/ppo_kochatgpt.py                    # gpu preset where there is a CUDA device, else cpu
    python recipes/ppo_kochatgpt.py --dry_run          # say what would run

The policy starts from the adapter of stage 1, which is also the reference; stage 2's adapter gives the rewards and
starts the value. The cpu preset needs no network: it takes stages 1 and 2 from runs/ where you have run them, else
adapters that are embedded like rows and model. `--rewards reward_model speech_level:해요체` adds a function to stage 2's
adapter, `--rewards speech_level:해요체 ends` takes functions alone (docs/rewards.md). Presets are in configs/ppo_kochatgpt/.

A reward can be had by writing worse: the health guard warns when repetition in the answers rises by more than 0.25,
Chinese characters by more than 0.05, Latin letters by more than 0.2, or KL beyond 20 nats a completion.
"""

from trl_kochat.startup import begin_command


if __name__ == "__main__":
    begin_command()

from trl_kochat import KoreanSamplesCallback, PPOConfig, PPOTrainer, Run, measure
from trl_kochat.stages import StageArguments, cut_prompts, find_rewards, find_sft_adapter


def main(argv: list[str] | None = None) -> None:
    adapters = "LoRA of stages 1 and 2"
    run = Run("ppo_kochatgpt", PPOConfig, argv, extra_arguments=StageArguments, adapters=adapters)
    # The embedded one for PPO was stopped early: it leaves something to do.
    sft_adapter, rewards = find_sft_adapter(run, embedded_name="tiny-ko-sft-early"), find_rewards(run)
    run.rows("kochatgpt_ppo", lambda rows: cut_prompts(rows, run.tokenizer, run.config.max_prompt_length))

    # One base; the other three roles are adapters on it, or it with an adapter off.
    trainer = PPOTrainer(**{**run.trainer_arguments, "model": sft_adapter}, reward_funcs=rewards)
    samples = KoreanSamplesCallback(score=trainer.score_answers)
    run.train(trainer, measure.policy(trainer), samples=samples)


if __name__ == "__main__":
    Run.as_command(main)
