#!/bin/busybox sh
# The first program of the virtual machine. It puts the host's files below an overlay, so that nothing changes them,
# and runs one program there. Its words come from the kernel's command line: `lab=FOLDER` is where /lab/command is.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
while read -r module; do insmod "/modules/$module"; done </modules/order
options=trans=virtio,version=9p2000.L,msize=262144,cache=loose
mount -t 9p -o "$options,ro" host /host
mount -t tmpfs tmpfs /changes
mkdir /changes/upper /changes/work
mount -t overlay -o lowerdir=/host,upperdir=/changes/upper,workdir=/changes/work overlay /new
mount -t proc proc /new/proc
mount -t sysfs sysfs /new/sys
mount -t devtmpfs devtmpfs /new/dev
mkdir -p /new/dev/pts /new/dev/shm /new/lib/modules /new/lab
mount -t devpts devpts /new/dev/pts
for each in dev/shm tmp run; do mount -t tmpfs tmpfs "/new/$each"; done
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 lab /new/lab
ln -s "/lab/kernel/lib/modules/$(uname -r)" "/new/lib/modules/$(uname -r)"
ip link set lo up
chroot /new /bin/sh /lab/command
poweroff -f
