# SPDX-License-Identifier: Apache-2.0
# what: the boot story: one group over two disks (of two targets), ext4 on a striped LV and XFS on a linear one that lies on both
# disks: 232 200
make() {
    modprobe ext4; modprobe xfs
    group 4M /dev/vda /dev/vdb
    create -i 2 -I 64k -L 48M -n striped "$VG"
    create -l 76 -n linear "$VG" /dev/vda /dev/vdb
    mkfs.ext4 -q -b 4096 -L story-ext4 -E lazy_itable_init=0,lazy_journal_init=0 "/dev/$VG/striped"
    mkfs.xfs -q -L story-xfs "/dev/$VG/linear"
    for lv in striped linear; do
        mount "/dev/$VG/$lv" /mnt
        mkdir -p /mnt/docs/deep/er
        echo "hello from $lv" >/mnt/hello.txt
        pattern "$lv-a" 0 6000 >/mnt/docs/pattern.txt
        pattern "$lv-b" 7 2500 >/mnt/docs/deep/er/more.txt
        : >/mnt/docs/empty
        n=0; while [ $n -lt 60 ]; do echo "file $n of $lv" >"/mnt/docs/deep/file-$n"; n=$((n + 1)); done
        ln -s docs/pattern.txt /mnt/link
        sync; umount /mnt
    done
    down
}
look() { modprobe ext4; modprobe xfs; up; for lv in striped linear; do seen $lv; files $lv; done; }
