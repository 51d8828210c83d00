"""What is told of finished completions: metrics, tables, and what launches and models are refused."""

import json
import math
import sys
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset

from tests.tiny_lm import tiny_llama, tiny_reward_model
from trl_kochat.ppo import PPOConfig
from trl_kochat.ppo.checks import check_datasets, check_launch, checked_sources
from trl_kochat.ppo.models import Loader
from trl_kochat.ppo.progress import Progress
from trl_kochat.ppo.rewards import FunctionReward
from trl_kochat.ppo.tables import show_completions

from .test_trainer import ROWS, lora, trainer


def nothing(prompts, **kwargs):
    return [None] * len(prompts)


def one(prompts, **kwargs):
    return [1.0] * len(prompts)


# Four completions: score, kept, kl, entropy, tokens, ended; then what `one` and `nothing` said.
MEASURES = torch.tensor(
    [
        [1.0, 1, 2.0, 6.0, 2, 1, 1.0, math.nan],
        [3.0, 1, 4.0, 2.0, 4, 1, 3.0, math.nan],
        [0.0, 0, 0.0, 1.0, 2, 0, math.nan, math.nan],  # no reward at all
        [5.0, 1, 2.0, 0.0, 1, 1, 5.0, math.nan],
    ]
)


@pytest.fixture
def maker(tmp_path):
    return trainer(tmp_path, [one, nothing], log_completions=True).maker


def test_metrics_are_means_over_completions_and_of_entropy_over_tokens(maker):
    told = maker.summarize(MEASURES)
    spread = torch.tensor([1.0, 3.0, 5.0]).std(unbiased=False).item()
    assert told == pytest.approx(
        {
            "entropy": 1.0,  # nine nats on nine tokens
            "completions/mean_length": 2.25,
            "completions/min_length": 1.0,
            "completions/max_length": 4.0,
            "completions/clipped_ratio": 0.25,
            "ppo/missing_rewards": 1.0,
            "kl": 2.0,
            "reward": 3.0,
            "reward_std": spread,
            "rewards/one/mean": 3.0,
            "rewards/one/std": spread,
        }
    )
    evaluated = maker.summarize_evaluation(MEASURES)
    assert evaluated["eos_rate"] == 0.75 and evaluated["mean_length"] == 2.25 and evaluated["reward"] == 3.0
    assert not any(name.startswith("completions/") for name in evaluated)


def test_measures_of_a_rollout_are_sums_over_its_tokens(maker):
    made = maker([ROWS[i] for i in range(4)], numbers=range(4), seed=[0], slice_size=2)
    rows = maker.row_measures(made)
    assert rows.shape == (4, 8)
    lengths = [len(ids) for ids in made.episodes.completion_ids]
    assert rows[:, 4].tolist() == lengths and rows[:, 5].tolist() == [float(done) for done in made.episodes.finished]
    junk = made._replace(entropies=torch.where(made.mask, made.entropies, 1e9), kl=torch.where(made.mask, 0.5, 1e9))
    assert torch.equal(maker.row_measures(junk)[:, 3], rows[:, 3])
    assert maker.row_measures(junk)[:, 2].tolist() == [0.5 * length for length in lengths]
    assert rows[:, 6].tolist() == [1.0] * 4 and rows[:, 7].isnan().all()


def test_a_rollout_is_made_and_scored_without_dropout_even_if_updates_have_it(tmp_path):
    ppo = trainer(tmp_path, one, model=tiny_llama(attention_dropout=0.5, eos_logit=4.0), disable_dropout=False)
    ppo.model.train()
    made, again = (ppo.maker([ROWS[i] for i in range(4)], numbers=range(4), seed=[0], slice_size=2) for _ in range(2))
    assert made.episodes.completion_ids == again.episodes.completion_ids
    assert torch.equal(made.per_token_logps, again.per_token_logps) and (made.kl == 0).all()


def test_a_table_has_a_row_for_each_completion(maker):
    made = maker([ROWS[i] for i in range(4)], numbers=range(4), seed=[0], slice_size=2)
    made.episodes.columns["note"] += ["a", "b"]  # of a function that had nothing to say on the others
    advantages = torch.where(made.mask, 2.0, 1e9)
    table = maker.table(made, advantages)
    assert [row["prompt"] for row in table] == ROWS["prompt"][:4]
    assert [row["completion"] for row in table] == made.episodes.completions
    assert [(row["one"], row["nothing"], row["advantage"]) for row in table] == [(1.0, None, 2.0)] * 4
    assert [row.get("note") for row in table] == ["a", "b", None, None]
    assert "advantage" not in maker.table(made)[0]
    made.episodes.metrics["share"] += [0.25, 0.75]
    assert maker.logged(made) == {"share": 0.5}


