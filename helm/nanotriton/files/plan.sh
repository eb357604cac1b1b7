#!/bin/sh
# The model repository of this node's GPU: /source holds a proved graph without a plan (`python -m
# export plan --builder none`), /plans what this pod built before, /models is what the server reads.
# Export itself keeps plans by model, GPU, TensorRT and sizes: only another one of these is built anew.
set -eu
key=$(sha256sum /source/manifest.json | cut -c 1-16)
work=/plans/$key
if [ ! -f "$work/manifest.json" ]; then
    rm -rf "$work.part"
    cp -R /source/. "$work.part"
    mv "$work.part" "$work"
fi
python3 -m export plan "$work" --builder tensorrt --max-batch "$MAX_BATCH" --chunk "$CHUNK"
python3 -m export repository "$work" --repository /models
