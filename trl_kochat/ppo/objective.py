"""The arithmetic of PPO on finished rollouts: pure functions of tensors.

Shapes in this file: B rollouts, C completion tokens. Log-probabilities and KL are in nats. A `mask` is `True` on real
tokens, which come first in each row; nothing that stands off the mask reaches a result.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch


# Sums a tensor over processes, as `accelerator.reduce(tensor, "sum")` does.
Reduce = Callable[[torch.Tensor], torch.Tensor]


def one_process(tensor: torch.Tensor) -> torch.Tensor:
    """The [`Reduce`] of a run with a single process."""
    return tensor


def kl_k1(logps: torch.Tensor, ref_logps: torch.Tensor) -> torch.Tensor:
    """`log p - log p_ref` of each sampled token: an unbiased estimate of KL(p || p_ref) that may be negative.

    k1 of http://joschu.net/blog/kl-approx.html.
    """
    return logps - ref_logps


def kl_k3(logps: torch.Tensor, ref_logps: torch.Tensor) -> torch.Tensor:
    """`(r - 1) - log r` with `r = p_ref / p`: unbiased like k1, of lower variance and never negative.

    k3 of http://joschu.net/blog/kl-approx.html.
    """
    log_ratio = ref_logps - logps
    return log_ratio.expm1() - log_ratio


KL_ESTIMATORS = {"k1": kl_k1, "k3": kl_k3}


def token_rewards(scores: torch.Tensor, kl: torch.Tensor, mask: torch.Tensor, *, kl_coef: float) -> torch.Tensor:
    """Reward of each token, `-kl_coef * kl_t`, with the completion's score added on its last real token.

    Ziegler et al., eq. 2 and section 2.1, https://huggingface.co/papers/1909.08593.

    Args:
        scores (`torch.Tensor`): One per completion, `(B,)`.
        kl (`torch.Tensor`): Estimated at each token, `(B, C)`.
        mask (`torch.Tensor`): `(B, C)`; a row without a real token gets no reward at all.

    Returns:
        `(B, C)`, 0 off the mask.
    """
    rewards = torch.where(mask, -kl_coef * kl, 0.0)
    lengths = mask.sum(dim=1)
    last = torch.arange(mask.shape[1], device=mask.device) == lengths[:, None] - 1
    return rewards + torch.where(last, scores[:, None], 0.0)


def advantages_and_returns(
    rewards: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, *, gamma: float, lam: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Generalized advantage estimation over the real tokens of each completion.

    `A_t = d_t + gamma * lam * A_{t+1}` with `d_t = r_t + gamma * V_{t+1} - V_t`, and `V = 0` past the last real token
    (Schulman et al., eq. 16, https://huggingface.co/papers/1506.02438).

    Args:
        rewards (`torch.Tensor`): Received for each token, `(B, C)`.
        values (`torch.Tensor`): Estimated before each token, `(B, C)`.
        mask (`torch.Tensor`): `(B, C)`.

    Returns:
        Advantages, not standardized, and returns, both `(B, C)` and 0 off the mask. The inputs are not changed.
    """
    values = torch.where(mask, values, 0.0)
    advantages = torch.zeros_like(values)
    running = torch.zeros_like(values[:, 0])  # A_{t+1}, (B,)
    for t in reversed(range(values.shape[1])):
        next_values = values[:, t + 1] if t + 1 < values.shape[1] else 0.0
        delta = rewards[:, t] + gamma * next_values - values[:, t]
        running = torch.where(mask[:, t], delta + gamma * lam * running, 0.0)
        advantages[:, t] = running
    return advantages, advantages + values


def masked_mean(values: torch.Tensor, mask: torch.Tensor, *, reduce: Reduce = one_process) -> torch.Tensor:
    """Mean over the mask, and over processes; 0 where the mask is empty everywhere."""
    total, count = reduce(torch.stack([torch.where(mask, values, 0.0).sum(), mask.sum().to(values.dtype)]))
    return total / count.clamp(min=1)


def standardize(values: torch.Tensor, mask: torch.Tensor, *, reduce: Reduce = one_process) -> torch.Tensor:
    """Shift and scale to mean 0 and (biased) standard deviation 1 over the mask and over processes; 0 off the mask.

    Values that are all alike become 0, up to rounding.
    """
    centered = values - masked_mean(values, mask, reduce=reduce)
    variance = masked_mean(centered.square(), mask, reduce=reduce)
    return torch.where(mask, centered * torch.rsqrt(variance + 1e-8), 0.0)