def test_what_was_measured_is_told_once():
    progress = Progress(0.1)
    progress.metrics["x"] += [1.0, 2.0, 6.0]
    assert progress.pop_metrics() == {"x": 3.0} and progress.pop_metrics() == {}


def test_a_checkpoint_names_the_files_that_resuming_needs(tmp_path):
    ppo = trainer(tmp_path, save_strategy="steps", save_steps=1, max_steps=4)
    ppo.train()  # four steps on each rollout
    files = [json.loads((tmp_path / f"checkpoint-{step}" / "ppo_state.json").read_text())["files"] for step in (3, 4)]
    assert set(files[0]) - set(files[1]) == {"rollout_0.safetensors"}
    assert {"adapter_model.safetensors", "model.safetensors", "value/adapter_model.safetensors"} <= set(files[1])


def test_completions_are_shown_as_they_are_without_what_would_move_the_cursor(capsys):
    args = PPOConfig("out", report_to="none", use_cpu=True, num_completions_to_print=2)
    rows = [
        {"prompt": [{"role": "user", "content": "질문"}], "completion": "답\x1b[2J", "one": 0.12345},
        {"prompt": "글", "completion": "둘", "one": None, "more": "그"},
        {"prompt": "셋", "completion": "셋", "one": 1.0},
    ]
    show_completions(rows, name="completions", step=7, args=args)
    out = capsys.readouterr().out
    assert "completions, step 7" in out and "USER" in out and "질문" in out and "0.12" in out and "more" in out
    assert out.count("├") == 1  # a line between the two
    assert "0.123" not in out and "셋" not in out and "\x1b[2J" not in out and "None" not in out
    show_completions([], name="completions", step=7, args=args)
    assert capsys.readouterr().out == ""


def test_all_completions_go_to_the_run_of_wandb_that_is_open(monkeypatch, capsys):
    logged = []
    wandb = SimpleNamespace(run=None, log=logged.append, Table=lambda columns, data: (columns, data))
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    args = PPOConfig("out", report_to="wandb", use_cpu=True, num_completions_to_print=1)
    conversation = [{"role": "user", "content": "질문"}]
    rows = [{"prompt": conversation, "one": 1.0}, {"prompt": "글", "completion": "답"}]
    show_completions(rows, name="eval", step=7, args=args)
    assert not logged
    wandb.run = object()
    show_completions(rows, name="eval", step=7, args=args)
    data = [[7, str(conversation), 1.0, None], [7, "글", None, "답"]]
    assert logged == [{"eval": (["step", "prompt", "one", "completion"], data)}]
    show_completions(rows, name="eval", step=7, args=PPOConfig("out", report_to="none", use_cpu=True))
    assert len(logged) == 1


# What is refused before anything is loaded.


def launched(**kwargs):
    args = SimpleNamespace(n_gpu=kwargs.pop("n_gpu", 1))
    return SimpleNamespace(**{"is_fsdp_enabled": False, "is_deepspeed_enabled": False, "args": args} | kwargs)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"is_fsdp_enabled": True}, "not with FSDP or DeepSpeed"),
        ({"is_deepspeed_enabled": True}, "not with FSDP or DeepSpeed"),
        ({"n_gpu": 2}, "accelerate launch"),
    ],
)
def test_sharded_weights_and_one_process_for_several_gpus_are_refused(how, message):
    with pytest.raises(ValueError, match=message):
        check_launch(launched(**how))
    check_launch(launched())
    check_launch(launched(n_gpu=0))


def test_a_trainer_refuses_to_drive_several_gpus(tmp_path, monkeypatch):
    monkeypatch.setattr(PPOConfig, "n_gpu", 2)
    with pytest.raises(ValueError, match="accelerate launch"):
        trainer(tmp_path)


