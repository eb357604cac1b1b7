#!/bin/sh
# `make run`: serve the model repository, stream one completion, fill in a middle if the model can,
# say how to send the next, and go on serving until Ctrl-C. REPOSITORY, HTTP_PORT, GRPC_PORT and
# METRICS_PORT may be set.
set -eu
repository=${REPOSITORY:-model_repository}
http_port=${HTTP_PORT:-8000}
grpc_port=${GRPC_PORT:-8001}
metrics_port=${METRICS_PORT:-8002}
prompt='def fib(n):'

nanotriton serve --model-repository "$repository" --http-port "$http_port" \
    --grpc-port "$grpc_port" --metrics-port "$metrics_port" &
server=$!
# A background process of sh ignores Ctrl-C, so it is told by SIGTERM to finish and stop.
trap 'trap - INT TERM EXIT; kill -TERM $server 2>/dev/null; wait $server; exit' INT TERM EXIT

until python -m clients ready --url "localhost:$grpc_port" 2>/dev/null; do
    kill -0 $server 2>/dev/null || { trap - EXIT; wait $server; }
    sleep 0.3
done

code='def read_lines(path):
    with open(path'
printf '\n%s' "$code"
python -m clients complete "$code" --stream --max-tokens 48 --stop-at function \
    --url "localhost:$grpc_port"

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


The next one, with curl:
  curl -d '{"text_input": "$prompt", "max_tokens": 32}' \\
      localhost:$http_port/v2/models/completion/generate
streamed:
  curl -N -d '{"text_input": "$prompt", "max_tokens": 32}' \\
      localhost:$http_port/v2/models/completion_stream/generate_stream
or from Python:
  from clients import CompletionClient
  with CompletionClient("localhost:$grpc_port") as client:
      print(client.complete("$prompt", max_tokens=32).text)

Serving until Ctrl-C. Metrics: localhost:$metrics_port/metrics
MESSAGE
wait $server
