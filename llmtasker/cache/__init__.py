"""The cache: answers as text, by the key of the request.

policy step → AsyncStore, or the blocking driver → store → diskcache

open_cache     the store for a value of `cache=`
copy_answers   the answers of one cache into another
redis_cache    RedisCache: a Redis that machines share; the only file that imports redis
redis_url      RedisURL: the parts of its URL, checked
store          Store: the interface of a user's store; CompleteStore: what the runner uses; MemoryCache
safe_store     SafeStore: completes a user's store; it neither raises errors nor hangs
async_store    AsyncStore: from event loops to a store, in batches
disk_cache     DiskCache: a folder that processes share
recovery       DatabaseHandle: keeps its database open, and handles failures
open_file      the private folder and its file: checked, opened, quarantined
text_cache     TextCache: diskcache with texts only, checksums and leases; the only file that imports diskcache
backoff        a store that failed is not used for a while, which grows
process        which process holds a lease, and whether it is still running
shared         one object per folder or store in a process
stored_json    JSON that is slow to create and the same in every process
single_flight  equal calls of one process are made once
"""

from llmtasker.cache.disk_cache import CacheInfo, DiskCache, default_directory
from llmtasker.cache.open_cache import open_cache
from llmtasker.cache.store import CacheWarning, MemoryCache, Store

__all__ = ["CacheInfo", "CacheWarning", "DiskCache", "MemoryCache", "Store", "default_directory", "open_cache"]
