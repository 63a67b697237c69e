# SPDX-License-Identifier: Apache-2.0
# what: what swd does not map, beside what it does: a thin volume over an external origin, a snapshot whose merge has been asked for
# disks: 16 16
# refuse: outside EOPNOTSUPP a thin volume with an external origin
# refuse: merged EOPNOTSUPP a snapshot is being merged into it
make() {
    group 128k /dev/vda /dev/vdb
    create -L 1M -n lin "$VG"
    create -L 1M -n old "$VG"
    fill lin old
    create --type thin-pool -c 64k -L 4M --poolmetadatasize 2M -n pool "$VG"
    lvm lvchange -qq -an "$VG/old"
    lvm lvchange -qq -pr "$VG/old"
    create -s --thinpool "$VG/pool" -n outside "$VG/old"
    lvm lvchange -qq -ay -K "$VG/outside"
    put outside new 100 300
    create -L 2M -n merged "$VG"
    fill merged
    create -s -c 4k -L 1M -n back "$VG/merged"
    put merged changed 500 700
    # Held open, the origin cannot be merged into at once: the merge is written down for the next activation.
    sleep 1000 <"/dev/$VG/merged" &
    lvm lvconvert -qq --merge "$VG/back"
    kill $!
    lvm lvs -a -o lv_name,lv_attr "$VG"
    sync
}
look() { up; seen lin; seen outside; until ! lvm lvs --noheadings -o lv_name -a "$VG" | grep -q back; do lvm lvpoll --polloperation merge "$VG/merged" || sleep 1; done; seen merged; }
