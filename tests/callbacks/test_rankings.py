import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer

from trl_kochat import format_dataset
from trl_kochat.callbacks.rankings import batch_whole_rankings
from trl_kochat.encode import tokenize_dataset
from trl_kochat.encode.rankings import whole_rankings

from ..tiny_lm import tiny_llama, tiny_reward_model, tiny_tokenizer
from .training import quiet


ANSWERS = ("네, 맑아요.", "네, 맑", "몰라요. 저는 그런 것을 잘 몰라요.")


def ranking(number, ranks=(0, 1, 2), answers=ANSWERS):
    completions = {f"completion_{place}": f"{number} {answer}" for place, answer in enumerate(answers)}
    return {"prompt": f"{number}번 질문?", **completions, "ranking": list(ranks)}


def reward_trainer(folder, rankings, held_out=None, **more):
    tokenizer = tiny_tokenizer()
    held_out = held_out or [ranking(number, answers=ANSWERS[::-1]) for number in range(20, 23)]
    train, held_out = (
        tokenize_dataset(format_dataset(Dataset.from_list(rows), "kochatgpt_rm"), tokenizer)
        for rows in (rankings, held_out)
    )
    config = RewardConfig(**quiet(folder, bf16=False, gradient_checkpointing=False, max_length=None, **more))
    model = tiny_reward_model()
    return RewardTrainer(model, args=config, train_dataset=train, eval_dataset=held_out, processing_class=tokenizer)


def watch(trainer):
    """How many sequences the trainer's batches hold, and how many of them go through the model's layers."""
    given, scored, collate = [], [], trainer.data_collator

    def collated(rows):
        batch = collate(rows)
        given.append(len(batch["input_ids"]))
        return batch

    trainer.data_collator = collated
    trainer.model.model.register_forward_hook(lambda *args: scored.append(len(args[-1].last_hidden_state)))
    return given, scored


@pytest.mark.parametrize("strategy", ["random", "group_by_length"])
def test_an_epoch_holds_every_ranking_whole_and_scores_each_answer_once(strategy, tmp_path):
    rankings = [ranking(number) for number in range(8)]
    more = {"num_train_epochs": 1, "per_device_train_batch_size": 2, "train_sampling_strategy": strategy}
    trainer = reward_trainer(tmp_path, rankings, **more)
    batch_whole_rankings(trainer)
    given, scored = watch(trainer)
    trainer.train()
    assert given == [2 * 2 * 3] * 4  # three pairs of two sides, of each of two rankings
    assert scored == [2 * 3] * 4


def test_loss_gradients_and_metrics_are_those_of_trl_on_the_same_pairs(tmp_path):
    ends_differently = ranking(9, answers=(*ANSWERS[:2], ANSWERS[1] + "."))
    rankings = [ranking(0), ranking(1, ranks=(1, 1, 0)), ends_differently]
    results = []
    for whole in (False, True):
        trainer = reward_trainer(tmp_path, rankings, per_device_train_batch_size=16, per_device_eval_batch_size=16)
        if whole:
            batch_whole_rankings(trainer)
        metrics = trainer.evaluate()
        (batch,) = trainer.get_train_dataloader()
        trainer.model.eval()  # no dropout
        trainer.compute_loss(trainer.model, batch).backward()
        gradients = torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])
        results.append((gradients, {k: v for k, v in metrics.items() if "time" not in k and "second" not in k}))
    (gradients, metrics), (of_whole, metrics_of_whole) = results
    torch.testing.assert_close(of_whole, gradients, rtol=1e-4, atol=1e-6)
    assert gradients.abs().max() > 0.01
    assert metrics_of_whole == pytest.approx(metrics, rel=1e-4)


def test_sequences_that_differ_in_their_mask_alone_are_scored_apart(tmp_path):
    trainer = reward_trainer(tmp_path, [ranking(0)])
    end = trainer.processing_class.pad_token_id
    batch = {
        "input_ids": torch.tensor([[5, 6, end], [5, 6, 7], [5, 6, end], [5, 6, end]]),
        "attention_mask": torch.tensor([[1, 1, 0], [1, 1, 1], [1, 1, 1], [1, 1, 0]]),
    }
    trainer.model.eval()
    with torch.no_grad():
        each = trainer.model(**batch).logits
        batch_whole_rankings(trainer)
        _, scored = watch(trainer)
        torch.testing.assert_close(trainer.model(**batch).logits, each)
    assert scored == [3]


def test_a_model_that_was_trained_so_can_be_called_in_any_way(tmp_path):
    trainer = reward_trainer(tmp_path, [ranking(0)])
    ids = torch.tensor([[5, 6, 7], [5, 6, 7]])
    rest = {"attention_mask": torch.ones_like(ids), "position_ids": torch.tensor([[0, 1, 2], [3, 4, 5]])}
    calls = [((ids,), {}), ((), {"input_ids": ids}), ((), {"input_ids": ids, **rest})]
    trainer.model.eval()
    with torch.no_grad():
        before = [trainer.model(*args, **kwargs).logits for args, kwargs in calls]
        batch_whole_rankings(trainer)
        for (args, kwargs), logits in zip(calls, before, strict=True):
            torch.testing.assert_close(trainer.model(*args, **kwargs).logits, logits)


def test_pairs_of_no_ranking_and_other_trainers_stay_as_they_are(tmp_path):
    two = [
        {"prompt": f"{n}번?", "completion_0": f"{n}", "completion_1": f"{n} 몰라", "ranking": [0, 1]} for n in range(4)
    ]
    trainer = reward_trainer(tmp_path, two, held_out=two)
    rows = [{"prompt": "뭐?", "chosen": "가", "rejected": "나"}, {"prompt": "뭐?", "chosen": "가", "rejected": "다"}]
    config = DPOConfig(**quiet(tmp_path, bf16=False))
    dpo = DPOTrainer(
        tiny_llama(), tiny_llama(), config, train_dataset=Dataset.from_list(rows), processing_class=tiny_tokenizer()
    )
    for untouched in (trainer, dpo):
        before = untouched.train_dataset, untouched.eval_dataset, untouched.data_collator
        batch_whole_rankings(untouched)
        assert (untouched.train_dataset, untouched.eval_dataset, untouched.data_collator) == before


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.integers(0, 2), min_size=3, max_size=3), min_size=1, max_size=8))
def test_rankings_are_found_again_among_their_pairs(ranks):
    """A ranking without a tie between all gives pairs that hang together; those of another one share no answer."""
    pairs = (
        format_dataset(
            Dataset.from_list([ranking(number, ranks=of_one) for number, of_one in enumerate(ranks)]), "kochatgpt_rm"
        )
        if any(len(set(of_one)) > 1 for of_one in ranks)
        else []
    )
    if not pairs:
        return
    ids = tokenize_dataset(pairs, tiny_tokenizer())
    found = whole_rankings(ids)
    assert [number for group in found for number in group] == list(range(len(pairs)))
    assert [len({pairs[number]["prompt_id"] for number in group}) for group in found] == [1] * len(found)
    assert len(found) == len(set(pairs["prompt_id"]))
