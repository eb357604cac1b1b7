#!/bin/sh
# `make secrets`: what compose.yaml asks for, made at random, in FOLDER (default: beside this file).
# What is there stays: remove a file to have another. Containers have users of their own, and compose
# mounts files with the rights they have; so the files are readable and their folder is not.
set -eu
folder=${1:-$(dirname "$0")}
secrets=$folder/secrets
umask 077
mkdir -p "$secrets"
random() { openssl rand -hex 32; }

if [ ! -e "$folder/.env" ]; then
    cat > "$folder/.env" <<ENV
COMPOSE_PROFILES=cpu
POSTGRES_PASSWORD=$(random)
REDIS_PASSWORD=$(random)
GRAFANA_PASSWORD=$(random)
ENV
fi
. "$folder/.env"
cat > "$secrets/redis.conf" <<CONF
requirepass $REDIS_PASSWORD
save ""
maxmemory 256mb
maxmemory-policy allkeys-lru
CONF
[ -e "$secrets/metrics_key" ] || random > "$secrets/metrics_key"
if [ ! -e "$secrets/tls.key" ]; then
    name=${TLS_NAME:-localhost}
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 \
        -subj "/CN=$name" -addext "subjectAltName=DNS:$name,DNS:localhost,IP:127.0.0.1" \
        -keyout "$secrets/tls.key" -out "$secrets/tls.crt" 2>/dev/null
fi
chmod 0644 "$secrets"/*
echo "in $folder: .env; in $secrets: metrics_key, redis.conf, tls.crt (self-signed: put your own there), tls.key"
