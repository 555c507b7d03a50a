"""An LLM: where it is, what it accepts, how fast it may be asked, and what that costs.

llm            LLM: a named endpoint with its settings, cache and limits
names          from "ollama/qwen3" to an endpoint
transports/    how a request travels: openai, langchain
capabilities   what the endpoint does not accept, learned from its refusals
refusals       the table of refusals: patterns, and what each of them teaches
schema_rungs   what is tried where an endpoint refuses the schema of a task
credentials    which headers and parameters are credentials
options        LLMOptions, and the checks of them
rate_limiter   RateLimiter and Permit: when the next call may leave
learned_limit  what the endpoint allows, learned from what it answers
kept_limits    what was learned, kept for the next process
limits         RateLimit and Retry: what the user knows about it
costs          Prices, and how many tokens a request takes
"""
