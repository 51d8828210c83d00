"""What a checkpoint of PPO holds beside weights, so that resuming is exact in the middle of a rollout too."""

import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import TrainerState

from ..errors import InputError
from .config import PPOConfig
from .rollout import Rollout


STATE_FILE = "ppo_state.json"


@dataclass
class Progress:
    """The rollout that is being learnt from, and what was measured since the last log."""

    kl_coef: float
    rollout: Rollout | None = None
    is_loaded: bool = False  # the rollout, and not yet compared with the prompts that come
    metrics: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def pop_metrics(self) -> dict[str, float]:
        """Means of what was measured, which is forgotten then."""
        metrics = means(self.metrics)
        self.metrics.clear()
        return metrics

    def save(self, folder: Path, args: PPOConfig, step: int) -> None:
        """Write the state after optimizer step `step` beside the weights, each process its part of the rollout."""
        if args.should_save:
            # Weights and rollouts that must be there for resuming, for whoever looks whether the checkpoint is whole.
            files = {str(path.relative_to(folder)) for path in folder.rglob("*.safetensors")}
            if args.is_mid_rollout(step):
                files |= {_rollout_file(folder, process).name for process in range(args.world_size)}
            state = {"kl_coef": self.kl_coef, "metrics": self.metrics, "files": sorted(files)}
            (folder / STATE_FILE).write_text(json.dumps(state), encoding="utf-8")
        if args.is_mid_rollout(step):
            assert self.rollout is not None
            self.rollout.save(_rollout_file(folder, args.process_index))

    @classmethod
    def load(cls, folder: Path, args: PPOConfig, device: torch.device) -> "Progress":
        """What [`save`] wrote.

        Raises:
            ValueError: The checkpoint is another trainer's, of another number of processes, or broken.
        """
        if not (folder / STATE_FILE).is_file():
            raise InputError(f"{folder} is no checkpoint of PPOTrainer: it has no {STATE_FILE}.")
        state = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
        progress = cls(state["kl_coef"])
        progress.metrics.update(state["metrics"])
        if args.is_mid_rollout(TrainerState.load_from_json(str(folder / "trainer_state.json")).global_step):
            file = _rollout_file(folder, args.process_index)
            if not file.is_file():
                raise InputError(
                    f"{folder} was saved in the middle of a rollout and has no {file.name}: resume with the same "
                    "number of processes and the same batch sizes."
                )
            try:
                progress.rollout, progress.is_loaded = Rollout.load(file, device), True
            except SafetensorError as error:
                raise InputError(f"{file} is broken ({error}): resume from another checkpoint.") from error
        return progress


def _rollout_file(folder: Path, process: int) -> Path:
    return folder / f"rollout_{process}.safetensors"


def means(values: dict[str, list[float]]) -> dict[str, float]:
    return {name: sum(given) / len(given) for name, given in values.items()}
