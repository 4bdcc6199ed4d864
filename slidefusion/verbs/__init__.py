"""Public verbs, one a file; `batch`, `evaluate` and `train` are in packages of their own.

A module named like its verb directly below the package would take the verb's place there.
"""
