# SPDX-License-Identifier: Apache-2.0
# what: old snapshots (copy on write): chunks of 4 KiB and 64 KiB on one origin, changes in the origin and in both snapshots
# disks: 12 12
make() {
    group 128k /dev/vda /dev/vdb
    create -L 4M -n origin "$VG" /dev/vda
    fill origin
    create -s -c 4k -L 2M -n snap4 "$VG/origin" /dev/vdb
    put origin changed 100 300; put origin changed 5001 20
    create -s -c 64k -L 3M -n snap64 "$VG/origin" /dev/vdb
    put origin again 90 50; put origin again 8000 100
    put snap4 own4 110 40; put snap4 own4 7000 9
    put snap64 own64 0 9; put snap64 own64 8100 92
    down
}
look() { up; for lv in origin snap4 snap64; do seen $lv; done; }
