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
    sed -i 's/^\tmax_lv = 0/\tlock_type = "sanlock"\n\tlock_args = "1.0.0:lvmlock"\n&/; s/^\tstatus = \["RESIZEABLE", "READ", "WRITE"\]/\tstatus = ["RESIZEABLE", "READ", "WRITE_LOCKED"]/; s/^\tflags = \[\]/\tflags = []/' /tmp/text
    lvm vgcfgrestore -qq -f /tmp/text "$VG" || lvm vgcfgrestore -f /tmp/text "$VG"
    lvm vgs --nolocking -o +vg_lock_type "$VG"
}
look() { strings_of_lock; dmsetup create "$VG-lin" --table "0 2048 linear /dev/vda 2048"; mkdir -p "/dev/$VG"; ln -s "/dev/mapper/$VG-lin" "/dev/$VG/lin"; seen lin; dmsetup remove "$VG-lin"; }
strings_of_lock() { grep -ac 'lock_type = "sanlock"' /dev/vda; }
