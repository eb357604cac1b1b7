#!/bin/sh
# Models that lie in claims, each mounted at $CLAIMS/NAME, and their archives in $ARCHIVES.
#   backup    one archive for what a claim holds; none when there is one of the same manifests
#   restore   the newest archive of each claim, into a claim that is empty
set -eu
claims=${CLAIMS:-/claims}
archives=${ARCHIVES:-/backup}
for claim in "$claims"/*/; do
    [ -d "$claim" ] || continue # no models lie in claims
    name=$(basename "$claim")
    case $1 in
    backup)
        key=$(cd "$claim" && find . \( -name manifest.json -o -name config.pbtxt \) \
            -exec sha256sum {} + | sort | sha256sum | cut -c 1-16)
        archive=$archives/models-$name-$key.tar
        [ ! -f "$archive" ] || continue
        tar -C "$claim" --exclude=./lost+found -cf "$archive.part" .
        mv "$archive.part" "$archive"
        echo "$archive"
        ;;
    restore)
        if [ -n "$(find "$claim" -mindepth 1 -maxdepth 1 ! -name lost+found)" ]; then
            echo "$name holds files: a backup is restored into an empty claim, it is left alone"
            continue
        fi
        # By time, newest first; the names are ours and hold no blanks.
        archive=$(find "$archives" -name "models-$name-*.tar" -exec ls -t {} + | head -n 1)
        if [ -z "$archive" ]; then
            echo "$archives holds no models-$name-*.tar: restore from where there is one" >&2
            exit 1
        fi
        tar -C "$claim" -xf "$archive"
        echo "$archive"
        ;;
    esac
done
