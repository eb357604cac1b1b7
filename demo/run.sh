#!/bin/sh
# `make run`: serve the model repository, stream one completion, fill in a middle if the model can,
# say how to send the next, and go on serving until Ctrl-C. REPOSITORY, HTTP_PORT, GRPC_PORT and METRICS_PORT may be set.
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

printf '\n%s' "$prompt"
python -m clients complete "$prompt" --stream --max-tokens 48 --temperature 0.4 --seed 1 \
    --url "localhost:$grpc_port"

# Fill in the middle: refused by name, and so left out here, by a model that wasn't trained for it.
before='def mean(values):
    total = '
after='
    return total / len(values)
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
