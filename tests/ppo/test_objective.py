import math
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trl_kochat.ppo.objective import (
    adapted_kl_coef,
    advantages_and_returns,
    explained_variance,
    kl_k1,
    kl_k3,
    loss_sums,
    masked_mean,
    policy_losses,
    standardize,
    token_rewards,
    value_losses,
)


shapes = st.tuples(st.integers(1, 5), st.integers(1, 7), st.integers(0, 10_000))


def random_rows(shape):
    """Rows of random lengths, at least one real token each, with a fill of NaN off the mask."""
    rows, width, seed = shape
    torch.manual_seed(seed)
    lengths = torch.randint(1, width + 1, (rows,))
    mask = torch.arange(width) < lengths[:, None]

    def tensor():
        return torch.where(mask, torch.randn(rows, width, dtype=torch.float64), math.nan)

    return mask, tensor


@settings(max_examples=50, deadline=None)
@given(shapes, st.floats(0, 1), st.floats(0, 1))
def test_gae_equals_its_definition(shape, gamma, lam):
    # A_t = sum_l (gamma lam)^l d_{t+l}, d_t = r_t + gamma V_{t+1} - V_t, no value past the last real token.
    mask, tensor = random_rows(shape)
    rewards, values = tensor(), tensor()
    advantages, returns = advantages_and_returns(rewards, values, mask, gamma=gamma, lam=lam)
    for row in range(mask.shape[0]):
        n = int(mask[row].sum())
        v = [*values[row, :n].tolist(), 0.0]
        deltas = [rewards[row, t].item() + gamma * v[t + 1] - v[t] for t in range(n)]
        for t in range(n):
            expected = sum((gamma * lam) ** k * d for k, d in enumerate(deltas[t:]))
            assert advantages[row, t].item() == pytest.approx(expected, abs=1e-9)
            assert returns[row, t].item() == pytest.approx(expected + v[t], abs=1e-9)
    assert (advantages[~mask] == 0).all() and (returns[~mask] == 0).all()


def test_with_gamma_and_lambda_one_the_return_is_the_reward_still_to_come():
    rewards = torch.tensor([[1.0, 2.0, 3.0]])
    _, returns = advantages_and_returns(rewards, torch.randn(1, 3), torch.ones(1, 3).bool(), gamma=1.0, lam=1.0)
    assert returns.tolist()[0] == pytest.approx([6.0, 5.0, 3.0])


@settings(max_examples=50, deadline=None)
@given(shapes)
def test_the_score_lands_on_the_last_real_token_and_kl_is_charged_everywhere(shape):
    mask, tensor = random_rows(shape)
    kl, scores = tensor(), torch.randn(mask.shape[0], dtype=torch.float64)
    rewards = token_rewards(scores, kl, mask, kl_coef=0.5)
    for row in range(mask.shape[0]):
        n = int(mask[row].sum())
        expected = [-0.5 * x for x in kl[row, :n].tolist()]
        expected[-1] += scores[row].item()
        assert rewards[row, :n].tolist() == pytest.approx(expected)
    assert (rewards[~mask] == 0).all()


def test_rewards_are_where_their_tensors_are():
    rewards = token_rewards(*(torch.ones(shape, device="meta") for shape in (2, (2, 3))), torch.ones(2, 3, device="meta").bool(), kl_coef=0.1)  # fmt: skip
    assert rewards.device.type == "meta" and rewards.shape == (2, 3)


@settings(max_examples=50, deadline=None)
@given(st.tuples(st.integers(2, 5), st.integers(4, 7), st.integers(0, 10_000)))
def test_standardized_values_have_mean_0_and_std_1(shape):
    mask, tensor = random_rows(shape)
    mask[0, :4] = True
    values = torch.where(mask, torch.randn(mask.shape, dtype=torch.float64) * 7 + 3, math.nan)
    out = standardize(values, mask)
    assert out[mask].mean().abs() < 1e-6
    assert (out[mask].std(unbiased=False) - 1).abs() < 1e-6
    assert (out[~mask] == 0).all()


def test_standardizing_over_processes_equals_standardizing_the_whole():
    torch.manual_seed(0)
    whole, mask = torch.randn(6, 4), torch.rand(6, 4) > 0.3
    barrier, sent = threading.Barrier(2), {}

    def standardized(process: int, rows: slice) -> torch.Tensor:
        def reduce(tensor: torch.Tensor) -> torch.Tensor:
            sent[process] = tensor
            barrier.wait()
            total = sent[0] + sent[1]
            barrier.wait()
            return total

        return standardize(whole[rows], mask[rows], reduce=reduce)

    with ThreadPoolExecutor(2) as pool:
        parts = list(pool.map(standardized, (0, 1), (slice(0, 2), slice(2, 6))))
    assert torch.allclose(torch.cat(parts), standardize(whole, mask), atol=1e-5)


def test_standardizing_equal_values_gives_zeros():
    assert standardize(torch.full((2, 3), 5.0), torch.ones(2, 3).bool()).abs().max() < 1e-3


