"""Conversation: the base class of inputs that become chat turns."""

from __future__ import annotations


class Conversation:
    """The base of `History`, whose module takes time to load, and is loaded only for tasks that have one."""