@pytest.mark.parametrize("name", ["prompts", "completions", "trainer_state", "log_metric", "log_extra"])
def test_a_column_may_not_have_the_name_of_what_reward_functions_get_anyway(name):
    rows = Dataset.from_dict({"prompt": ["글"], name: ["x"]})
    maker = SimpleNamespace(rewards=[FunctionReward(one, "one")])
    with pytest.raises(ValueError, match=f"train_dataset has a column '{name}'"):
        check_datasets(rows, None, maker, None, None)


def test_a_reference_is_copied_where_kl_asks_for_one_and_is_a_model_at_rest(tmp_path):
    assert trainer(tmp_path, peft_config=None, kl_coef=0.0).ref_model is None
    ppo = trainer(tmp_path, model=tiny_llama(attention_dropout=0.5).train(), peft_config=None)
    assert not ppo.ref_model.training and not any(p.requires_grad for p in ppo.ref_model.parameters())
    made = ppo.maker([ROWS[i] for i in range(4)], numbers=range(4), seed=[0], slice_size=2)
    assert (made.kl == 0).all()


def test_a_reference_in_8_bit_stays_where_it_was_loaded(tmp_path):
    reference = tiny_llama()
    reference.quantization_method = "bitsandbytes"
    reference.to = lambda *args: pytest.fail("moved")
    assert trainer(tmp_path, peft_config=None, ref_model=reference).ref_model is reference


def test_one_source_of_rewards_or_several_with_a_tokenizer_each():
    args = PPOConfig("out", report_to="none", use_cpu=True)
    assert checked_sources(one, None, args, None) == ([one], [None])
    assert checked_sources((one, nothing), None, args, None) == ([one, nothing], [None, None])
    assert checked_sources(one, "tokenizer", args, None) == ([one], ["tokenizer"])
    with pytest.raises(ValueError, match="1 reward_processing_classes for 2 reward_funcs"):
        checked_sources([one, nothing], ["tokenizer"], args, None)


@pytest.mark.parametrize(
    ("rows", "name"), [({"a": ROWS.select([]), "b": ROWS}, "a"), ({"a": ROWS, "b": ROWS.select([])}, "b")]
)
def test_each_of_several_held_out_sets_is_looked_at(tmp_path, rows, name):
    with pytest.raises(ValueError, match=f"{name} has no prompts"):
        trainer(tmp_path, eval_rows=rows)


def test_prompts_may_fill_the_positions_that_completions_leave(tmp_path):
    rows = Dataset.from_list([{"prompt": "a" * 3}] * 8)
    tokens = len(trainer(tmp_path).maker.prompt_ids(["a" * 3])[0])
    trainer(tmp_path, rows=rows, max_completion_length=256 - tokens)
    with pytest.raises(ValueError, match=f"row 0 of train_dataset has {tokens} tokens; the limit is {tokens - 1} "):
        trainer(tmp_path, rows=rows, max_completion_length=257 - tokens)


def test_settings_for_loading_are_said_to_be_unused_with_a_model_that_is_loaded(caplog):
    model = tiny_llama()
    assert Loader(PPOConfig("out", report_to="none", use_cpu=True)).causal(model) is model and not caplog.text
    args = PPOConfig("out", report_to="none", use_cpu=True, model_init_kwargs={"dtype": "float32"})
    assert Loader(args).causal(model) is model and "model_init_kwargs are not used" in caplog.text


def test_settings_for_loading_reach_models_that_are_loaded(tmp_path):
    tiny_llama().save_pretrained(tmp_path / "policy")
    tiny_reward_model().save_pretrained(tmp_path / "reward")
    args = PPOConfig("out", report_to="none", use_cpu=True, model_init_kwargs={"dtype": "bfloat16"})
    assert Loader(args).causal(str(tmp_path / "policy")).dtype == torch.bfloat16
    assert Loader(args).scorer(str(tmp_path / "reward")).dtype == torch.bfloat16


def test_rewards_are_named_by_what_they_are(tmp_path):
    class Judge:
        def __call__(self, prompts, **kwargs):
            return [1.0] * len(prompts)

    tiny_reward_model().save_pretrained(tmp_path / "a_reward")
    sources = [one, one, Judge(), str(tmp_path / "a_reward") + "/", tiny_reward_model()]
    ppo = trainer(tmp_path, sources, peft_config=lora())
    assert [reward.name for reward in ppo.rewards] == [
        "one",
        "one_2",
        "Judge",
        "a_reward",
        "LlamaForSequenceClassification",
    ]
