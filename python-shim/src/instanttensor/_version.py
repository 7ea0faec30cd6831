"""The version: InstantTensor's API level, then ours."""

__version__ = "0.2.2+java1"
