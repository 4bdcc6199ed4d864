"""The version of OME-NGFF that is written."""

__all__ = ["NGFF_VERSION"]

NGFF_VERSION = "0.5"
