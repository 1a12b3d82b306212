#!/bin/sh
# Makes images of the distribution's own packages, as an OCI layout in the empty
# directory $1: debian, python above it, packages with pip and npm, busybox, and
# busybox beneath 120 layers. With `large` as $2, one of about 100 MB.
set -eu
exec > /dev/null
umask 022
layout=$1 work=$1/work suite=trixie
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
mkdir "$work"
trap 'b rm --all; b rmi --all --force; rm -rf "$work"' EXIT

b() {
    buildah --storage-driver vfs --root "$work/storage" --runroot "$work/run" "$@"
}

# Keeps container $1 as image $2.
keep() {
    b commit --quiet "$1" "$2"
    b push --quiet "$2" "oci:$layout:$2"
    b rm "$1"
}

# Makes image $2 of image $1 and the packages behind them.
install() {
    above=$(b from "$1") name=$2
    shift 2
    b run --isolation chroot "$above" -- sh -c 'export DEBIAN_FRONTEND=noninteractive
        apt-get -qq update && apt-get -qq -y --no-install-recommends install "$@" &&
        rm -rf /var/lib/apt/lists /var/cache/apt /var/log/*' install "$@"
    keep "$above" "$name"
}

mmdebstrap --quiet --variant=minbase --keyring="$keyring" \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    "$suite" "$work/debian.tar" "deb http://deb.debian.org/debian $suite main"
debian=$(b from scratch)
b add --quiet "$debian" "$work/debian.tar" /
b config --cmd /bin/bash "$debian"
keep "$debian" debian
install debian python python3-minimal
if [ "$2" = large ]; then
    install python large git gcc
    exit
fi

# Whom this host trusts, the image trusts: its registries may be behind a proxy.
install debian installers ca-certificates python3-pip nodejs
npm pack --silent --pack-destination "$work" npm@10
installers=$(b from installers)
b add --quiet "$installers" "$work"/npm-10.*.tgz /usr/lib/node_modules
b run --isolation chroot "$installers" -- sh -c 'cd /usr/lib/node_modules &&
    mv package npm && ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/bin/npm'
trusted=/etc/ssl/certs/ca-certificates.crt
b copy --quiet "$installers" "$trusted" "$trusted"
b config --env "NODE_EXTRA_CA_CERTS=$trusted" "$installers"
keep "$installers" packages

busybox=$(b from scratch)
b add --quiet "$busybox" /bin/busybox /bin/busybox
b config --cmd '["/bin/busybox", "sh"]' "$busybox"
keep "$busybox" busybox

umoci tag --image "$layout:busybox" many
for layer in $(seq 120); do
    mkdir -p "$work/layer/etc/layers"
    echo "$layer" > "$work/layer/etc/last"
    echo "$layer" > "$work/layer/etc/layers/$layer"
    tar -C "$work/layer" -cf "$work/layer.tar" etc
    umoci raw add-layer --image "$layout:many" "$work/layer.tar"
    rm -r "$work/layer"
done
umoci gc --layout "$layout"
