"""Datagrams: echo, one and several at a time, and a flood of which only the last
of 32 is answered."""

from suite import workload

SINK = "{build}/bench/bench-services --port {port} --udp --sink"
HAND = ("hand-udp", "hand-udp-single")


@workload("udp", "UDP echo and flood, with and without batched calls")
def udp(suite):
    entrants = suite.servers("udp", HAND)
    suite.compare_servers("udp", "echo, 64 B, 16 sockets", entrants, udp=True, connections=16)
    suite.compare_servers("udp", "echo, 64 B, 16 sockets, 8 in flight", entrants, udp=True,
                          connections=16, depth=8)
    sinks = [(name, SINK if name == "weft" else command + " --sink") for name, command in entrants]
    suite.compare_servers("udp", "flood, 64 B, 32 at a time from 4 sockets", sinks, udp=True,
                          sink=True, connections=4, depth=32)
