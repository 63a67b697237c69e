# SPDX-License-Identifier: Apache-2.0
# what: linear, grown over three PVs and shrunk again; each PV's metadata text has gone around its buffer and lies across its end
# disks: 6 6 6
make() {
    lvm pvcreate -qq -y --metadatasize 60k --dataalignment 64k /dev/vda /dev/vdb /dev/vdc
    lvm vgcreate -qq -y -s 128k "$VG" /dev/vda /dev/vdb /dev/vdc
    create -L 1M -n lin "$VG" /dev/vda
    create -L 512k -n gap "$VG" /dev/vda
    lvm lvextend -qq -L 2M "$VG/lin" /dev/vdc
    lvm lvextend -qq -L 3M "$VG/lin" /dev/vda
    lvm lvextend -qq -L 4M "$VG/lin" /dev/vdb
    lvm lvreduce -qq -f -L 3712k "$VG/lin"
    lvm lvremove -qq -y "$VG/gap"
    lvm lvextend -qq -L 4352k "$VG/lin" /dev/vda
    create -L 768k -n small "$VG" /dev/vdb
    fill lin small
    n=0
    until wrapped; do
        n=$((n + 1)); lvm vgchange -qq --addtag "round$n" "$VG"
        [ $n -lt 60 ] || return 1
    done
    down
}
# The metadata area's header: its size at 32, then the text's offset and size.
wrapped() {
    set -- $(od -A n -t u8 -j 4128 -N 24 /dev/vda); echo "area $1 text $2+$3"
    [ $(($2 + $3)) -gt "$1" ]
}
look() { up; seen lin; seen small; }
