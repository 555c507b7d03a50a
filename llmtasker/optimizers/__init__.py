"""Improve: search for better instructions, examples or label descriptions, and prove the result on rows never seen.

optimize                 the whole search: checks, budget, search, one test
search                   what a search can do: measure a candidate, ask an LLM for a proposal
search_budget            the share of a budget for the search, so that the test is paid for
search_report            what was tried, and why a task was found or not
few_shot                 LabeledFewShot, BootstrapFewShot
instruction_search       InstructionSearch; label_descriptions: LabelDescriptions; gepa: GEPA (extra [gepa])
"""

from __future__ import annotations

from llmtasker.optimizers.few_shot import BootstrapFewShot, LabeledFewShot
from llmtasker.optimizers.gepa import GEPA
from llmtasker.optimizers.instruction_search import InstructionSearch
from llmtasker.optimizers.label_descriptions import LabelDescriptions
from llmtasker.optimizers.optimize import Optimized, aoptimize, estimate_search, optimize
from llmtasker.optimizers.search import Optimizer, Search, Trial
from llmtasker.optimizers.search_report import SearchEstimate, SearchReport

__all__ = [
    "GEPA",
    "BootstrapFewShot",
    "InstructionSearch",
    "LabelDescriptions",
    "LabeledFewShot",
    "Optimized",
    "Optimizer",
    "Search",
    "SearchEstimate",
    "SearchReport",
    "Trial",
    "aoptimize",
    "estimate_search",
    "optimize",
]
