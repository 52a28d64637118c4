#!/bin/sh
# Makes stand-ins for the images that deploy/compose.yaml takes from a registry, where none can be
# pulled: Debian 13's Postgres 17, Redis 8, RabbitMQ 4 and Prometheus under the names and with the
# settings that the composition gives, in the engine at DOCKER_HOST, and Compose 2 as its plugin
# (into $DOCKER_CONFIG). What is particular to the true images is not tried by it.
#
# Needs root, mmdebstrap and a Docker engine. Takes about two minutes.
set -eu
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -n 1)
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
mmdebstrap --quiet --mode=root --variant=essential --aptopt='APT::Install-Recommends "false"' \
    --include=postgresql,redis-server,rabbitmq-server,prometheus,docker-compose,socat trixie \
    "$place/root" "deb $mirror trixie main" 2>"$place/log" || { tail -n 20 "$place/log" >&2; exit 1; }
cp "$place/root/usr/libexec/docker/cli-plugins/docker-compose" "$DOCKER_CONFIG/cli-plugins/"
tar -C "$place/root" --numeric-owner -c . | docker import - posthouse-stand-ins >/dev/null

cat >"$place/postgres" <<'END'
#!/bin/sh
# As the official image: makes the database of POSTGRES_… in an empty volume, then serves it. Any
# other command is executed.
set -eu
[ "${1:-postgres}" = postgres ] || exec "$@"
data=/var/lib/postgresql/data
as="setpriv --reuid=postgres --regid=postgres --clear-groups"
mkdir -p "$data" /run/postgresql && chown postgres:postgres "$data" /run/postgresql && cd "$data"
if [ ! -s "$data/PG_VERSION" ]; then
    printf '%s' "$POSTGRES_PASSWORD" >/tmp/password && chown postgres /tmp/password
    $as initdb -D "$data" -U "$POSTGRES_USER" -E UTF8 --locale=C.UTF-8 -A scram-sha-256 \
        --pwfile=/tmp/password >/dev/null
    rm /tmp/password
    echo "host all all all scram-sha-256" >>"$data/pg_hba.conf"
    echo "CREATE DATABASE $POSTGRES_DB" | $as postgres --single -D "$data" postgres >/dev/null
fi
exec $as postgres -D "$data" -c listen_addresses='*'
END
cat >"$place/redis" <<'END'
#!/bin/sh
# As Alpine's image: `nc -lk -p PORT -e nc HOST PORT` serves one connection beside the other.
set -eu
if [ "$1" = nc ]; then exec socat "TCP-LISTEN:$4,fork,reuseaddr" "TCP:$7:$8"; fi
exec "$@"
END
cat >"$place/rabbitmq" <<'END'
#!/bin/sh
set -eu
printf 'default_user = %s\ndefault_pass = %s\nloopback_users = none\n' \
    "$RABBITMQ_DEFAULT_USER" "$RABBITMQ_DEFAULT_PASS" >/etc/rabbitmq/rabbitmq.conf
chown -R rabbitmq:rabbitmq /var/lib/rabbitmq /var/log/rabbitmq
exec setpriv --reuid=rabbitmq --regid=rabbitmq --clear-groups env HOME=/var/lib/rabbitmq \
    RABBITMQ_LOGS=- /usr/lib/rabbitmq/bin/rabbitmq-server
END
cat >"$place/prometheus" <<'END'
#!/bin/sh
exec prometheus "$@"
END
chmod +x "$place"/postgres "$place"/redis "$place"/rabbitmq "$place"/prometheus
stand_in() { # stand_in IMAGE SCRIPT
    mkdir "$place/$2.image"
    mv "$place/$2" "$place/$2.image/entrypoint"
    docker build -q -t "$1" -f - "$place/$2.image" >/dev/null <<END
FROM posthouse-stand-ins
COPY entrypoint /entrypoint
ENV PATH=/usr/lib/postgresql/17/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
ENTRYPOINT ["/entrypoint"]
END
}
# The names are those of deploy/compose.yaml; tests/deploy/test_compose.py holds them to it.
stand_in postgres:17-alpine postgres
stand_in redis:7-alpine redis
stand_in rabbitmq:4-alpine rabbitmq
stand_in prom/prometheus:v3.5.0 prometheus
