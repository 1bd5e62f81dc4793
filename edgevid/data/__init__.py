"""Data sets, on the host: folders, splits, the cache of decoded clips, synthesis."""
