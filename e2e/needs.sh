#!/bin/sh
# Installs what the tests use from Debian's packages, as root or by sudo. Where
# that may not be done it names what is missing and goes on: the tests that
# need it then say so themselves.
set -u

# command or file that shows it is there : package
wanted='
/bin/bash:bash
/usr/bin/openssl:openssl
/usr/bin/chromium:chromium
/usr/bin/curl:curl
/sbin/ip|/usr/sbin/ip:iproute2
/usr/bin/gunicorn:gunicorn
/usr/bin/h2load:nghttp2-client
/usr/bin/pebble:pebble
/usr/bin/testssl:testssl.sh
/usr/bin/promtool:prometheus
/usr/lib/python3/dist-packages/flask/__init__.py:python3-flask
/usr/lib/python3/dist-packages/flask_socketio/__init__.py:python3-flask-socketio
/usr/lib/python3/dist-packages/flask_sockets.py:python3-flask-sockets
/usr/lib/python3/dist-packages/gevent/__init__.py:python3-gevent
/usr/lib/python3/dist-packages/geventwebsocket/__init__.py:python3-gevent-websocket
/usr/lib/python3/dist-packages/redis/__init__.py:python3-redis
/usr/bin/slowhttptest:slowhttptest
/usr/bin/redis-server|/usr/bin/valkey-server:redis-server
/usr/bin/redis-cli|/usr/bin/valkey-cli:redis-tools
/usr/lib/python3/dist-packages/ensurepip/__init__.py|/usr/lib/python3.11/ensurepip/__init__.py:python3-venv
'
missing=''
for line in $wanted; do
	files=${line%%:*} package=${line##*:} found=''
	for f in $(echo "$files" | tr '|' ' '); do [ -e "$f" ] && found=yes; done
	[ -n "$found" ] || missing="$missing $package"
done
command -v node >/dev/null && command -v npm >/dev/null || missing="$missing nodejs npm"
[ -z "$missing" ] && exit 0

as_root=''
if [ "$(id -u)" != 0 ]; then
	if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then as_root='sudo -n'; else
		echo "needs: missing and not mine to install:$missing" >&2; exit 0; fi
fi
if ! command -v apt-get >/dev/null; then echo "needs: missing, and this is no Debian:$missing" >&2; exit 0; fi
echo "needs: installing$missing"
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -qq && $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null ||
	echo "needs: could not install:$missing" >&2
exit 0