class TokenLosses(NamedTuple):
    """Losses of single tokens, not averaged; both `(B, C)` and meaningful on the mask only."""

    losses: torch.Tensor
    clipped: torch.Tensor  # True where the clipped term is the larger one


def policy_losses(
    logps: torch.Tensor, old_logps: torch.Tensor, advantages: torch.Tensor, *, cliprange: float
) -> TokenLosses:
    """`max(-A * ratio, -A * clip(ratio, 1 - cliprange, 1 + cliprange))` with `ratio = p / p_old`.

    The clipped surrogate objective (Schulman et al., eq. 7, https://huggingface.co/papers/1707.06347), negated.
    All arguments are `(B, C)`; `old_logps` are those of the policy that sampled the tokens.
    """
    ratio = (logps - old_logps).exp()
    free = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - cliprange, 1 + cliprange)
    return TokenLosses(torch.maximum(free, clipped), clipped > free)


def value_losses(
    values: torch.Tensor, old_values: torch.Tensor, returns: torch.Tensor, *, cliprange: float
) -> TokenLosses:
    """`max((V - R)^2, (clip(V, V_old - cliprange, V_old + cliprange) - R)^2) / 2`, all `(B, C)`.

    The clipping is that of OpenAI's baselines; see detail 9 of
    https://iclr-blog-track.github.io/2022/03/25/ppo-implementation-details/.
    """
    free = (values - returns).square()
    clipped = (old_values + (values - old_values).clamp(-cliprange, cliprange) - returns).square()
    return TokenLosses(0.5 * torch.maximum(free, clipped), clipped > free)


def loss_sums(
    logps: torch.Tensor | None,
    values: torch.Tensor | None,
    batch: Mapping[str, torch.Tensor],
    *,
    cliprange: float,
    cliprange_value: float,
) -> dict[str, torch.Tensor]:
    """Sums over the tokens of a slice: `policy_loss` and `value_loss`, of which one is learnt, and what tells of them.

    Args:
        logps, values (`torch.Tensor`, *optional*): Of the policy and the value as they are now, `(B, C)`; what is not
            given is not summed.
        batch (`Mapping`): `old_per_token_logps`, `old_values`, `advantages`, `returns` and `loss_mask`, `(B, C)`.
    """
    mask, sums = batch["loss_mask"], {}
    if logps is not None:
        old_logps = batch["old_per_token_logps"]
        policy = policy_losses(logps, old_logps, batch["advantages"], cliprange=cliprange)
        log_ratio = (logps.detach() - old_logps)[mask]
        sums = {
            "policy_loss": policy.losses[mask].sum(),
            "clipfrac": policy.clipped[mask].sum(),
            "approx_kl": (0.5 * log_ratio.square()).sum(),
            "ratio": log_ratio.exp().sum(),
        }
    if values is not None:
        value = value_losses(values, batch["old_values"], batch["returns"], cliprange=cliprange_value)
        sums |= {"value_loss": value.losses[mask].sum(), "clipfrac_value": value.clipped[mask].sum()}
    return sums


def explained_variance(
    values: torch.Tensor, returns: torch.Tensor, mask: torch.Tensor, *, reduce: Reduce = one_process
) -> float:
    """`1 - Var[R - V] / Var[R]` over the mask: 1 for a perfect critic, 0 for a constant one, below 0 for a worse one.

    NaN where the returns are all alike, since there is nothing to explain.
    """

    def variance(x: torch.Tensor) -> float:
        return masked_mean((x - masked_mean(x, mask, reduce=reduce)).square(), mask, reduce=reduce).item()

    total, left = variance(returns), variance(returns - values)
    return 1 - left / total if total > 1e-12 else math.nan


def adapted_kl_coef(kl_coef: float, kl: float, *, kl_target: float, episodes: int, kl_horizon: int) -> float:
    """The KL coefficient for the next rollout, moved so that the measured KL comes nearer to `kl_target`.

    Proportional control with the error clipped to 20 % (Ziegler et al., section 2.2,
    https://huggingface.co/papers/1909.08593).

    Args:
        kl (`float`): Measured on the last rollout, summed over a completion's tokens.
        episodes (`int`): Completions in that rollout, over all processes.
        kl_horizon (`int`): Episodes after which an error of 10 % has about multiplied the coefficient by 1.1.

    >>> adapted_kl_coef(0.5, 12.0, kl_target=6.0, episodes=500, kl_horizon=1000)
    0.55
    """
    error = min(max(kl / kl_target - 1, -0.2), 0.2)
    return kl_coef * (1 + error * episodes / kl_horizon)
