#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installed by `swdctl startup install --rc`; `swdctl startup uninstall --rc` takes it away.
### BEGIN INIT INFO
# Provides:          swd
# Required-Start:    $network $local_fs
# Required-Stop:     $network $local_fs
# Should-Start:      swd-early
# X-Start-Before:    mountnfs
# X-Stop-After:      umountnfs
# Default-Start:     2 3 4 5
# Default-Stop:      0 1 6
# Short-Description: Storage over iSCSI, pass 2, after the first attempt at the network
### END INIT INFO

swdctl='@SWDCTL@'

case "${1-}" in
start | restart | force-reload)
    # The network scripts have run, with or without success: the attempt is over.
    "$swdctl" phase complete || exit
    exec "$swdctl" startup --pass 2
    ;;
stop)
    # While the network is there: what was written goes to the targets, and the sessions end.
    exec "$swdctl" umount --all
    ;;
status)
    exec "$swdctl" phase show
    ;;
*)
    echo "usage: ${0##*/} start|stop|restart|status" >&2
    exit 2
    ;;
esac
