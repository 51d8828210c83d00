"""Draw the pictures of the READMEs into docs/images, in headless Chromium, from what really runs.

    python scripts/draw_readme.py tokenizer MODEL        # MODEL: skt/kogpt2-base-v2, or a folder with its two files
    python scripts/draw_readme.py report runs/dpo_orca   # after `python recipes/dpo_orca.py`
    python scripts/draw_readme.py real_ko runs/real_ko   # after `make real-ko`

Hangul needs a font on the machine, such as Noto Sans CJK.
"""

import argparse
import html
import json
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image


IMAGES = Path(__file__).parent.parent / "docs" / "images"
NAME = "skt/kogpt2-base-v2"
SENTENCE = "불고기용 고기 한우에요?"
# What KoGPT2 tutorials call, and what takes its place.
CALLS = {
    "bad": (
        "from transformers import AutoTokenizer",
        "tokenizer = AutoTokenizer.from_pretrained(\n"
        f'    "{NAME}", bos_token="</s>", eos_token="</s>",\n'
        '    unk_token="</s>", pad_token="</s>"\n'
        ")",
    ),
    "good": ("from trl_kochat import load_tokenizer", f'tokenizer = load_tokenizer("{NAME}")'),
}
DECODE = f'tokenizer.decode(tokenizer("{SENTENCE}").input_ids)'
PAGE = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; background: #0d1117; color: #e6edf3; font: 15px/1.55 "DejaVu Sans Mono", "Noto Sans Mono CJK KR", monospace }}
pre {{ margin: 0; padding: 12px 18px; font: inherit; border-left: 6px solid }}
pre.bad {{ border-color: #f85149 }} pre.good {{ border-color: #3fb950; border-top: 1px solid #30363d }}
.bad b {{ color: #ff7b72 }} .good b {{ color: #56d364 }} i {{ color: #7d8590; font-style: normal }}
</style>{panels}"""
# Of the page of a run: what fits on one screen.
FIRST_OF_EACH = """<style>
section:nth-of-type(2), .answers + details { display: none }
section:nth-of-type(3) .card ~ .card, .figures > :nth-child(n + 4) { display: none }
</style>"""


def panel(kind: str, model: str) -> str:
    """One session of the interpreter, run on `model` and shown under the name that people write."""
    namespace: dict = {}
    lines = []
    for statement in CALLS[kind]:
        exec(statement.replace(NAME, model), namespace)
        lines += [html.escape(statement).replace("\n", "\n<i>...</i> ")]
    lines += [html.escape(DECODE) + f"\n<b>{html.escape(repr(eval(DECODE, namespace)))}</b>"]
    return f'<pre class="{kind}">' + "\n".join(f"<i>&gt;&gt;&gt;</i> {line}" for line in lines) + "</pre>"


def screenshot(page: Path, picture: Path, width: int, height: int) -> None:
    """A picture of the first `height` pixels of a page, drawn at twice the size, in 256 colours."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    if chromium is None:
        raise SystemExit("There is no chromium here to draw with.")
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += ["--force-device-scale-factor=2", f"--window-size={width},{height}", f"--screenshot={picture}"]
    subprocess.run([*command, page.resolve().as_uri()], check=True, capture_output=True)
    with Image.open(picture) as drawn:
        drawn.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(picture, optimize=True)
    print(f"{picture}: {picture.stat().st_size / 1000:.0f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", choices=["tokenizer", "report", "real_ko"])
    parser.add_argument("source", help="model of the tokenizer, or folder of the run or runs")
    args = parser.parse_args()
    IMAGES.mkdir(parents=True, exist_ok=True)
    if args.picture == "report":
        report = Path(args.source) / "report"
        model = json.loads((report / "metrics.json").read_text(encoding="utf-8"))["model"]
        text = (report / "index.html").read_text(encoding="utf-8").replace(model, Path(model).name)
        text, size = text.replace("</head>", FIRST_OF_EACH + "</head>"), (1120, 1440)
    elif args.picture == "real_ko":
        text, size = (Path(args.source) / "comparison.html").read_text(encoding="utf-8"), (1120, 840)
    else:
        text, size = PAGE.format(panels="".join(panel(kind, args.source) for kind in CALLS)), (760, 305)
    with TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        page.write_text(text, encoding="utf-8")
        screenshot(page, IMAGES / f"{args.picture}.png", *size)


if __name__ == "__main__":
    main()
