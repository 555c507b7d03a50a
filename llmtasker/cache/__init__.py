"""The cache: what was asked and answered, as text by key.

policy step → AsyncStore, or the blocking driver → store → diskcache

open_cache     the store that `cache=` stands for
store          Store: what a store of the user has to do; CompleteStore: what the runner uses; MemoryCache
safe_store     SafeStore: completes a store of the user; it neither raises an error nor hangs
async_store    AsyncStore: from event loops to a store, in batches
disk_cache     DiskCache: a folder that processes share
recovery       DatabaseHandle: keeps its database open, and decides what happens when that fails
open_file      the private folder and its file: checked, opened, put in quarantine
text_cache     TextCache: diskcache with texts only, checksums and leases; the only file that imports diskcache
worker         a daemon thread for what may block
outage         what failed is left alone for a while that grows
process        which process holds a lease, and whether it is still running
kept_json      what is slow to make and the same in every process
single_flight  equal calls of one process are made once
"""

from llmtasker.cache.disk_cache import CacheInfo, DiskCache, default_directory
from llmtasker.cache.open_cache import open_cache
from llmtasker.cache.store import CacheWarning, MemoryCache, Store

__all__ = ["CacheInfo", "CacheWarning", "DiskCache", "MemoryCache", "Store", "default_directory", "open_cache"]
