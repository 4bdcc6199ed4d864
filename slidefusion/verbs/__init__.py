"""The public verbs, one a file.

A module named like its verb directly below the package would take the verb's place there.
"""
