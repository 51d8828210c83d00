"""Run the notebooks in an environment with Colab's versions, as a reader there does, and say how long it took.

    python scripts/colab_like.py            # some 15 minutes on a quiet core; --notebooks, --folder, --python, --torch

The environment is made by pip in a folder of its own, with a kernel that holds what Colab's does at its start:
`google.colab`, and pandas, which has loaded pyarrow. A wheel of this checkout lies beside each notebook, whose first cell
installs it. Where that cell restarts the kernel, the notebook is run again from the top. In the end torch must be the
one from before, and the commands that put an adapter on a model must work.

It is as near as another machine comes: a CPU build of torch, the Python that runs this, and not the hundreds of other
packages.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError


ROOT = Path(__file__).parent.parent
NOTEBOOKS = ROOT / "recipes" / "notebooks"
# Colab's published list of August 2026; below the line from that of February, for what the other was not noted of.
PACKAGES = (
    "torchao==0.10.0",
    "transformers==5.15.0",
    "peft==0.20.0",
    "accelerate==1.14.0",
    "datasets==4.0.0",
    "pyarrow==18.1.0",
    "pandas==2.2.3",
    # ---
    "ipykernel==6.17.1",
    "ipython==7.34.0",
    "matplotlib==3.10.0",
    "packaging==26.0",
    "rich==13.9.4",
)
AT_START = """
import google.colab
import pandas
"""
LORA_WITHOUT_4BIT = """
from peft import LoraConfig, get_peft_model
from torch import nn
get_peft_model(nn.Sequential(nn.Linear(2, 2)), LoraConfig(target_modules=["0"]))
"""
PLAIN_PEFT = (
    "from peft import PeftModel; from transformers import AutoModelForCausalLM as Base; "
    "from trl_kochat.sample import embedded; "
    "PeftModel.from_pretrained(Base.from_pretrained(embedded('tiny-ko')), 'runs/sft_kochatgpt')"
)


@contextmanager
def timed(what: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    print(f"{time.perf_counter() - start:7.1f} s  {what}", flush=True)


def make_environment(folder: Path, interpreter: str, torch: str) -> Path:
    """A virtual environment with Colab's versions; its interpreter."""
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([interpreter, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    for packages in ([torch], [torch, *PACKAGES]):
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    return python


def make_kernel(python: Path, folder: Path) -> None:
    """The kernel `colab_like`, found by way of the environment variables that are set here, and an empty google.colab."""
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.run([python, "-c", where], capture_output=True, text=True, check=True).stdout.strip()
    colab = Path(site) / "google" / "colab"
    colab.mkdir(parents=True)
    (colab / "__init__.py").touch()

    kernel = folder / "kernels" / "colab_like"
    startup = folder / "ipython" / "profile_default" / "startup"
    for place in (kernel, startup):
        place.mkdir(parents=True, exist_ok=True)
    command = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": command, "display_name": "colab_like", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    (startup / "as_on_colab.py").write_text(AT_START, encoding="utf-8")
    os.environ |= {"JUPYTER_PATH": str(folder), "IPYTHONDIR": str(folder / "ipython")}


def run_notebook(path: Path, work: Path) -> None:
    """Run a notebook, and again where its first cell restarts the kernel; show what that cell said."""
    for attempt in ("first run", "after the restart"):
        notebook = nbformat.read(path, as_version=4)
        place = {"metadata": {"path": str(work)}}
        client = NotebookClient(notebook, timeout=1800, kernel_name="colab_like", resources=place)
        asked_to_restart = None
        with timed(f"{path.stem}, {attempt}"):
            try:
                client.execute()
            except CellExecutionError as error:
                if error.ename != "SystemExit":
                    raise
                asked_to_restart = error.evalue
        install = next(cell for cell in notebook.cells if cell.cell_type == "code")
        said = [output.text for output in install.outputs if output.output_type == "stream"]
        for line in "".join([*said, asked_to_restart or ""]).splitlines():
            print(f"           {line}")
        if asked_to_restart is None:
            return
    raise SystemExit(f"{path.name} asks for a restart after the restart.")


def check_commands(python: Path, work: Path) -> None:
    """What ended in a traceback with Colab's own torchao, on the adapters that the notebook of the three stages left."""
    ours = [python, "-m", "trl_kochat"]
    commands = {
        "generate --adapter": [*ours, "generate", "tiny-ko", "--adapter", "runs/sft_kochatgpt", "--greedy"],
        "score": [*ours, "score", "runs/reward_kochatgpt", "--prompt", "왜?", "--completion", "그래서요."],
        "merge": [*ours, "merge", "runs/sft_kochatgpt", "merged"],
        "PeftModel": [python, "-c", PLAIN_PEFT],
        "--load_in_4bit false": [
            *ours,
            "sft_kochatgpt",
            "--dry_run",
            "--load_in_4bit",
            "false",
            "--output_dir",
            "dry",
        ],
    }
    for name, command in commands.items():
        with timed(name):
            subprocess.run(command, cwd=work, check=True, stdout=subprocess.DEVNULL)


def version(python: Path, package: str) -> str:
    code = f"from importlib import metadata; print(metadata.version({package!r}))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True).stdout.strip() or "none"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    names = [path.stem for path in sorted(NOTEBOOKS.glob("*.ipynb"))]
    parser.add_argument("--notebooks", nargs="+", default=names, choices=names)
    parser.add_argument("--folder", type=Path, default=ROOT / ".venv-colab", help="made anew")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--torch", default="torch==2.13.0")
    args = parser.parse_args()
    folder = args.folder.absolute()
    os.environ |= {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}

    with timed("the environment"):
        python = make_environment(folder, args.python, args.torch)
    before = version(python, "torch")
    result = subprocess.run([python, "-c", LORA_WITHOUT_4BIT], capture_output=True, text=True)
    print(f"LoRA without 4-bit, before: {(result.stderr.splitlines() or ['works'])[-1]}")
    make_kernel(python, folder)
    work = folder / "content"
    work.mkdir()
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", work, ROOT]
    subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
    for name in args.notebooks:
        run_notebook(NOTEBOOKS / f"{name}.ipynb", work)
    if "quickstart_kochatgpt" in args.notebooks:
        check_commands(python, work)
    print(f"torch {before} before, {version(python, 'torch')} after; torchao {version(python, 'torchao')}")
    if version(python, "torch") != before:
        raise SystemExit("The install cell changed torch.")


if __name__ == "__main__":
    main()
