# SPDX-License-Identifier: Apache-2.0
# what: a thin volume of 450 mapped blocks, written back to front: its mapping takes a tree of two levels; a snapshot shares half of it
# disks: 28 28
make() {
    group 128k /dev/vda /dev/vdb
    create --type thin-pool -c 64k -L 48M --poolmetadatasize 2M -n pool "$VG"
    create -V 64M -T "$VG/pool" -n thin
    n=450
    while [ $n -gt 0 ]; do n=$((n - 15)); put thin thin $((n * 256)) 1920; done
    create -s -kn -n snap "$VG/thin"
    n=0
    while [ $n -lt 225 ]; do put thin after $((n * 256 + 7)) 1; n=$((n + 1)); done
    down
}
look() { up; seen thin; seen snap; }
