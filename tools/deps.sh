#!/bin/sh
# Installs the Debian packages that building, the lab and the tests need and
# that are missing; says which. Asks for root only when something is missing.
# With the argument "bench" also what the benchmarks compare with.
set -eu

packages="
postgresql
qemu-system-x86 qemu-utils ovmf seabios ipxe ipxe-qemu
mmdebstrap debian-archive-keyring uidmap
mtools dosfstools e2fsprogs fdisk grub-common grub-efi-amd64-bin grub-pc-bin
grub-efi-amd64-signed shim-signed shim-helpers-amd64-signed fakeroot
ipmitool redfishtool python3-sushy
curl zstd lz4 xz-utils minisign pci.ids iproute2 ca-certificates
"

if [ "${1:-}" = bench ]; then
	packages="$packages bmap-tools casync pigz openssh-client"
fi

missing=""
for p in $packages; do
	dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
[ -n "$missing" ] || exit 0

echo "installing missing packages:$missing"
if [ "$(id -u)" = 0 ]; then run=""; else run="sudo"; fi

$run apt-get update -q
$run env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
