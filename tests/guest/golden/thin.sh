# SPDX-License-Identifier: Apache-2.0
# what: thin volumes, partly written, blocks of 64 KiB and of 192 KiB; thin snapshots and what was written after them
# disks: 12 12
make() {
    group 128k /dev/vda /dev/vdb
    create --type thin-pool -c 64k -L 6M --poolmetadatasize 2M -n pool64 "$VG"
    create --type thin-pool -c 192k -L 6M --poolmetadatasize 2M -n pool192 "$VG"
    create -V 4M -T "$VG/pool64" -n small
    create -V 24M -T "$VG/pool192" -n large
    create -V 1M -T "$VG/pool64" -n empty
    put small small 0 300; put small small 1000 17; put small small 8000 192
    put large large 5 700; put large large 30001 400; put large large 49000 152
    create -s -kn -n snap "$VG/small"
    put small after 100 200; put snap snapped 5000 60
    create -s -kn -n snapsnap "$VG/snap"
    put snap later 5030 100; blkdiscard -o 524288 -l 131072 "/dev/$VG/small"
    down
}
look() { up; for lv in small large empty snap snapsnap; do seen $lv; done; }
