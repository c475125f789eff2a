#!/bin/sh
# haproxy.sh PORT: haproxy on one thread, which answers every request itself.
exec haproxy -db -f /dev/stdin <<END
global
    nbthread 1
    maxconn 8192
defaults
    mode http
    timeout client 1h
    timeout connect 1h
    timeout server 1h
    timeout http-keep-alive 1h
frontend hello
    bind 127.0.0.1:$1
    http-request return status 200 content-type text/plain string hello
END
