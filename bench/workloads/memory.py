"""What an idle connection takes of the server's memory, page tables included, the kernel's not."""

import counting
import harness
from suite import workload


@workload("idle", "memory of an idle connection that has exchanged one message")
def idle(suite):
    count = suite.pick(10_000, 2_000)
    options = suite.setting(connections=count, idle=count)
    values = {}
    for name, command in suite.servers("echo", ("hand-edge",)):
        harness.say(f"idle: {name}")
        found = counting.measure_memory(name, command, options)
        values[name] = [max(1.0, found["bytes / idle connection"])]
    suite.add("idle", f"{count} connections", "bytes", values)
