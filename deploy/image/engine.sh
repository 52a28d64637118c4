# Starts a Docker engine that ends with the shell that sources this: a socket, a folder and plugins of
# its own ($folder). It touches neither the machine's firewall nor an engine that runs already. Builds
# use the machine's network; networks of a composition are bridges that live as long as it does.
# shellcheck shell=sh
for command in dockerd docker mmdebstrap; do
    command -v "$command" >/dev/null ||
        { echo "$command is missing: apt-get install docker.io mmdebstrap" >&2; exit 1; }
done
[ "$(id -u)" = 0 ] || { echo "a Docker engine of its own needs root" >&2; exit 1; }
folder=$(mktemp -d -t posthouse-docker-XXXXXX)
export DOCKER_HOST="unix://$folder/docker.sock" DOCKER_CONFIG="$folder/client"
mkdir -p "$DOCKER_CONFIG/cli-plugins"
dockerd --host "$DOCKER_HOST" --data-root "$folder/data" --exec-root "$folder/exec" \
    --pidfile "$folder/docker.pid" --bridge none --iptables=false --ip-forward=false \
    >"$folder/dockerd.log" 2>&1 &
engine=$!
finish() {
    # Bridges of networks would outlive the engine.
    docker ps -aq | xargs -r docker rm -f >/dev/null 2>&1 || true
    docker network prune -f >/dev/null 2>&1 || true
    kill "$engine" 2>/dev/null || true
    wait "$engine" 2>/dev/null || true
    umount "$folder"/exec/netns/* 2>/dev/null || true
    rm -rf "$folder"
}
trap finish EXIT
trap 'exit 1' INT TERM
tries=0
until docker info >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ "$tries" -lt 60 ] || { tail -n 20 "$folder/dockerd.log" >&2; exit 1; }
    sleep 0.5
done