def test_a_mean_never_sees_fill_values_and_an_empty_mask_is_no_error():
    values = torch.tensor([[2.0, 4.0, math.nan]])
    assert masked_mean(values, torch.tensor([[True, True, False]])).item() == 3.0
    assert masked_mean(values, torch.tensor([[False, True, False]])).item() == 4.0
    assert masked_mean(values, torch.zeros(1, 3).bool()).item() == 0.0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_both_kl_estimators_are_unbiased_and_k3_is_never_negative(seed):
    torch.manual_seed(seed)
    p, q = torch.randn(2, 40, dtype=torch.float64).log_softmax(-1)
    exact = (p.exp() * (p - q)).sum()
    for estimator in (kl_k1, kl_k3):
        assert (p.exp() * estimator(p, q)).sum().item() == pytest.approx(exact.item(), abs=1e-9)
        assert (estimator(p, p) == 0).all()
    assert (kl_k3(p, q) >= 0).all()


def test_an_unmoved_policy_has_the_plain_policy_gradient():
    logps = torch.randn(2, 3, requires_grad=True)
    advantages = torch.randn(2, 3)
    out = policy_losses(logps, logps.detach(), advantages, cliprange=0.2)
    out.losses.sum().backward()
    assert torch.allclose(out.losses, -advantages) and not out.clipped.any()
    assert torch.allclose(logps.grad, -advantages)


@pytest.mark.parametrize(
    ("ratio", "advantage", "clipped"), [(1.5, 1.0, True), (1.5, -1.0, False), (0.5, -1.0, True), (0.5, 1.0, False)]
)
def test_a_token_that_has_moved_far_enough_gets_no_gradient(ratio, advantage, clipped):
    logps = torch.tensor([[math.log(ratio)]], requires_grad=True)
    out = policy_losses(logps, torch.zeros(1, 1), torch.tensor([[advantage]]), cliprange=0.2)
    out.losses.sum().backward()
    assert out.clipped.item() is clipped
    assert (logps.grad.item() == 0) is clipped


def test_the_value_is_held_near_its_old_self_when_that_raises_the_loss():
    returns, old = torch.tensor([[1.0, 1.0, 1.0]]), torch.tensor([[0.0, 0.0, 0.0]])
    values = torch.tensor([[0.9, 0.1, -0.5]])  # beyond the clip towards the return; within; beyond it, away
    out = value_losses(values, old, returns, cliprange=0.2)
    assert out.clipped.tolist() == [[True, False, False]]
    assert out.losses.tolist()[0] == pytest.approx([0.5 * 0.8**2, 0.5 * 0.9**2, 0.5 * 1.5**2])


def test_sums_of_a_slice_are_over_its_mask_and_of_the_roles_that_are_given():
    mask = torch.tensor([[True, True, False]])
    far = math.log(2.0)
    old_logps = torch.full((1, 3), -0.5)
    logps = torch.tensor([[far - 0.5, -0.5, 9.0]], requires_grad=True)
    values = torch.tensor([[1.0, 0.0, 9.0]], requires_grad=True)
    zeros = torch.zeros(1, 3)
    batch = {
        "loss_mask": mask,
        "old_per_token_logps": old_logps,
        "old_values": zeros,
        "advantages": torch.ones(1, 3),
        "returns": torch.tensor([[2.0, 1.0, 0.0]]),
    }
    ranges = dict(cliprange=0.25, cliprange_value=0.5)
    sums = loss_sums(logps, values, batch, **ranges)
    expected = {
        "policy_loss": -1.25 - 1.0,
        "clipfrac": 1.0,
        "approx_kl": 0.5 * far**2,
        "ratio": 2.0 + 1.0,
        "value_loss": 0.5 * 1.5**2 + 0.5,
        "clipfrac_value": 1.0,
    }
    assert {name: value.item() for name, value in sums.items()} == pytest.approx(expected)
    assert {name for name, value in sums.items() if value.requires_grad} == {"policy_loss", "value_loss"}
    assert loss_sums(logps, None, batch, **ranges).keys() == {"policy_loss", "clipfrac", "approx_kl", "ratio"}
    assert loss_sums(None, values, batch, **ranges).keys() == {"value_loss", "clipfrac_value"}


def test_explained_variance_of_perfect_constant_and_opposite_critics():
    returns, mask = torch.randn(8, 5), torch.rand(8, 5) > 0.2
    junk = torch.where(mask, 0.0, 1e6)
    assert explained_variance(returns + junk, returns, mask) == pytest.approx(1.0)
    assert explained_variance(torch.full_like(returns, 2.0) + junk, returns, mask) == pytest.approx(0.0, abs=1e-5)
    assert explained_variance(-returns + junk, returns, mask) == pytest.approx(-3.0, rel=1e-4)
    assert math.isnan(explained_variance(returns, torch.ones(8, 5), mask))


def test_the_kl_coefficient_moves_towards_its_target_by_at_most_a_fifth_of_the_horizon():
    kwargs = dict(kl_target=6.0, episodes=100, kl_horizon=1000)
    assert adapted_kl_coef(0.1, 6.0, **kwargs) == pytest.approx(0.1)
    assert adapted_kl_coef(0.1, 6.6, **kwargs) == pytest.approx(0.1 * 1.01)
    assert adapted_kl_coef(0.1, 600.0, **kwargs) == pytest.approx(0.1 * 1.02)
    assert adapted_kl_coef(0.1, 0.0, **kwargs) == pytest.approx(0.1 * 0.98)


