"""The workloads of tools/bench, each a function in one of these modules; here is their order."""

from . import echo, datagrams, memory, waiting, loops, services, operations  # noqa: F401

# What the figures that decide come from, with how much of the time a comparison may take: see run_suite.py.
DECIDING = ("echo", "many", "lines", "connect", "flood", "memcached", "redis", "share", "idle", "fairness")
