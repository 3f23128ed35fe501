#!/bin/sh
# Makes sure that a real mosquitto is there, or says what to install.
set -eu
PATH="$PATH:/usr/sbin:/usr/local/sbin"
command -v mosquitto >/dev/null && exit 0
if command -v apt-get >/dev/null; then
    if [ "$(id -u)" = 0 ]; then sudo=; elif sudo -n true 2>/dev/null; then sudo="sudo -n"; else sudo=none; fi
    if [ "$sudo" != none ]; then
        echo "Installing mosquitto, which the tests need." >&2
        $sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq mosquitto >/dev/null && exit 0
    fi
fi
echo "The tests need a real MQTT broker. Install it with: sudo apt-get install mosquitto" >&2
echo "Các bài kiểm thử cần một MQTT broker thật. Hãy cài: sudo apt-get install mosquitto" >&2
exit 1
