#!/bin/sh
# Makes the root file systems of servers that cannot live beside Dovecot on one machine: each is a
# small Debian with one server in it, made with this machine's own sources and keys, and kept.
# Nothing in it is started here; the test session lays a folder of its own over it.
set -eu
folder=${POSTHOUSE_TEST_ROOTS:-/var/cache/posthouse-tests}
if [ "$(id -u)" != 0 ]; then
    echo "Cyrus, Courier and mailutils are for tests as root: left out" >&2
    exit 0
fi
mkdir -p "$folder"
exec 9>"$folder/lock" # two checkouts may install at once
flock 9
. /etc/os-release
sources=""
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
    if [ -s "$file" ] && grep -qE '^(deb |Types:)' "$file"; then sources="$sources $file"; fi
done
make_root() { # make_root NAME PACKAGES
    [ "$(cat "$folder/$1.made" 2>/dev/null)" = "$2" ] && return 0
    rm -rf "$folder/$1" "$folder/$1.new"
    # shellcheck disable=SC2086
    if mmdebstrap --quiet --mode=root --variant=essential --include="$2" \
        --aptopt='APT::Install-Recommends "false"' "$VERSION_CODENAME" "$folder/$1.new" $sources \
        >"$folder/$1.log" 2>&1; then
        mv "$folder/$1.new" "$folder/$1"
        echo "$2" >"$folder/$1.made"
    else
        cat "$folder/$1.log" >&2
        return 1
    fi
}
# Two at once: half of the time is the unpacking of one and half the configuring of another.
make_root cyrus cyrus-imapd,cyrus-pop3d,cyrus-admin,sasl2-bin,libsasl2-modules &
first=$!
make_root courier courier-imap,courier-pop,courier-authdaemon,courier-authlib-userdb
make_root mailutils mailutils-imap4d,mailutils-pop3d
wait "$first"
