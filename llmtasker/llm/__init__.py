"""When the next call may leave, shared by all that use one LLM.

pace      RateLimiter and its Tickets: rate limits, one clock after a refusal, calls in flight
throttle  what an endpoint allows, learned from its refusals
limits    RateLimit, and what headers tell of it
retry     how a call that failed for now is repeated
"""

from llmtasker.llm.limits import RateLimit
from llmtasker.llm.rate_limiter import Permit, RateLimiter
from llmtasker.llm.retry import Retry

__all__ = ["Permit", "RateLimit", "RateLimiter", "Retry"]
