"""An LLM: its endpoint, the requests it accepts, its rate limits, and the cost of calls.

llm            LLM: a named endpoint with its settings, cache and limits
names          resolves a name such as "ollama/qwen3" to an endpoint
transports/    how a request travels: openai, langchain
capabilities   what the endpoint does not accept, learned from its refusals
refusals       the table of refusals: patterns, and what is learned from each
schema_rungs   what is tried if an endpoint refuses the schema of a task
credentials    which headers and parameters are credentials
options        LLMOptions, and their validation
rate_limiter   RateLimiter and Permit: when the next call may leave
learned_limit  the rate that the endpoint allows, learned from its responses
stored_limits  learned limits, stored for the next process
limits         RateLimit and Retry: limits that the user sets
costs          Prices, and how many tokens a request takes
"""
