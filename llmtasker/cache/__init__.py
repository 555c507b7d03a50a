"""The cache: what was asked and answered, as text by key.

disk      DiskCache: a folder that processes share; open_cache
store     Store: what any cache must do; MemoryCache
door      the way from event loops to a store: one thread, in batches
lease     who may ask for a key, among processes
steward   what to do when the disk fails
database  the rows of a DiskCache
vault     the only file that loads diskcache, which gives file format and tables; its Disk class is ours and
          refuses pickles
"""

from llmtasker.cache.disk import CacheInfo, DiskCache, default_directory, open_cache
from llmtasker.cache.store import CacheWarning, MemoryCache, Store

__all__ = ["CacheInfo", "CacheWarning", "DiskCache", "MemoryCache", "Store", "default_directory", "open_cache"]
