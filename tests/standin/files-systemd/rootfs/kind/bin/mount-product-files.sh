#!/bin/bash
# kind's createContainer hook: each container gets its own copy of what the node shows as the machine's name and id.
set -o errexit -o nounset -o pipefail
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

bundle=$(jq -r .bundle)
cp /kind/product_* "${bundle:?}/rootfs/"
for file in /sys/class/dmi/id/product_name /sys/class/dmi/id/product_uuid /sys/devices/virtual/dmi/id/product_uuid; do
    if [[ -f $file ]]; then
        mount -o ro,bind "$bundle/rootfs/${file##*/}" "$bundle/rootfs$file"
    fi
done
