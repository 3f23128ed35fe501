# Sourced by arm.sh and systemd.sh: a Debian of its own in a directory, this checkout in it, and steps that are told.
# shellcheck shell=sh
#
# Who sources it stands in the checkout and gives `inside SECONDS COMMAND`: run it in that Debian, bounded.

root=$(mktemp -d "/var/tmp/trambien-$name.XXXXXX")
chmod 755 "$root" # it becomes a root directory, in which others than root live too
failed=0

# make_debian ARCHITECTURE RELEASE PACKAGES: with this machine's names and trust (a network may have its own of either), and
# the checkout in /srv/trambien.
make_debian() {
    timeout 1800 debootstrap --arch="$1" --variant=minbase --include="$3" \
        "$2" "$root" >"$root.log" 2>&1 || { tail -n 20 "$root.log" >&2; exit 69; }
    cp -L /etc/resolv.conf "$root/etc/resolv.conf"
    cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
    printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts"
    mkdir -p "$root/srv/trambien"
    git ls-files -z --cached --others --exclude-standard | tar --create --null --files-from=- | tar --extract --directory="$root/srv/trambien"
}

# clear_debian: what was made here goes; KEEP=1 leaves it, and says where it is.
clear_debian() {
    rm -f "$root.log"
    if [ -n "${KEEP:-}" ]; then echo "kept: $root"; else rm -rf --one-file-system "$root"; fi
}

# clean_env COMMAND...: with nothing of this environment.
clean_env() {
    env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
        PIP_CERT=/etc/ssl/certs/ca-certificates.crt PYTHONDONTWRITEBYTECODE=1 "$@"
}

# step NAME SECONDS COMMAND: tell how it went, and with what last lines.
step() {
    began=$(date +%s)
    if inside "$2" "$3" >"$root/srv/step.log" 2>&1; then how=passed; else how="FAILED ($?)" failed=$((failed + 1)); fi
    echo "== $1: $how in $(($(date +%s) - began)) s"
    if [ "$how" = passed ]; then tail -n 3 "$root/srv/step.log"; else tail -n 60 "$root/srv/step.log"; fi
}

# readme MARK: the commands between its marks.
readme() { sed -n "/<!-- $1: begin -->/,/<!-- $1: end -->/s/^    //p" README.md; }
