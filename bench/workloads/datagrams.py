"""Datagrams: a flood of which only the last of 32 is answered, and an echo of one and of several at a time."""

from suite import workload


@workload("flood", "UDP flood: the last of 32 datagrams is answered")
def flood(suite):
    suite.race("flood", "64 B, 32 at a time from 4 sockets", {}, suite.peers("flood"))


@workload("udp", "UDP echo of one datagram and of eight at a time")
def udp(suite):
    for depth in (1, 8):
        suite.race("udp", f"64 B, 16 sockets, {depth} in flight", {"depth": depth}, suite.peers("udp"))
