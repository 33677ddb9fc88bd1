#!/bin/sh
# Copies the model versions that a volume does not have out of an image, each with one rename. For docs/upgrade.md:
#   docker run --rm -v hourglass_models:/volume -v ./deploy:/deploy:ro hourglass sh /deploy/add-models.sh /app/models /volume
set -eu
image=$1 volume=$2
cd "$image"
for version in */*/; do
    version=${version%/}
    model=${version%/*}
    [ -e "$volume/$version" ] && continue
    mkdir -p "$volume/$model"
    rm -rf "$volume/$model/.new"
    cp -r "$version" "$volume/$model/.new"
    mv "$volume/$model/.new" "$volume/$version"
    echo "$version"
done
