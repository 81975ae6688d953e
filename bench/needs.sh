#!/bin/sh
# Installs the proxies that the bench compares with from Debian's packages, as
# root or by sudo. Where that may not be done it names what is missing and goes
# on: the bench then says which columns it has to leave out.
set -u

missing=''
for peer in nginx haproxy caddy redis-server; do
	PATH="$PATH:/usr/sbin:/sbin" command -v $peer >/dev/null || missing="$missing $peer"
done
[ -z "$missing" ] && exit 0

as_root=''
if [ "$(id -u)" != 0 ]; then
	if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then as_root='sudo -n'; else
		echo "bench: missing and not mine to install:$missing" >&2; exit 0; fi
fi
if ! command -v apt-get >/dev/null; then echo "bench: missing, and this is no Debian:$missing" >&2; exit 0; fi

# Debian starts a service when it is installed. Nobody wants a web server on
# port 80 because of a bench, so starting is denied meanwhile (invoke-rc.d(8)).
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	printf '#!/bin/sh\nexit 101\n' | $as_root tee $policy >/dev/null && $as_root chmod 755 $policy
	trap '$as_root rm -f $policy' EXIT
	trap 'exit 1' INT TERM
fi
echo "bench: installing$missing"
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -qq && $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null ||
	echo "bench: could not install:$missing" >&2
exit 0
