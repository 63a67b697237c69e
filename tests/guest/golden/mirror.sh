# SPDX-License-Identifier: Apache-2.0
# what: the old mirror of dm-mirror: core log, log on a disk, three legs
# disks: 6 6 6
make() {
    group 128k /dev/vda /dev/vdb /dev/vdc
    create --type mirror -m 1 --mirrorlog core -L 1M -n core "$VG"
    create --type mirror -m 1 --mirrorlog disk -L 1M -n disk "$VG"
    create --type mirror -m 2 --mirrorlog core -L 512k -n three "$VG"
    for lv in core disk three; do synced $lv; done
    fill core disk three
    down
}
look() { up; for lv in core disk three; do synced $lv; seen $lv; done; }
