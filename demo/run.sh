#!/bin/sh
# `make run`: serve the model repository and the gateway before it, stream one completion, fill in a
# middle if the model can, say how to send the next, and go on serving until Ctrl-C. REPOSITORY,
# HTTP_PORT, GRPC_PORT, METRICS_PORT, GATEWAY_PORT and STATE may be set.
set -eu
repository=${REPOSITORY:-model_repository}
http_port=${HTTP_PORT:-8000}
grpc_port=${GRPC_PORT:-8001}
metrics_port=${METRICS_PORT:-8002}
gateway_port=${GATEWAY_PORT:-8080}
state=${STATE:-gateway-state}
gateway_log=${GATEWAY_LOG:-gateway.log}
prompt='def fib(n):'

nanotriton serve --model-repository "$repository" --http-port "$http_port" \
    --grpc-port "$grpc_port" --metrics-port "$metrics_port" &
server=$!
gateway=''
stop() { # the gateway first, so that what runs may end
    trap - INT TERM EXIT
    for process in $gateway $server; do
        kill -TERM "$process" 2>/dev/null && wait "$process" || :
    done
    exit
}
# A background process of sh ignores Ctrl-C, so it is told by SIGTERM to finish and stop.
trap stop INT TERM EXIT

# Wait until a command succeeds; a process that ends instead ends this script, with its last words.
await() { # PROCESS COMMAND...
    process=$1
    shift
    until "$@" 2>/dev/null; do
        if ! kill -0 "$process" 2>/dev/null; then
            [ "$process" != "$gateway" ] || tail -n 1 "$gateway_log" >&2
            wait "$process"
            exit
        fi
        sleep 0.3
    done
}
await $server python -m clients ready --url "localhost:$grpc_port"
python -m gateway serve --open --port "$gateway_port" --backend "stable=localhost:$grpc_port" \
    --state "$state" 2>"$gateway_log" &
gateway=$!
await $gateway python -m clients ready --protocol gateway --url "localhost:$gateway_port"

code='def read_lines(path):
    with open(path'
printf '\n%s' "$code"
python -m clients complete "$code" --stream --max-tokens 48 --stop-at function \
    --protocol gateway --url "localhost:$gateway_port"

# Fill in the middle: refused by name, and so left out here, by a model that wasn't trained for it.
before='class Point:
    def __init__(self, x, y):
        self.x = x
        '
after='

    def norm(self):
        return math.sqrt(self.x ** 2 + self.y ** 2)
'
if middle=$(python -m clients complete "$before" --suffix "$after" --stop-at line --max-tokens 24 \
    --url "localhost:$grpc_port" 2>/dev/null); then
    printf '\n\nFilled in, between the marks:\n\n%s>>>%s<<<%s' "$before" "$middle" "$after"
fi
cat <<MESSAGE


The page:  http://localhost:$gateway_port/
The next one, with curl:
  curl localhost:$gateway_port/v1/completions -H 'Content-Type: application/json' \\
      -d '{"prompt": "$prompt", "max_tokens": 32, "temperature": 0}'
from Triton itself:
  curl -d '{"text_input": "$prompt", "max_tokens": 32}' \\
      localhost:$http_port/v2/models/completion/generate
or from Python:
  from clients import CompletionClient
  with CompletionClient("localhost:$grpc_port") as client:
      print(client.complete("$prompt", max_tokens=32).text)

Serving until Ctrl-C. Metrics: localhost:$metrics_port/metrics, localhost:$gateway_port/metrics
MESSAGE
wait $server
