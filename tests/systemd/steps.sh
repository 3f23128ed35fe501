# What tests/systemd.sh asks of the station, inside the Debian with a systemd of its own.
# shellcheck shell=sh
file=/etc/trambien/gateway.yaml
tried=/srv/try # what is made here besides
mkdir -p $tried

# refused COMMAND...: it must fail. A `!` before a command would not end a step that should have ended.
refused() {
    if "$@"; then
        echo "went through: $*"
        return 1
    fi
}

# until_ COMMAND...: again until it holds, for 40 s.
until_() {
    late=$(($(date +%s) + 40))
    until "$@" >/dev/null 2>&1; do
        [ "$(date +%s)" -lt $late ] || { echo "never: $*"; trambien status; return 1; }
        sleep 0.2
    done
}

# of status PATH: one value of what `trambien status --json` says; keys with a dot between them.
of() {
    trambien "$1" --json | /opt/trambien/bin/python -c 'import functools, json, sys
print(functools.reduce(lambda at, key: at[key], sys.argv[1].split("."), json.load(sys.stdin)))' "$2"
}

alive() { test "$(of status "links.waves.devices.$1.alive")" = True; }
acknowledged() { test "$(of status uplinks.province.acknowledged.main)" -ge "$1"; }
pid() { systemctl show --property=MainPID --value trambien; }

# platform: mosquitto with mutual TLS, and certificates for the station and an operator. Before anything is booted.
platform() {
    /opt/trambien/bin/python -c 'from pathlib import Path
from agent.demo.certificates import Authority
made = Authority(Path("/srv/try/ca"))
made.issue("localhost", server=True), made.issue("station-1"), made.issue("operator")'
    install -D --owner=mosquitto --mode=640 --target-directory=/etc/mosquitto/tls $tried/ca/ca.pem $tried/ca/localhost.*
    cat >/etc/mosquitto/conf.d/tls.conf <<'END'
listener 8883
cafile /etc/mosquitto/tls/ca.pem
certfile /etc/mosquitto/tls/localhost.pem
keyfile /etc/mosquitto/tls/localhost.key
require_certificate true
use_identity_as_username true
END
}