# A rollout, and what TRL 1.12.0 makes of it: the lines of its `PPOTrainer.train` from "4. compute rewards" to the loss,
# with its own `masked_mean` and `masked_whiten`, run on these tensors in an environment with trl==1.12.0 and
# torch==2.13.0; kl_coef 0.05, kl_estimator k1, both clip ranges 0.2.
# fmt: off
LOGPS = [[-1.605, -0.596, -1.978, -1.971, -0.698],
         [-1.275, -0.621, -1.889, -1.096, -2.554],
         [-2.565, -1.653, -0.861, -0.619, -1.335]]
REF_LOGPS = [[-1.325, -0.878, -1.812, -2.166, -1.161],
             [-1.454, 0.02, -1.772, -1.368, -2.288],
             [-2.803, -2.11, -0.921, -0.644, -1.653]]
VALUES = [[0.334, -0.78, 0.08, 0.572, 1.596],
          [2.413, 1.978, 0.14, -1.068, 0.385],
          [-0.439, -0.016, 0.848, -1.704, 0.625]]
SCORES = [0.12, -0.805, 1.616]
NEW_LOGPS = [[-1.53, -0.611, -1.938, -1.854, -0.373],
             [-1.67, -0.968, -1.874, -0.967, -2.44],
             [-2.488, -1.961, -0.711, -0.764, -1.899]]
NEW_VALUES = [[0.161, -0.836, 0.282, 0.565, 1.504],
              [2.061, 2.099, -0.641, -1.487, 0.708],
              [-0.435, -0.244, 0.779, -1.524, 0.789]]
# Rows of five tokens, gamma 0.98, lambda 0.95.
FULL = {
    "whitened": [[-0.0966533, 0.6135383, 0.096268, -0.2234301, -0.8943431],
                 [-1.7720755, -1.5848724, -0.5042203, 0.23974, -0.6950969],
                 [1.0173119, 0.8172736, 0.3284502, 2.0235801, 0.6345299]],
    "returns": [[0.1257905, 0.1611283, 0.1840046, 0.1586214, 0.09685],
                [-0.5066271, -0.6386672, -0.7277951, -0.7318077, -0.7917],
                [1.1555749, 1.2548431, 1.3277564, 1.519068, 1.6001]],
    "policy_loss": 0.0266537, "value_loss": 1.2100872, "clipfrac": 0.1333333, "clipfrac_value": 0.1333333,
}
# Rows of five, three and two tokens, gamma and lambda 1: TRL puts the score one position past the last token, whose
# value it takes as real, which with other discounts makes other advantages; its value loss counts that position too.
SHORT = {
    "whitened": [[0.1285436, 0.7704011, 0.2768127, -0.0151158, -0.6069375],
                 [-1.5930058, -1.3339578, -0.2801737, 0.0, 0.0],
                 [1.4466562, 1.2067766, 0.0, 0.0, 0.0]],
    "returns": [[0.0953001, 0.0813, 0.0954001, 0.0871, 0.09685],
                [-0.7760501, -0.7671, -0.79915, 0.0, 0.0],
                [1.5812501, 1.59315, 0.0, 0.0, 0.0]],
    "policy_loss": -0.0151934, "clipfrac": 0.2,
}
# fmt: on


@pytest.mark.parametrize(
    ("lengths", "gamma", "lam", "expected"), [([5, 5, 5], 0.98, 0.95, FULL), ([5, 3, 2], 1.0, 1.0, SHORT)]
)
def test_parity_with_trl_1_12(lengths, gamma, lam, expected):
    mask = torch.arange(5) < torch.tensor(lengths)[:, None]
    logps, ref_logps, values, scores = map(torch.tensor, (LOGPS, REF_LOGPS, VALUES, SCORES))
    rewards = token_rewards(scores, kl_k1(logps, ref_logps), mask, kl_coef=0.05)
    advantages, returns = advantages_and_returns(rewards, values, mask, gamma=gamma, lam=lam)
    n = sum(lengths)
    # TRL divides by the unbiased standard deviation.
    whitened = standardize(advantages, mask) * math.sqrt((n - 1) / n)
    policy = policy_losses(torch.tensor(NEW_LOGPS), logps, whitened, cliprange=0.2)
    value = value_losses(torch.tensor(NEW_VALUES), values, returns, cliprange=0.2)

    def close(ours, theirs):
        return torch.allclose(ours, torch.tensor(theirs), rtol=0, atol=1e-5)

    assert close(whitened, expected["whitened"])
    assert close(returns, expected["returns"])
    assert close(masked_mean(policy.losses, mask), expected["policy_loss"])
    assert close(masked_mean(policy.clipped.float(), mask), expected["clipfrac"])
    if "value_loss" in expected:
        assert close(masked_mean(value.losses, mask), expected["value_loss"])
        assert close(masked_mean(value.clipped.float(), mask), expected["clipfrac_value"])
