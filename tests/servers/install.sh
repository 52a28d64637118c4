#!/bin/sh
# Installs the servers that the tests talk to, where they are missing (Debian and Ubuntu).
# Nothing is started: the test session starts its own on free ports in temporary folders.
set -eu
missing=""
need() { # need COMMAND-OR-FILE PACKAGE
    for path in /usr/sbin/$1 /usr/bin/$1 $1; do [ -e "$path" ] && return 0; done
    missing="$missing $2"
}
need dovecot dovecot-core
need /usr/lib/dovecot/imap dovecot-imapd
need /usr/lib/dovecot/pop3 dovecot-pop3d
need /usr/lib/dovecot/lmtp dovecot-lmtpd
need redis-server redis-server
need nats-server nats-server
need rabbitmq-server rabbitmq-server
need openssl openssl
need gpg gnupg
need javac default-jdk-headless
need /usr/share/java/bcpkix.jar libbcpkix-java
need chromium chromium
need node nodejs
need npm npm
need docker-compose docker-compose
need mmdebstrap mmdebstrap
need promtool prometheus
need pgbouncer pgbouncer
ls /usr/lib/*/girepository-1.0/GMime-3.0.typelib >/dev/null 2>&1 || missing="$missing gir1.2-gmime-3.0"
need /usr/lib/python3/dist-packages/gi python3-gi
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || missing="$missing postgresql"
if ! command -v kubectl >/dev/null && ! command -v kustomize >/dev/null; then
    # The manifests need kustomize 4 or later, which kubectl has from 1.21 on; Debian 12's is older.
    case $(apt-cache policy kubernetes-client 2>/dev/null | sed -n 's/^ *Candidate: //p') in
    "" | "(none)" | 1.1[0-9].* | 1.20.*)
        echo "tests/deploy needs kubectl 1.21 or later, or kustomize 4 or later: install one by hand" >&2
        ;;
    *) missing="$missing kubernetes-client" ;;
    esac
fi
# Chromium without its windows: a page costs a third of the processor time. Not every release has it.
lighter=""
if [ ! -e /usr/bin/chromium-headless-shell ]; then
    if [ ! -e /usr/bin/chromium ] || apt-cache show chromium-headless-shell >/dev/null 2>&1; then
        lighter=chromium-headless-shell
    fi
fi
[ -z "$missing$lighter" ] && exec "$(dirname "$0")/roots.sh"
echo "installing for the tests:$missing $lighter"
command -v apt-get >/dev/null || { echo "install these by hand:$missing $lighter" >&2; exit 1; }
as_root=""
[ "$(id -u)" = 0 ] || as_root="sudo"
# Debian starts a service as it is installed; the tests start their own.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod +x "$policy"
    trap '$as_root rm -f "$policy"' EXIT
fi
$as_root apt-get update -qq || [ -z "$missing" ]
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
if [ -n "$lighter" ]; then
    DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends "$lighter" \
        >/dev/null || echo "There is no $lighter here: the tests take Chromium with its windows."
fi
"$(dirname "$0")/roots.sh" # no exec: the trap still has its work
