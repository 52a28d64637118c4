#!/bin/sh
# A handler without any SDK: redis-cli, jq, openssl and a shell. Prints sender and subject of every mail and
# stores the mail itself as <id>.eml in the current folder.
#
#   export POSTHOUSE_URL=https://posthouse.example.com POSTHOUSE_HANDLER_TOKEN=... POSTHOUSE_SIGNING_KEY=...
#   ./no_sdk_redis.sh redis://127.0.0.1:6379/0 my-handler
#
# It shows all that a handler in any language has to do: read as a consumer of the group, check who
# wrote the event, handle, acknowledge; take over what a crashed consumer left; reject to the dead letters; never create or
# trim the stream.
set -eu
url=$1 handler=$2
: "${POSTHOUSE_SIGNING_KEY:?the key that Posthouse showed with the token of the handler}"
key="posthouse:handler:$handler" group=posthouse consumer="shell-$$"
limit=5         # deliveries before an event is given up
stale=60000     # milliseconds after which another consumer's event is taken over

redis() { redis-cli --no-auth-warning -u "$url" "$@"; }

verified() { # verified SIGNATURE EVENT: was it signed for this handler, less than 60 days ago?
    at=$(printf '%s' "$1" | sed -n 's/^t=\([0-9]\{1,15\}\),.*/\1/p')
    [ -n "$at" ] && [ $(($(date +%s) - at / 1000)) -lt 5184000 ] || return 1
    for secret in $POSTHOUSE_SIGNING_KEY; do # one, or two while it is renewed
        # openssl takes the key as an argument: on a machine of many users use a language that does not.
        mac=$(printf '%s.%s.%s' "$handler" "$at" "$2" | openssl dgst -sha256 -hmac "$secret" -r)
        case "$1," in *",v1=${mac%% *},"*) return 0 ;; esac
    done
    return 1
}

handle() { # handle EVENT: exit status 0 is success
    id=$(printf '%s' "$1" | jq -re .id) || return 1
    printf '%s' "$1" | jq -re '"\(.data.headers.from): \(.data.headers.subject)"' || return 1
    if printf '%s' "$1" | jq -e '.data.raw.inline' >/dev/null; then
        printf '%s' "$1" | jq -r '.data.raw.inline' | base64 -d >"$id.eml.part"
    else
        raw=$(printf '%s' "$1" | jq -r '.data.raw.url')
        case "$raw" in # the token goes to Posthouse alone, and redirects are not followed
        "${POSTHOUSE_URL%/}"/*) ;;
        *) return 1 ;;
        esac
        curl -fsS -H "Authorization: Bearer ${POSTHOUSE_HANDLER_TOKEN:-}" -o "$id.eml.part" "$raw"
    fi && mv "$id.eml.part" "$id.eml" # the id is the same when a mail comes again: one file, the newest form
}

reject() { # reject POSITION EVENT SIGNATURE DELIVERIES REASON
    printf '%s' "$2" | redis -x XADD "$key:dead" '*' position "$1" signature "$3" \
        deliveries "$4" reason "$5" event >/dev/null
    redis XACK "$key" "$group" "$1" >/dev/null
}

settle() { # settle POSITION EVENT SIGNATURE
    if ! verified "$3" "$2"; then
        reject "$1" "$2" "$3" 1 "not verified"
        return
    fi
    if handle "$2"; then
        redis XACK "$key" "$group" "$1" >/dev/null
        return
    fi
    deliveries=$(redis --json XPENDING "$key" "$group" "$1" "$1" 1 | jq '.[0][3] // 1')
    if [ "$deliveries" -ge "$limit" ]; then
        reject "$1" "$2" "$3" "$deliveries" "failed $deliveries times"
    fi # else it stays pending and is taken over again when it is stale
}

stop="" cursor=0-0 # how far it looked for what is stale
trap 'stop=1' TERM INT
while [ -z "$stop" ]; do
    answer=$(redis --json XAUTOCLAIM "$key" "$group" "$consumer" "$stale" "$cursor" COUNT 1 2>&1) || answer=""
    cursor=$(printf '%s' "$answer" | jq -re '.[0]' 2>/dev/null) || cursor=0-0
    entry=$(printf '%s' "$answer" | jq -c '.[1][0] // empty' 2>/dev/null) || entry=""
    if [ -z "$entry" ]; then
        answer=$(redis --json XREADGROUP GROUP "$group" "$consumer" COUNT 1 BLOCK 1000 \
            STREAMS "$key" '>' 2>&1) || answer=""
        entry=$(printf '%s' "$answer" | jq -c '
            if type == "object" then .[] else .[0][1] end | .[0] // empty' 2>/dev/null) || entry=""
    fi
    if [ -n "$entry" ]; then
        position=$(printf '%s' "$entry" | jq -r '.[0]')
        event=$(printf '%s' "$entry" | jq -r '.[1] | .[index("event") + 1]')
        signature=$(printf '%s' "$entry" |
            jq -r '.[1] | index("signature") as $at | if $at then .[$at + 1] else "" end')
        settle "$position" "$event" "$signature"
    elif printf '%s' "$answer" | grep -Eq 'NOAUTH|WRONGPASS|NOPERM|AUTH failed'; then
        printf 'Redis refuses: %s\n' "$answer" >&2 # waiting does not help
        exit 1
    elif printf '%s' "$answer" | grep -Eq 'NOGROUP|Could not connect|Connection refused|LOADING'; then
        sleep 1 # the queue is not there (again) yet, or Redis is away
    fi
done
