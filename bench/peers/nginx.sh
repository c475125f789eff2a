#!/bin/sh
# nginx.sh PORT: nginx with one worker that answers every request with "hello".
config=$(mktemp) || exit 1
cat >"$config" <<END
daemon off;
master_process off;
pid /dev/null;
error_log stderr crit;
events { worker_connections 16384; }
http {
    access_log off;
    keepalive_requests 1000000000;
    default_type text/plain;
    server { listen 127.0.0.1:$1 backlog=4096; location / { return 200 "hello"; } }
}
END
exec 3<"$config"
rm -f "$config"
exec nginx -e stderr -c /proc/self/fd/3
