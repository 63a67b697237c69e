# SPDX-License-Identifier: Apache-2.0
# what: striped over 2 and over 3, stripes of 4 KiB and 32 KiB; one grown so that its segments differ in stripes
# disks: 6 6 6
make() {
    group 64k /dev/vda /dev/vdb /dev/vdc
    create -i 2 -I 4k -L 1M -n two "$VG" /dev/vda /dev/vdb
    create -i 3 -I 32k -l 24 -n three "$VG"
    create -i 3 -I 8k -l 12 -n grown "$VG"
    lvm lvextend -qq -i 2 -I 64k -l +8 "$VG/grown" /dev/vdc /dev/vdb
    lvm lvextend -qq -i 1 -l +3 "$VG/grown" /dev/vda
    fill two three grown
    down
}
look() { up; seen two; seen three; seen grown; }
