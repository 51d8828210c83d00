import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny_lm import tiny_gpt2, tiny_llama
from trl_kochat.measure.logps import pack_rows
from trl_kochat.ppo import PPOConfig
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


def complete(model, rows, *, pad_token_id=1, eos=(0, 7, 8, 9, 10), **kwargs):
    args = PPOConfig("out", report_to="none", use_cpu=True, max_completion_length=12, **kwargs)
    return generate_completions(
        model,
        [PROMPTS[i] for i in rows],
        args=args,
        uniforms=row_uniforms([3], rows, 12),
        eos_token_ids=list(eos),
        pad_token_id=pad_token_id,
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


def test_top_k_one_is_greedy():
    model = tiny_llama()
    completions, _ = complete(model, [0], top_k=1, eos=(0,))
    greedy = model.generate(torch.tensor([PROMPTS[0]]), do_sample=False, max_new_tokens=12, eos_token_id=0)
    assert completions[0] == greedy[0, 3:].tolist()


def test_generation_kwargs_reach_generate():
    suppressed = complete(tiny_llama(), [0, 1], generation_kwargs={"suppress_tokens": list(range(0, 300, 2))})[0]
    assert all(token % 2 for row in suppressed for token in row)


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
