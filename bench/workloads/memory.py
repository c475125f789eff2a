"""What an idle connection takes of the server's memory, page tables included, the kernel's not."""

import counting
import harness
import settings
from suite import exact, workload


@workload("idle", "memory of an idle connection that has exchanged one message")
def idle(suite):
    count = suite.pick(10_000, 2_000)
    setting = settings.setting(suite.build, connections=16, idle=count)
    harness.allow_descriptors(count + 200)
    bases, own = settings.entrants("echo", setting.size, settings.STYLES)
    found = {}
    for name, command in [bases[0], *own, *suite.peers("echo")]:
        harness.say(f"idle: {name}")
        measured = counting.measure_memory(name, command, setting)["bytes / idle connection"]
        found["by hand" if name == bases[0][0] else name] = exact(max(1.0, round(measured, 1)))
    suite.add({"workload": "idle", "setting": "memory of an idle connection", "unit": "bytes", "servers": found})
