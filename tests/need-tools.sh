#!/bin/sh
# Makes sure of what the tests of bad disks and bad links need besides: strace, to make system calls fail, mkfs.ext4, and
# nft, which drops packets at random. Where they cannot be installed, those tests are skipped and say why.
set -eu
PATH="$PATH:/usr/sbin:/sbin"
missing=
command -v strace >/dev/null || missing="$missing strace"
command -v mkfs.ext4 >/dev/null || missing="$missing e2fsprogs"
command -v nft >/dev/null || missing="$missing nftables"
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing$missing for the tests of bad disks and bad links." >&2
    # shellcheck disable=SC2086 # a list of packages
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing >/dev/null && exit 0
fi
echo "Tests that need$missing and root are skipped." >&2