# configuration: as a technician leaves it, root and a file of mode 640.
configuration() {
    test "$(stat --format=%a:%U:%G /etc/trambien)" = 2770:root:trambien
    umask 027
    mkdir /etc/trambien/tls
    cp $tried/ca/ca.pem $tried/ca/station-1.* /etc/trambien/tls/
    chmod 640 /etc/trambien/tls/*
    cat >$file <<'END'
gateway: {id: station-1, language: en}
uplinks:
  province:
    url: mqtts://localhost:8883
    accept: [config]
    tls: {ca: tls/ca.pem, cert: tls/station-1.pem, key: tls/station-1.key}
buffer: {path: /var/lib/trambien/buffer.db, seal_every: 1s}
links:
  waves: {driver: simulated, devices: {tank: {every: 200ms, points: {level: {wave: sine}}}}}
END
    chgrp -R trambien /etc/trambien
}

# sandboxed: its account, no capability, no new privileges, a filter, and nothing of it that others read.
sandboxed() {
    grep --extended-regexp '^(Uid|CapEff|CapBnd|NoNewPrivs|Seccomp):' "/proc/$(pid)/status"
    test "$(stat --format=%U "/proc/$(pid)")" = trambien
    grep --quiet '^CapEff:.0*$' "/proc/$(pid)/status"
    grep --quiet '^NoNewPrivs:.1$' "/proc/$(pid)/status"
    grep --quiet '^Seccomp:.2$' "/proc/$(pid)/status"
    test "$(stat --format=%a:%U /var/lib/trambien)" = 750:trambien
    test "$(stat --format=%a:%U /var/lib/trambien/device.key)" = 600:trambien
    systemd-analyze security trambien --no-pager | tail --lines=1
}

# listener: whoever takes the blocks, and proves them as they come.
listener() {
    cp /var/lib/trambien/device.key.pub $tried/noted.pub
    systemd-run --quiet --unit=listener --remain-after-exit --property=StandardOutput=truncate:$tried/heard.txt \
        --setenv=LANG=C.UTF-8 /opt/trambien/bin/trambien verify mqtts://localhost:8883/trambien/v1/station-1 --language en \
        --trust $tried/noted.pub --ca $tried/ca/ca.pem --cert $tried/ca/operator.pem --key $tried/ca/operator.key
}

# heard: the listener is told to end, and has proven what it heard.
heard() {
    systemctl kill --signal=INT listener
    until_ grep --quiet . $tried/heard.txt
    cat $tried/heard.txt
    test "$(systemctl show --property=ExecMainStatus --value listener)" = 0
}

reloads() {
    before=$(pid)
    cp $file $tried/good.yaml
    sed --in-place 's/200ms/250ms/' $file
    systemctl reload trambien
    grep --quiet 250ms $file
    echo 'links: [' >>$file
    refused systemctl reload trambien
    cp $tried/good.yaml $file
    systemctl reload trambien
    test "$(pid)" = "$before"
    until_ alive tank
}

# send KEY FROM TO VERSION: sign a file as an operator and send it; gives what `send` gives.
send() {
    cd $tried
    sed "s/$2/$3/" $file >new.yaml
    trambien push sign new.yaml --base $file --key "$1" --gateway station-1 --platform province --version "$4" --probation 10 --yes \
        --out push.cbor
    trambien push send push.cbor --gateway station-1 --broker mqtts://localhost:8883 --within 60 \
        --ca $tried/ca/ca.pem --cert $tried/ca/operator.pem --tls-key $tried/ca/operator.key
}

pushes() {
    (cd $tried && trambien push keygen lan.key && trambien push keygen stranger.key &&
        trambien push trust lan.key.pub --threshold 1 --out /etc/trambien/trust.json)
    before=$(sha256sum $file)
    refused send stranger.key 200ms 300ms 1
    journalctl --unit=trambien --no-pager --output=cat | grep 'push-refused.*push.unknown-key'
    test "$(sha256sum $file)" = "$before"
    send lan.key 200ms 500ms 1
    grep --quiet 500ms $file
    stat --format='%A %U:%G %n' $file /etc/trambien/gateway.yaml.push
}

# comes_back COMMAND...: after which there is another process, that measures and delivers.
comes_back() {
    before=$(pid)
    "$@"
    until_ another "$before"
    until_ alive tank
    delivered=$(of status uplinks.province.acknowledged.main)
    until_ acknowledged $((delivered + 2))
    systemctl show --property=NRestarts,Result trambien
}

another() { test "$(pid)" != "$1" && test "$(pid)" != 0; }

# drop_in NAME LINE: one line more in the unit's section of the service.
drop_in() {
    mkdir -p /run/systemd/system/trambien.service.d
    printf '[Service]\n%s\n' "$2" >"/run/systemd/system/trambien.service.d/$1.conf"
    systemctl daemon-reload
}

quick_watchdog() {
    drop_in watchdog WatchdogSec=15s
    systemctl restart trambien
    until_ alive tank
}

stays_down() {
    cp $file $tried/good.yaml
    echo 'links: [' >>$file
    refused systemctl restart trambien
    sleep 5
    systemctl show --property=ExecMainStatus,ActiveState,NRestarts trambien
    test "$(systemctl show --property=ExecMainStatus --value trambien)" = 78
    test "$(systemctl is-active trambien)" = failed
    journalctl --unit=trambien --no-pager --output=cat --lines=8
    cat $tried/good.yaml >$file
    systemctl restart trambien
    until_ alive tank
}

# credential: systemd gives the key that stood beside the buffer, and the chain goes on.
credential() {
    systemctl stop trambien
    install --mode=600 /var/lib/trambien/device.key /etc/trambien/device.key
    mv /var/lib/trambien/device.key $tried/
    drop_in key LoadCredential=device.key:/etc/trambien/device.key
    systemctl start trambien
    until_ alive tank
    test ! -e /var/lib/trambien/device.key
    refused trambien key rotate
    trambien key show
}

# demonstration: the whole house with its instruments, under every restriction of the unit, in its account.
demonstration() {
    rm -rf /run/systemd/system/trambien.service.d
    drop_in demonstration "Type=exec
Restart=no
WatchdogSec=0
ExecStart=
ExecStart=/opt/trambien/bin/trambien demo --language en --data /srv/trambien/tests/data --keep /tmp/demo"
    systemctl start trambien
    tries=300
    while [ "$(systemctl is-active trambien)" = active ] && [ $tries -gt 0 ]; do sleep 1; tries=$((tries - 1)); done
    journalctl --unit=trambien --no-pager --output=cat --lines=12
    test "$(systemctl show --property=Result,ExecMainStatus --value trambien | tr '\n' ' ')" = "success 0 "
}
