#!/bin/sh
# Brings libfaketime where that is easy; without it the clock matrix is skipped, and pytest says so.
set -eu
for library in /usr/lib/*/faketime/libfaketimeMT.so.1 /usr/lib/faketime/libfaketimeMT.so.1; do
    [ -e "$library" ] && exit 0
done
if command -v apt-get >/dev/null; then
    if [ "$(id -u)" = 0 ]; then sudo=; elif sudo -n true 2>/dev/null; then sudo="sudo -n"; else sudo=none; fi
    if [ "$sudo" != none ]; then
        echo "Installing faketime, with which the tests set the clock." >&2
        $sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq faketime >/dev/null && exit 0
    fi
fi
echo "Without faketime the clock matrix is skipped. Install it with: sudo apt-get install faketime" >&2
