"""The demo: a synthetic slide file, converted, fused, measured and shown in one HTML page."""

from slidefusion.demo.run import DemoResult, run_demo

__all__ = ["DemoResult", "run_demo"]
