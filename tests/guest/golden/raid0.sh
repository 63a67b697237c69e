# SPDX-License-Identifier: Apache-2.0
# what: raid0 over 2 and raid0_meta over 3
# disks: 6 6 6
make() {
    group 128k /dev/vda /dev/vdb /dev/vdc
    create --type raid0 -i 2 -I 16k -L 1M -n plain "$VG"
    create --type raid0_meta -i 3 -I 4k -l 12 -n meta "$VG"
    fill plain meta
    down
}
look() { up; seen plain; seen meta; }
