"""`Run`: everything of a recipe that is not its trainer."""

import copy
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import make_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase, Trainer, TrainerCallback, TrainingArguments

from ..callbacks import HealthGuardCallback, InterruptCallback, KoreanSamplesCallback, RunReportCallback
from ..callbacks.length_groups import group_by_length, sort_held_out_pairs
from ..callbacks.progress import ProgressLineCallback
from ..callbacks.rankings import batch_whole_rankings
from ..data import RowCounts, split_by_prompt
from ..data.health import check_leaks, check_rows, clean_rows
from ..data.split import held_out_reasons
from ..measure import score_labelled_positions
from ..measure.logps import feed_in_one_block
from ..models import train_in_float32
from ..processes import say
from ..report import RunRecord, write_card
from ..report.next_steps import next_command
from ..sample import embedded
from ..text.shown import printable
from ..tokenizer import Finding, load_tokenizer_with_findings, save_hand_over, set_chat_template
from .arguments import Parsed, RecipeArguments, parse
from .checkpoints import no_step_too_many
from .checks import check_before_loading, check_before_training, check_findings
from .command import noted_as_training, resume_command, run_as_command
from .model import model_arguments, refuse_lora_settings
from .presets import Presets
from .rows import as_ids, at_most, check_rendering, describe, formatted_rows, row_summary
from .settings import KeepSettings, check_positions, check_same_settings, check_schedule, settings_of_run
from .trackers import set_up_trackers


