"""A laboratory for scaling laws: a corpus that every Python carries, and models whose size is a number."""

from scalestop.lab.data import TextData
from scalestop.lab.tiny_gpt import TinyGPT

__all__ = ["TextData", "TinyGPT"]
