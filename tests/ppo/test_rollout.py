import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig

from tests.tiny_lm import tiny_gpt2, tiny_llama
from trl_kochat.measure.logps import pack_rows
from trl_kochat.ppo import PPOConfig
from trl_kochat.ppo.config import GENERATION_KWARGS
from trl_kochat.ppo.roles import Roles
from trl_kochat.ppo.rollout import (
    Rollout,
    RolloutBatchSampler,
    RowSampler,
    cut_after_eos,
    epoch_order,
    generate_completions,
    row_uniforms,
)


def sampler(rows=23, *, slice_size=2, slices=3, processes=1, repeats=4, seed=0, epoch=0):
    return RolloutBatchSampler(
        rows,
        slice_size=slice_size,
        slices=slices,
        processes=processes,
        repeats=repeats,
        seed=seed,
        epoch=lambda: epoch,
    )


def test_each_rollout_comes_as_often_as_it_is_updated_on_and_no_prompt_comes_twice():
    batches = list(sampler())
    assert len(batches) == len(sampler()) == 3 * 4
    rollouts = batches[::4]
    assert all(batches[i] == rollouts[i // 4] for i in range(12))
    seen = [row for batch in rollouts for row in batch]
    assert len(set(seen)) == len(seen) == 18 and set(seen) <= set(range(23))


def test_the_order_depends_on_seed_and_epoch_alone():
    assert list(sampler()) == list(sampler())
    assert list(sampler()) != list(sampler(epoch=1)) != list(sampler(seed=1))
    assert sorted(row for b in list(sampler(18, repeats=1, epoch=3)) for row in b) == list(range(18))


def test_two_processes_take_each_slice_of_what_one_would_take():
    one = list(sampler(24, slice_size=4, slices=3, repeats=2))
    two = list(sampler(24, slice_size=2, slices=3, repeats=2, processes=2))
    assert len(two) == 2 * len(one)
    for whole, first, second in zip(one, two[::2], two[1::2], strict=True):
        for k in range(3):
            assert whole[4 * k : 4 * k + 4] == first[2 * k : 2 * k + 2] + second[2 * k : 2 * k + 2]


def test_uniform_numbers_belong_to_the_row_not_to_the_batch():
    together = row_uniforms([1, 2], [5, 6, 7], 10)
    assert torch.equal(together[1:2], row_uniforms([1, 2], [6], 10))
    assert torch.equal(together[:, :4], row_uniforms([1, 2], [5, 6, 7], 4))
    assert not torch.equal(together, row_uniforms([1, 3], [5, 6, 7], 10))
    assert ((0 <= together) & (together < 1)).all()


def test_row_sampler_draws_from_the_softmax():
    logits = torch.tensor([2.0, 0.0, -1.0, -torch.inf, 1.0])
    n = 20_000
    uniforms = torch.from_numpy(np.random.default_rng(0).random((n, 1)))
    out = RowSampler(uniforms, 3, [])(torch.zeros(n, 3, dtype=torch.long), logits.expand(n, -1))
    assert ((out == 0).sum(1) == 1).all()  # one token is left possible
    frequencies = torch.bincount(out.argmax(1), minlength=5) / n
    assert torch.allclose(frequencies, logits.softmax(-1), atol=0.01)
    assert frequencies[3] == 0


@pytest.mark.parametrize("uniform", [0.0, 0.999999999, 1 - 1e-16, 1.0])
def test_row_sampler_never_draws_the_impossible_at_the_ends(uniform):
    logits = torch.tensor([[-torch.inf, 1.0, 1.0, -torch.inf]])
    out = RowSampler(torch.tensor([[uniform]], dtype=torch.float64), 1, [])(
        torch.zeros(1, 1, dtype=torch.long), logits
    )
    assert out.argmax().item() in (1, 2)


@given(st.lists(st.integers(0, 3)), st.sets(st.integers(0, 3), min_size=1))
def test_a_completion_ends_with_its_first_eos(ids, eos):
    kept, finished = cut_after_eos(ids, sorted(eos))
    assert kept == ids[: len(kept)]
    assert finished == bool(eos & set(ids)) == (bool(kept) and kept[-1] in eos)
    assert finished or kept == ids
    assert not eos & set(kept[:-1])


PROMPTS = [[5, 6, 7], [9], [20, 21, 22, 23, 24, 25]]


def complete(model, rows, *, pad_token_id=1, eos=(0, 7, 8, 9, 10), unused_ids=(), **kwargs):
    args = PPOConfig("out", report_to="none", use_cpu=True, max_completion_length=12, **kwargs)
    return generate_completions(
        model,
        [PROMPTS[i] for i in rows],
        args=args,
        uniforms=row_uniforms([3], rows, 12),
        eos_token_ids=list(eos),
        pad_token_id=pad_token_id,
        unused_ids=unused_ids,
    )


@pytest.mark.parametrize("model", [tiny_llama(), tiny_gpt2()], ids=["llama", "gpt2"])
def test_a_completion_is_the_same_alone_and_in_any_batch(model):
    # Left padding, learned positions, neighbours, their order, and whether pad is EOS: none of it counts.
    together, finished = complete(model, [0, 1, 2])
    assert any(finished) and len({len(ids) for ids in together}) > 1
    for i in range(3):
        assert complete(model, [i]) == ([together[i]], [finished[i]])
    assert complete(model, [2, 0]) == ([together[2], together[0]], [finished[2], finished[0]])
    assert complete(model, [0, 1, 2], pad_token_id=0) == (together, finished)


def test_ids_that_no_token_has_are_never_sampled():
    model = tiny_llama(vocab_size=300)
    with torch.no_grad():
        model.lm_head.weight[250:] *= 20
    assert any(token >= 250 for ids in complete(model, [0, 1])[0] for token in ids)
    completions, _ = complete(model, [0, 1], unused_ids=range(250, 300))
    assert all(token < 250 for ids in completions for token in ids)


def test_top_k_one_is_greedy():
    model = tiny_llama()
    completions, _ = complete(model, [0], top_k=1, eos=(0,))
    greedy = model.generate(torch.tensor([PROMPTS[0]]), do_sample=False, max_new_tokens=12, eos_token_id=0)
    assert completions[0] == greedy[0, 3:].tolist()


def test_generation_ends_when_every_row_has_ended():
    model, passes = tiny_llama(), []
    model.register_forward_hook(lambda *args: passes.append(1))
    completions, finished = complete(model, [0, 1], eos=range(300))
    assert all(finished) and [len(ids) for ids in completions] == [1, 1] and len(passes) == 1


def fields_of_generation_config():
    return sorted(
        name for name in GenerationConfig().to_dict() if name not in ("transformers_version", "_from_model_config")
    )


@pytest.mark.parametrize("name", fields_of_generation_config())
def test_generation_kwargs_hold_nothing_that_changes_which_tokens_come(name):
    if name in GENERATION_KWARGS:
        assert PPOConfig("out", report_to="none", use_cpu=True, generation_kwargs={name: None})
        return
    with pytest.raises(ValueError, match=f"'{name}'"):
        PPOConfig("out", report_to="none", use_cpu=True, generation_kwargs={name: None})


def test_generation_kwargs_reach_generate():
    assert complete(tiny_llama(), [0, 1], generation_kwargs={"use_cache": False}) == complete(tiny_llama(), [0, 1])
    with pytest.raises(ValueError, match="cache_implementation"):
        complete(tiny_llama(), [0], generation_kwargs={"cache_implementation": "no such cache"})


ASKED_BY_THE_BASE = {
    "min_length": 14,
    "min_new_tokens": 11,
    "num_return_sequences": 3,
    "num_beams": 2,
    "repetition_penalty": 5.0,
    "no_repeat_ngram_size": 1,
    "bad_words_ids": [[i] for i in range(3, 200)],
    "suppress_tokens": list(range(3, 200)),
    "begin_suppress_tokens": list(range(3, 200)),
    "forced_bos_token_id": 5,
    "forced_eos_token_id": 5,
    "exponential_decay_length_penalty": [1, 9.0],
    "sequence_bias": [[[5], 50.0]],
    "guidance_scale": 3.0,
    "penalty_alpha": 0.6,
    "prompt_lookup_num_tokens": 3,
    "max_time": 1e-9,
    "stop_strings": ["a"],
    "top_k": 1,
    "typical_p": 0.1,
    "do_sample": True,
    "output_scores": True,
    "return_dict_in_generate": True,
}


@pytest.mark.parametrize("name", ASKED_BY_THE_BASE)
def test_what_the_bases_generation_config_asks_for_does_not_join_sampling(name):
    plain, asking = tiny_llama(eos_logit=4.0), tiny_llama(eos_logit=4.0)
    setattr(asking.generation_config, name, ASKED_BY_THE_BASE[name])
    own = asking.generation_config
    with Roles(asking).generating() as model:
        completions = complete(model, [0, 1, 2])
    assert completions == complete(plain, [0, 1, 2])
    assert asking.generation_config is own and getattr(own, name) == ASKED_BY_THE_BASE[name]


@pytest.mark.parametrize(
    "setting", [{"temperature": 0.01}, {"min_p": 0.99}, {"top_p": 1e-6}, {"repetition_penalty": 1e9}], ids=str
)
def test_each_setting_of_sampling_is_used(setting):
    completions, _ = complete(tiny_llama(), [0, 1], eos=(0,), **setting)
    if "repetition_penalty" in setting:  # no token comes twice
        assert all(len(set(PROMPTS[i] + ids)) == len(PROMPTS[i] + ids) for i, ids in enumerate(completions))
    else:  # what is left is the likeliest token
        assert completions == complete(tiny_llama(), [0, 1], eos=(0,), top_k=1)[0]


def test_a_saved_rollout_is_the_same_rollout(tmp_path):
    rollout = Rollout(
        [[1, 2], [3]],
        [[4], [5, 6, 7]],
        *(torch.randn(2, 3) for _ in range(4)),
        kept=torch.tensor([True, False]),
    )
    rollout.save(tmp_path / "rollout.safetensors")
    loaded = Rollout.load(tmp_path / "rollout.safetensors", "cpu")
    for name, value in vars(rollout).items():
        other = getattr(loaded, name)
        assert torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other
    assert rollout.tokens([0, 1]) == 1  # the second row had no reward


@settings(max_examples=20)
@given(st.integers(1, 20), st.integers(0, 5))
def test_every_epoch_takes_every_row_once(rows, ppo_epoch):
    order = epoch_order(rows, ppo_epoch=ppo_epoch, seed=[1])
    assert sorted(order) == list(range(rows))
    assert order == epoch_order(rows, ppo_epoch=ppo_epoch, seed=[1])
    assert ppo_epoch or order == list(range(rows))


def test_a_slice_is_no_wider_than_its_rows():
    rollout = Rollout(
        [[1, 2], [3], [4]],
        [[4], [5, 6, 7], [8]],
        *(torch.arange(9.0).reshape(3, 3) for _ in range(4)),
        kept=torch.tensor([True, True, False]),
    )
    batch = rollout.batch([2, 0], pad_token_id=0, device="cpu")
    assert batch["input_ids"].tolist() == [[4, 8, 0], [1, 2, 4]]
    assert batch["returns"].tolist() == [[6.0], [0.0]]
    assert batch["loss_mask"].tolist() == [[False], [True]]
    same = pack_rows([[4], [1, 2]], [[8], [4]], pad_token_id=0)
    assert torch.equal(batch["attention_mask"], same.attention_mask)
