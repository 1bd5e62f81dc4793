"""Serving: readers, scheduler, engines and their failover, frame counters, sinks, the service."""
