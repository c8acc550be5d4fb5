#!/bin/sh
# Makes the installed packages in the directory $1 a system that starts quickly
# under emulation: mmdebstrap runs this last, as root or as the root of a user
# namespace. Everything that is not Debian's default is written here.
set -eu
root=$1

# --- what cloud-init does, and in which order -------------------------------
# Python is slow to start, so only the stages' useful modules are left.
cat >"$root/etc/cloud/cloud.cfg" <<'EOF'
datasource_list: [NoCloud, None]
users: [default]
disable_root: true
ssh_pwauth: false
ssh_deletekeys: true
ssh_genkeytypes: [ed25519]
ssh_quiet_keygen: true
no_ssh_fingerprints: false
preserve_hostname: false
manage_etc_hosts: true
resize_rootfs: true
cloud_init_modules:
  - bootcmd
  - write-files
  - resizefs
  - set_hostname
  - update_hostname
  - update_etc_hosts
  - users-groups
  - ssh
cloud_config_modules:
  - set-passwords
  - runcmd
cloud_final_modules:
  - package-update-upgrade-install
  - write-files-deferred
  - scripts-vendor
  - scripts-per-once
  - scripts-per-boot
  - scripts-per-instance
  - scripts-user
  - keys-to-console
  - final-message
  - power-state-change
system_info:
  distro: debian
  default_user:
    name: debian
    gecos: Debian
    lock_passwd: true
    groups: [adm, sudo]
    sudo: ["ALL=(ALL) NOPASSWD:ALL"]
    shell: /bin/bash
  network:
    renderers: [netplan]
    activators: [netplan]
  paths:
    cloud_dir: /var/lib/cloud/
    templates_dir: /etc/cloud/templates/
  ssh_svcname: ssh
EOF
rm -f "$root"/etc/cloud/cloud.cfg.d/90_dpkg.cfg

# --- what starts, and what does not -----------------------------------------
# wait-online has nothing to wait for when a NIC is optional, and then takes its
# full two minutes; the first-boot report retries by itself. The timers would
# use the CPU in the minutes that tests measure.
for unit in \
	systemd-networkd-wait-online.service systemd-firstboot.service \
	apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
	e2scrub_all.timer e2scrub_reap.service fstrim.timer \
	cloud-init-hotplugd.socket; do
	ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
chroot "$root" systemctl enable systemd-networkd.service systemd-resolved.service ssh.service
ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"

# --- an initramfs for the disks of a virtual machine -------------------------
# NVMe and ext4 are built into the cloud kernel; a list is much smaller than
# what MODULES=most packs.
cat >"$root/etc/initramfs-tools/conf.d/ingot" <<'EOF'
MODULES=list
COMPRESS=zstd
COMPRESSLEVEL=9
EOF
cat >>"$root/etc/initramfs-tools/modules" <<'EOF'
virtio_pci
virtio_rng
virtio_blk
virtio_scsi
sd_mod
EOF
chroot "$root" update-initramfs -u -k all

# --- nothing of the machine that built it ------------------------------------
: >"$root/etc/machine-id"
rm -f "$root"/etc/ssh/ssh_host_* "$root/var/lib/dbus/machine-id" "$root/var/lib/systemd/random-seed"
rm -f "$root/etc/hostname" "$root/etc/hosts"
printf '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n' >"$root/etc/hosts"
printf 'debian\n' >"$root/etc/hostname"
rm -rf "$root"/var/cache/apt/*.bin "$root"/var/lib/apt/lists/* "$root"/var/log/*.log "$root"/var/log/apt
