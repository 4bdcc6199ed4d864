"""Guided-filter focus fusion for slidefusion."""

from slidefusion_guided.guided import Guided, reach_px

__all__ = ["Guided", "reach_px"]
