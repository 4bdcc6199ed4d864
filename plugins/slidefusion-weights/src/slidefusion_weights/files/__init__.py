"""Weights (``.safetensors``), each with its card (``.json``) beside it."""
