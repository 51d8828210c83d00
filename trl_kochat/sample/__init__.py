"""The embedded default: rows written for this project and the tiny Korean model `tiny-ko`."""

from pathlib import Path


SAMPLE_DIR = Path(__file__).parent
