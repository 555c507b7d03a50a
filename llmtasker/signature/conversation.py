"""Conversation: what marks an input value as chat turns."""

from __future__ import annotations


class Conversation:
    """The base of `History`, whose module takes time to load, and is loaded only for tasks that have one."""
