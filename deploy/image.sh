#!/usr/bin/env bash
# Builds the CPU image without a Docker engine, says how large it is, and asks it for a clean digit while it runs without
# root and in a file system that it cannot write to. For Debian, as root: apt install buildah debootstrap
#   deploy/image.sh [options of `buildah bud`, such as -v for a pip.conf of yours]
set -euo pipefail
cd "$(dirname "$0")/.."
work=${HOURGLASS_IMAGE_DIR:-build/image}
python=localhost/python:3.11-slim
mkdir -p "$work"
work=$(realpath "$work")
export BUILDAH_ISOLATION=chroot
buildah() { command buildah --root "$work/storage" --runroot "$work/run" "$@"; }

# What `python:3.11-slim` is made of: Debian 12 with its Python, without documentation.
if ! buildah images --quiet "$python" 2>/dev/null | grep --quiet .; then
    [ -d "$work/debian" ] || debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$work/debian"
    rm -rf "$work"/debian/var/{cache/apt,lib/apt/lists,log}/* "$work"/debian/usr/share/{doc,man,info,locale}/*
    base=$(buildah from scratch)
    buildah copy --quiet "$base" "$work/debian" /
    buildah commit --quiet --rm "$base" "$python"
fi
buildah bud --format docker --layers --build-arg PYTHON="$python" "$@" -f service/Dockerfile -t hourglass . >"$work/log" 2>&1 \
    || { tail "$work/log"; exit 1; }

container=$(buildah from --pull-never localhost/hourglass)
root=$(buildah mount "$container")
trap '[ -z "${pid:-}" ] || kill "$pid" || true; wait; buildah umount "$container" >/dev/null; buildah rm "$container" >/dev/null' EXIT
mb() { du --summarize --bytes "$1" | cut -f1 | numfmt --to=si; }
echo "image: $(mb "$root") bytes, of them $(mb "$root/opt/hourglass") packages and $(mb "$root/app") models"

if chroot "$root" /opt/hourglass/bin/python3 -c 'import torch' 2>/dev/null; then echo "PyTorch is in it"; exit 1; fi
# A mount of its own, so that the files can be read-only; what the image's ENV says, and a user without rights.
unshare --mount bash -c '
    mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && mount -t tmpfs tmpfs "$1/tmp"
    mount -t proc proc "$1/proc" && mount --bind /dev "$1/dev"
    exec chroot --userspec=10001:10001 "$1" /usr/bin/env -i PATH=/opt/hourglass/bin:/usr/bin:/bin \
        HOURGLASS_LOG_FORMAT=json HOURGLASS_PORT="$2" HOURGLASS_WORKERS=2 /bin/sh -c "cd /app && exec python3 -m service"
' - "$root" "${PORT:-8765}" 2>"$work/service.log" &
pid=$!
url=http://127.0.0.1:${PORT:-8765}
for _ in $(seq 100); do curl --silent --fail --output /dev/null "$url/health/ready" && break; sleep 0.2; done
curl --silent --fail --data-binary @tests/data/digit_noisy.png "$url/denoise?model=digits" -o "$work/clean.png"
grep --quiet Uid:.*10001 "/proc/$pid/status"
file "$work/clean.png"
kill -TERM "$pid" && wait "$pid" && echo "it ran as user 10001 on a read-only file system, answered, and ended with 0"
pid=
