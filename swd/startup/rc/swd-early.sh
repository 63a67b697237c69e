#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installed by `swdctl startup install --rc`; `swdctl startup uninstall --rc` takes it away.
### BEGIN INIT INFO
# Provides:          swd-early
# Required-Start:    mountkernfs
# Required-Stop:
# X-Start-Before:    networking
# Default-Start:     S
# Default-Stop:
# Short-Description: Storage over iSCSI, pass 1, before the network
### END INIT INFO

swdctl='@SWDCTL@'

case "${1-}" in
start)
    "$swdctl" phase begin || exit
    "$swdctl" startup --pass 1
    status=$?
    # Before the network pass 1 ends with the errno of the phase: that is as it should be.
    [ "$status" != @PHASE_ERRNO@ ] || status=0
    exit "$status"
    ;;
stop) ;;
status)
    exec "$swdctl" phase show
    ;;
*)
    echo "usage: ${0##*/} start|stop|status" >&2
    exit 2
    ;;
esac
