# Makes the kernel and the root disk of the virtual machine: vm-image DIRECTORY PACKAGES
#
# The userland is Debian trixie, small: no recommended packages, no manuals. The kernel package is unpacked rather than
# installed, since its installation would build an initial RAM disk that this machine does not need: the drivers that it
# boots with (nvme, ext4, virtio console) are built into Debian's cloud kernel.
set -euo pipefail
dir=$1 packages=$2
work=$(mktemp -d "$dir/build.XXXXXX")
trap 'rm -rf "$work"' EXIT

unpack_kernel='
    kernel=$(chroot "$1" apt-cache depends linux-image-cloud-amd64 | sed -n "s/.*Depends: \(linux-image-[^ ]*\).*/\1/p")
    mkdir "$1/kernel" && cd "$1/kernel" && chroot "$1" sh -c "cd /kernel && apt-get -q download $kernel" >&2
    dpkg-deb -x ./*.deb . && cp boot/vmlinuz-* ../boot/vmlinuz
    mkdir -p ../usr/lib/modules && mv "$(find . -path "*/modules/*" -prune | head -n 1)" ../usr/lib/modules/
    cd / && rm -r "$1/kernel"'
label_files='chroot "$1" setfiles -F /etc/selinux/default/contexts/files/file_contexts /'

mmdebstrap --quiet --variant=apt --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
    --aptopt='Apt::Install-Recommends "false"' --aptopt='APT::Sandbox::User "root"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --include="$packages" \
    --customize-hook="$unpack_kernel" \
    --customize-hook='rm -f "$1"/etc/resolv.conf "$1"/var/cache/apt/*.bin; : >"$1/etc/machine-id"' \
    --customize-hook='printf "#!/bin/sh\nmount -t proc proc /proc\nmount -t devtmpfs devtmpfs /dev\nmodprobe virtio_blk\nmount -t ext4 -o ro /dev/vda /gantry\nexec /gantry/init\n" >"$1/sbin/gantry-boot"' \
    --customize-hook='chmod 755 "$1/sbin/gantry-boot"; mkdir "$1/gantry"' \
    --customize-hook='chroot "$1" depmod "$(ls "$1/usr/lib/modules")"' \
    --customize-hook="$label_files" \
    trixie "$work/root"
mv "$work/root/boot/vmlinuz" "$work/vmlinuz"
mke2fs -q -t ext4 -O ^has_journal -d "$work/root" "$work/root.img" 2G >/dev/null
mv "$work/vmlinuz" "$work/root.img" "$dir/"
