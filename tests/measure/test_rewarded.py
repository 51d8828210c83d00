"""What the rewards of TRL's GRPOTrainer and RLOOTrainer say of answers that they did not sample themselves."""

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from tests.tiny_lm import tiny_llama, tiny_reward_model, tiny_tokenizer
from trl_kochat import measure
from trl_kochat.errors import InputError
from trl_kochat.measure.rewarded import rewards_of
from trl_kochat.rewards import ends, length


ROWS = [{"prompt": [{"role": "user", "content": f"{number}번?"}], "wish": number} for number in range(4)]


def wishes(prompts, completions, completion_ids, wish, **columns):
    """The row's number, and nothing of row 1."""
    return [None if one == 1 else float(one) for one in wish]


def trainer_of(tmp_path, kind, config, *, reward_funcs, beta=0.1, **settings):
    torch.manual_seed(1)
    model = get_peft_model(tiny_llama(), LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    common = {"per_device_train_batch_size": 4, "num_generations": 2, "max_completion_length": 8, "report_to": "none"}
    args = config(str(tmp_path), beta=beta, use_cpu=True, bf16=False, **common, **settings)
    data = Dataset.from_list(ROWS)
    return kind(model, reward_funcs, args, data, data, processing_class=tiny_tokenizer())


@pytest.mark.parametrize(("kind", "config"), [(GRPOTrainer, GRPOConfig), (RLOOTrainer, RLOOConfig)])
def test_held_out_prompts_are_measured_by_every_reward_and_their_weighted_sum(tmp_path, kind, config):
    trainer = trainer_of(tmp_path, kind, config, reward_funcs=[wishes, ends()], reward_weights=[2.0, 1.0])
    measured = measure.rewarded(trainer)(trainer.model)
    assert measured["reward_wishes"] == pytest.approx((0 + 2 + 3) / 3) and measured["n"] == 4
    assert len(measured["reward_wishes_by_row"]) == 3 and len(measured["reward_by_row"]) == 4
    sums = [2.0 * (wish or 0) + end for wish, end in zip([0, None, 2, 3], measured["reward_ends_by_row"], strict=True)]
    assert measured["reward_by_row"] == pytest.approx(sums)
    # The policy is its reference before the first step; the same random numbers every time.
    assert measured["kl"] == pytest.approx(0, abs=1e-5)
    assert measure.rewarded(trainer)(trainer.model) == measured
    for name, parameter in trainer.model.named_parameters():
        if "lora_B.default" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    assert measure.rewarded(trainer)(trainer.model)["kl"] > 0.1


def test_without_a_reference_there_is_no_kl_and_one_reward_is_the_reward(tmp_path):
    trainer = trainer_of(tmp_path, GRPOTrainer, GRPOConfig, reward_funcs=[length(1, 9)], beta=0.0)
    measured = measure.rewarded(trainer)(trainer.model)
    assert "kl" not in measured and "reward_length" not in measured and 0 <= measured["reward"] <= 1


def test_samples_are_scored_as_the_trainer_would_reward_them(tmp_path):
    tokenizer = tiny_tokenizer()
    trainer = trainer_of(tmp_path, GRPOTrainer, GRPOConfig, reward_funcs=[ends(tokenizer), length(1, 3)])
    score = measure.score(trainer)
    assert score(["뭐?", ROWS[0]["prompt"]], ["네.", "네"]) == [2.0, 1.5]


def test_samples_have_the_columns_of_the_dataset_and_no_values(tmp_path):
    """So that a reward does not complain of a column that every training row has."""
    given = []
    trainer = trainer_of(
        tmp_path, GRPOTrainer, GRPOConfig, reward_funcs=lambda wish, **columns: given.append(wish) or wish
    )
    assert measure.score(trainer)(["뭐?"], ["네."]) == [None] and given == [[None]]


def test_two_rewards_of_one_name_both_count(tmp_path):
    trainer = trainer_of(tmp_path, GRPOTrainer, GRPOConfig, reward_funcs=[length(1, 3), length(9, 9)])
    assert rewards_of(trainer, ROWS[:1], ["네"], [[5]]) == {
        "reward": [pytest.approx(10 / 9)],
        "length": [1.0],
        "length_2": [pytest.approx(1 / 9)],
    }


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "returned None; return a list"),
        ([1.0], "returned 1 rewards for 4 completions"),
        (["좋음"] * 4, "returned '좋음' for completion 0"),
        ([float("nan")] * 4, "returned nan for completion 0"),
    ],
)
def test_what_is_no_reward_is_told_before_the_first_step(given, said, tmp_path):
    trainer = trainer_of(tmp_path, GRPOTrainer, GRPOConfig, reward_funcs=[lambda **_: given])
    with pytest.raises(InputError, match=said):
        rewards_of(trainer, ROWS, ["네"] * 4, [[5]] * 4)


def test_a_reward_that_is_a_model_is_refused_with_the_way_out(tmp_path):
    trainer = trainer_of(tmp_path, GRPOTrainer, GRPOConfig, reward_funcs=[ends()])
    trainer.reward_funcs = [tiny_reward_model()]
    with pytest.raises(InputError, match=r"The reward ends is a model: .*reward_model\(folder\)"):
        rewards_of(trainer, ROWS, ["네"] * 4, [[5]] * 4)
