"""What the measurements of training share: trainers that take turns and count their tokens."""

import importlib.util
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measure import Turn, peak_bytes


ROOT = Path(__file__).parent.parent
# The post's.
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# callbacks_cost.py measures these.
LEFT_OUT = {"KoreanSamplesCallback", "HealthGuardCallback", "RunReportCallback", "InterruptCallback"}


def load_recipe(name: str) -> Any:
    """A recipe as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "recipes" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Measured:
    """What a trainer does while it is measured: takes turns, and counts the tokens of its batches."""

    def __init__(self, profiled: bool = False) -> None:
        self.turn = Turn()
        self.profiled = profiled
        self.profile: dict[str, float] = {}  # operation -> share of the processor time
        self.real: list[int] = []  # tokens of a step
        self.padded: list[int] = []

    def watch(self, trainer: Any) -> None:
        """Follow `trainer.train()`, in place."""
        from transformers import TrainerCallback

        measured, collate = self, trainer.data_collator
        per_step = trainer.args.gradient_accumulation_steps
        batches: list[tuple[int, int]] = []

        class Steps(TrainerCallback):
            def on_train_begin(self, *args, **kwargs):
                measured.turn.begin()

            def on_step_end(self, *args, **kwargs):
                # Batches are collated ahead of their step, so they are counted by their order.
                taken = batches[len(measured.real) * per_step :][:per_step]
                measured.real.append(sum(real for real, _ in taken))
                measured.padded.append(sum(padded for _, padded in taken))
                measured.turn.end()

        def counted(rows):
            batch = collate(rows)
            batches.append((int(batch["attention_mask"].sum()), batch["attention_mask"].numel()))
            return batch

        trainer.data_collator = counted
        trainer.add_callback(Steps())
        if self.profiled:
            trainer.add_callback(self._profiler())

    def _profiler(self) -> Any:
        """Watches the third and the fourth step, warm ones."""
        from torch.profiler import ProfilerActivity, profile
        from transformers import TrainerCallback

        measured, profiler = self, profile(activities=[ProfilerActivity.CPU])

        class Profiler(TrainerCallback):
            def on_step_begin(self, args, state, control, **kwargs):
                if state.global_step == 2:
                    profiler.__enter__()

            def on_step_end(self, args, state, control, **kwargs):
                if state.global_step == 4:
                    profiler.__exit__(None, None, None)
                    measured.profile = shares(profiler.key_averages())

        return Profiler()

    def result(self, trainer: Any) -> dict[str, Any]:
        """What was measured of `trainer`, step by step."""
        ref_model = getattr(trainer, "ref_model", None)
        models = [trainer.model] if ref_model is None else [trainer.model, ref_model]
        return {
            "seconds": self.turn.seconds,
            "cpu_seconds": self.turn.cpu_seconds,
            "real": self.real,
            "padded": self.padded,
            "profile": self.profile,
            "loss": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
            "weight_bytes": storage_bytes(models),
            "peak_bytes": peak_bytes(),
            "cuda_peak_bytes": cuda_peak_bytes(),
        }


def shares(events: Any, count: int = 8) -> dict[str, float]:
    """The operations that take most of the processor's time, and functions of autograd with all that they call."""
    total = sum(event.self_cpu_time_total for event in events)
    most = sorted(events, key=lambda event: -event.self_cpu_time_total)[:count]
    found = {event.key: event.self_cpu_time_total / total for event in most}
    functions = [e for e in events if e.key.endswith(("Function", "FunctionBackward")) and "::" not in e.key]
    return found | {f"{e.key} and below": e.cpu_time_total / total for e in functions if e.cpu_time_total > total / 50}


def storage_bytes(models) -> int:
    """Bytes of all parameters and buffers, storages counted once."""
    tensors = (tensor for model in models for tensor in [*model.parameters(), *model.buffers()])
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def cuda_peak_bytes() -> int | None:
    import torch

    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None


def measured_trainer(
    trainer_class: type,
    results: dict[str, Any],
    evaluate: Callable[..., float] | None = None,
    profiled: bool = False,
) -> type:
    """`trainer_class` that takes turns and writes what it measured into `results`.

    The recipes' callbacks that look at the model are left out; `evaluate(trainer)` is called before and after training.
    """

    class MeasuredTrainer(trainer_class):
        is_built = False

        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.is_built = True

        def add_callback(self, callback):
            if not self.is_built or type(callback).__name__ not in LEFT_OUT:
                super().add_callback(callback)

        def train(self, *args, **kwargs):
            if evaluate:
                results["before"] = evaluate(self)
            measured = Measured(profiled)
            measured.watch(self)
            out = super().train()
            results.update(measured.result(self))
            if evaluate:
                results["after"] = evaluate(self)
            return out

    return MeasuredTrainer


def summarize(result: dict[str, Any]) -> dict[str, Any]:
    """Figures of a side over its steps, without the first, which warms up."""
    seconds, cpu, real, padded = (result[key][1:] for key in ("seconds", "cpu_seconds", "real", "padded"))
    return {
        "steps": len(seconds),
        "seconds_per_step": statistics.fmean(seconds),
        "cpu_seconds_per_step": statistics.fmean(cpu),
        "real_tokens_per_second": sum(real) / sum(seconds),
        "real_tokens_per_cpu_second": sum(real) / sum(cpu),
        "padding": 1 - sum(real) / sum(padded),
        "weight_bytes": result["weight_bytes"],
        "peak_bytes": result["peak_bytes"],
        "cuda_peak_bytes": result["cuda_peak_bytes"],
        "profile": result["profile"],
        "loss": result["loss"],
    }


def print_profiles(sides: dict[str, dict[str, Any]]) -> None:
    """What the time of each side went to, if it was asked for."""
    for side, figures in sides.items():
        for name, share in figures["profile"].items():
            print(f"  {side}: {share:6.1%} {name}")
