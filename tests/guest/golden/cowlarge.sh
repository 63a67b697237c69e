# SPDX-License-Identifier: Apache-2.0
# what: an old snapshot with chunks of 4 KiB and 700 exceptions: they fill two areas of its store and go on in a third
# disks: 12 12
make() {
    group 128k /dev/vda /dev/vdb
    create -L 4M -n origin "$VG" /dev/vda
    fill origin
    create -s -c 4k -L 5M -n snap "$VG/origin" /dev/vdb
    put origin changed 3000 2800
    put snap own 0 2804
    down
}
look() { up; seen origin; seen snap; }
