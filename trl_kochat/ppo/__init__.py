"""Proximal policy optimization on today's TRL and transformers, with all four roles on one base."""

from .config import PPOConfig
from .trainer import PPOTrainer


__all__ = ["PPOConfig", "PPOTrainer"]