class Run:
    """A run of a recipe: arguments and preset, checks, tokenizer, rows, report and the end; all but the trainer.

    ```python
    def main(argv=None):
        run = Run("my_sft", SFTConfig, argv, presets={"cpu": {"model_name_or_path": "tiny-ko", "use_peft": True}})
        train, held_out = run.rows("kochatgpt_sft")
        run.train(SFTTrainer(**run.trainer_arguments))


    if __name__ == "__main__":
        Run.as_command(main)
    ```

    Making one reads the command line, says in a line what is taken and why, and checks what can be checked before
    anything is loaded.

    Args:
        recipe (`str`): Its name; `--output_dir` is `runs/<recipe>` unless given.
        config_class (`type`): The trainer's config, e.g. [`~trl.DPOConfig`].
        argv (`Sequence[str]`, *optional*): Arguments instead of those of the command line.
        presets (folder or mapping, *optional*): `cpu.yaml` and `gpu.yaml`, or their values by name; by default those of
            the recipe of that name in this package.
        extra_arguments (`type`, *optional*): A dataclass with flags of the recipe's own; they come in `arguments`.
        adapters (`str`, *optional*): Name of the adapters that are there already and are trained on; flags that would
            shape new ones are refused.

    Attributes:
        preset (`str`): `"cpu"` or `"gpu"`.
        arguments ([`RecipeArguments`]): What a recipe asks for beside the trainer's and the model's arguments.
        config: The trainer's config.
        model_args ([`~trl.ModelConfig`]): The model, 4-bit and LoRA; `model_name_or_path` is where it lies.

    Raises:
        InputError: Arguments, output folder, model, checkpoint or bitsandbytes cannot be worked with.
    """

    def __init__(
        self,
        recipe: str,
        config_class: type[TrainingArguments],
        argv: Sequence[str] | None = None,
        *,
        presets: Presets | None = None,
        extra_arguments: type | None = None,
        adapters: str | None = None,
    ):
        kind: Any = RecipeArguments
        if extra_arguments is not None:
            kind = make_dataclass("Arguments", [], bases=(RecipeArguments, extra_arguments))
        parsed = parse(recipe, config_class, argv, presets=presets, arguments_class=kind)
        self.preset, self.arguments = parsed.preset, parsed.arguments
        self.config, self.model_args = parsed.config, parsed.model_args
        self._recipe, self._argv, self._given = recipe, argv, parsed.given
        if adapters:
            refuse_lora_settings(parsed.given, self.model_args, adapters)
        self._model_name = str(self.model_args.model_name_or_path)
        self.model_args.model_name_or_path = embedded(self._model_name)
        self._quantization_config, self._peft_config = model_arguments(self.model_args, self.config)
        self._peft_config = None if adapters else self._peft_config
        self._announce(parsed, adapters)
        set_up_trackers(self.config)
        self._checkpoint = check_before_loading(self.config, self.model_args, self._peft_config, parsed.given)
        self._counts = RowCounts()
        self._train: Dataset | None = None
        self._held_out: Dataset | None = None

    def _announce(self, parsed: Parsed, adapters: str | None) -> None:
        model_args = self.model_args
        tuning = adapters or (f"LoRA r {model_args.lora_r}" if model_args.use_peft else "all parameters")
        bits = "4-bit " if model_args.load_in_4bit else "8-bit " if model_args.load_in_8bit else ""
        config, dtype = self.config, model_args.dtype
        computed = "bfloat16" if config.bf16 else "float16" if config.fp16 else "float32"
        formats = computed if dtype == computed else f"{computed} (weights {dtype})"
        sources = ", ".join(Path(embedded(name)).name for name in self.arguments.dataset_name)
        say(
            f"{self._recipe}: preset {self.preset} ({parsed.reason}), {Path(self._model_name).name}, "
            f"{bits}{tuning} in {formats}, rows of {sources}"
        )

    @staticmethod
    def as_command(main: Callable[[], None]) -> None:
        """Run a recipe's `main` as a command, with its messages and exit status (see [`run_as_command`])."""
        run_as_command(main)

    @cached_property
    def _loaded_tokenizer(self) -> tuple[PreTrainedTokenizerBase, list[Finding]]:
        return load_tokenizer_with_findings(
            str(self.model_args.model_name_or_path),
            chat_template=self.arguments.chat_template,
            revision=self.model_args.model_revision,
            trust_remote_code=self.config.trust_remote_code,
        )

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer, repaired (see [`load_tokenizer`])."""
        return self._loaded_tokenizer[0]

    @cached_property
    def _training_tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer for the trainer, its template with marks where `assistant_only_loss` asks; it is not saved."""
        asks = getattr(self.config, "assistant_only_loss", False) and not getattr(
            self.config, "chat_template_path", None
        )
        return set_chat_template(copy.copy(self.tokenizer), "training") if asks else self.tokenizer

    def rows(
        self,
        formatter: str | Callable[..., list[dict[str, Any]]],
        prepare: Callable[[Dataset], Dataset] | None = None,
    ) -> tuple[Dataset, Dataset]:
        """The rows of `--dataset_name` to train on and those held out, which share no prompt.

        Args:
            formatter (`str` or `Callable`): What makes rows of TRL of the raw ones, unless `--formatter` says it or
                another one fits their columns and makes rows of the same type (see [`choose_formatter`]).
            prepare (`Callable`, *optional*): What is done to the rows before they are split.
        """
        arguments = self.arguments
        dataset = formatted_rows(arguments, formatter, self._counts)
        if arguments.clean:
            dataset, mended = clean_rows(dataset, self.tokenizer)
            self._counts.cleaned += mended.kinds
            say(printable(str(mended)))
        check_rendering(dataset, self.tokenizer)
        formatted = len(dataset)
        dataset = prepare(dataset) if prepare else dataset
        self._counts.made += len(dataset) - formatted
        asked = "eval_fraction" in self._given
        if reasons := held_out_reasons(dataset):
            told = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
            fraction = "is of the rows that do not say" if asked else "is not used"
            say(f"{reasons.total()} rows say that they are held out ({told}); --eval_fraction {fraction}.")
        self._train, held_out = split_by_prompt(
            dataset, arguments.eval_fraction, seed=arguments.split_seed, also_of_silent_rows=asked
        )
        self._held_out = at_most(held_out, arguments.max_eval_samples, self._counts)
        self._counts.note(self._check_rows(dataset))
        return self._train, self._held_out

    def _check_rows(self, dataset: Dataset) -> list[Finding]:
        assert self._train is not None and self._held_out is not None
        max_length = getattr(self.config, "max_length", None)  # PPO has other limits
        findings = check_rows(dataset, self.tokenizer, max_length=max_length)
        findings += check_leaks(self._train, self._held_out)
        for finding in findings:
            if finding.severity != "info":
                say(str(finding))
        check_findings(findings, self.arguments.accept_findings, of="rows have")
        return findings

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """What a trainer of TRL takes, once there are rows: model, args, rows, tokenizer, quantization, adapter."""
        assert self._train is not None and self._held_out is not None, "rows come first"
        return {
            "model": self.model_args.model_name_or_path,
            "args": self.config,
            "train_dataset": as_ids(self._train, self.tokenizer, self.config, self._given),
            "eval_dataset": as_ids(self._held_out, self.tokenizer, self.config, self._given),
            "processing_class": self._training_tokenizer,
            "quantization_config": self._quantization_config,
            "peft_config": self._peft_config,
        }

    def train(
        self,
        trainer: Trainer,
        evaluate: Callable[[Any], Any] | None = None,
        *,
        samples: TrainerCallback | None = None,
    ) -> bool:
        """Check, measure, train, measure again, save, report; `--dry_run` stops after the checks.

        Args:
            trainer ([`~transformers.Trainer`]): Built of `trainer_arguments`.
            evaluate (`Callable`, *optional*): `evaluate(model)` measures it, before and after (see
                [`RunReportCallback`]).
            samples ([`~transformers.TrainerCallback`], *optional*): Instead of `KoreanSamplesCallback()`.

        Returns:
            Whether it was trained.

        Raises:
            InputError: Something is in the way that can be told before the first step.
        """
        assert self._train is not None and self._held_out is not None, "rows come first"
        assert trainer.model is not None
        train_in_float32(trainer.model)
        feed_in_one_block(trainer.model)
        score_labelled_positions(trainer)
        group_by_length(trainer)
        rows = row_summary(self._counts, self._train, self._held_out, trainer)
        if getattr(self.arguments, "whole_rankings", True):
            batch_whole_rankings(trainer)
        sort_held_out_pairs(trainer)
        tokenizer, findings = self._loaded_tokenizer
        check_schedule(trainer)
        check_positions(trainer)
        settings = settings_of_run(self.arguments, self.config, self.model_args, trainer.model)
        if self._checkpoint is not None:
            check_same_settings(settings, Path(self._checkpoint))
        check_before_training(trainer, self.arguments, findings, self._checkpoint)
        if self.arguments.dry_run:
            describe(trainer, tokenizer, rows, self._train)
            return False
        report = RunReportCallback(
            recipe=self._recipe,
            preset=self.preset,
            model=self._model_name,
            rows=rows,
            tokenizer_findings=findings,
            evaluate=evaluate,
        )
        samples = samples or KoreanSamplesCallback()
        if isinstance(samples, KoreanSamplesCallback) and "prompt" in self._held_out.column_names:
            samples.watch(self._held_out)
        interrupt = InterruptCallback(go_on=resume_command(self._argv))
        progress = ProgressLineCallback.instead_of_log(trainer)  # first, so that its line ends before the last table
        for callback in (samples, HealthGuardCallback(), report, interrupt, KeepSettings(settings)):
            trainer.add_callback(callback)
        # A process of several is ended by its launcher while the report still writes down what failed.
        with noted_as_training(), interrupt, report, closing(progress), no_step_too_many(trainer):
            trainer.train(resume_from_checkpoint=self._checkpoint)
        self._hand_over(trainer, report.record)
        return True

    def _hand_over(self, trainer: Trainer, record: RunRecord) -> None:
        """Save model, tokenizer and card, and say where they are and what to do with them."""
        folder = str(self.config.output_dir)
        trainer.save_model()
        if trainer.args.should_save:
            model: Any = getattr(trainer.model, "policy", trainer.model)  # PPO trains a module that holds it
            save_hand_over(model, self.tokenizer, folder)
            data = self.arguments.dataset_name
            write_card(folder, base=self._model_name, made_by=self._recipe, record=record, data=data)
        say(f"Adapter: {folder}")
        next_step = next_command(record.method, folder)
        say(f"{next_step.text} {next_step.code}")
        trainer.accelerator.end_training()  # several processes leave together; else one may abort at exit
