# SPDX-License-Identifier: Apache-2.0
# what: a group with a lock_type (shared by lvmlockd's hosts); the flag came in by vgcfgrestore of an edited text, since no lvmlockd runs here
# disks: 4
# refuse: * EROFS writing: the group is shared; its locks are lvmlockd's
make() {
    group 128k /dev/vda
    create -L 1M -n lin "$VG"
    fill lin
    down
    lvm vgcfgbackup -qq -f /tmp/text "$VG"
    sed -i 's/^\tmax_lv = 0/\tlock_type = "sanlock"\n\tlock_args = "1.0.0:lvmlock"\n&/; s/^\tstatus = \["RESIZEABLE", "READ", "WRITE"\]/\tstatus = ["RESIZEABLE", "READ"]/; s/^\tflags = \[\]/\tflags = ["WRITE_LOCKED"]/' /tmp/text
    lvm vgcfgrestore -f /tmp/text "$VG"
    grep -aq "lock_type = .sanlock" /dev/vda
}
# Without lvmlockd the real lvm2 does not activate it: the linear table is laid by hand, from extent 0 behind 1 MiB.
look() {
    dmsetup create "$VG-lin" --table "0 2048 linear /dev/vda 2048"
    mkdir -p "/dev/$VG"; ln -s "/dev/mapper/$VG-lin" "/dev/$VG/lin"
    until [ -b "/dev/$VG/lin" ]; do dmsetup mknodes; done
    seen lin
    dmsetup remove "$VG-lin"
}
