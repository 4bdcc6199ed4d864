"""Measuring fusers: held-out phantoms, the paper's tables and figures, a report."""

from slidefusion.evaluation.held_out import FIRST_SEED, held_out, write_held_out
from slidefusion.evaluation.run import evaluate
from slidefusion.evaluation.scores import Ablation, Evaluation, Measured, PatchScore, Row

__all__ = [
    "FIRST_SEED",
    "Ablation",
    "Evaluation",
    "Measured",
    "PatchScore",
    "Row",
    "evaluate",
    "held_out",
    "write_held_out",
]
