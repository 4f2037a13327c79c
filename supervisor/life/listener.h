/*
 * Listening sockets that a service manager gives us (sd_listen_fds(3)): by socket activation, or
 * because an earlier incarnation left its socket there (notify_store), so that clients wait in its
 * queue while we are away instead of being refused.
 */
#ifndef TANDEM_LISTENER_H
#define TANDEM_LISTENER_H

#include "common/config/config.h"
#include "supervisor/life/notify.h"

#define LISTENER_STORED_NAME "tandem-http"

/*
 * Reads and removes LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES. Returns the first socket that can be
 * used, or -1; others are closed. A stored one that is not at the configured address is given up;
 * one from a socket unit is used, with a warning. *by_unit: it is not a stored one.
 */
int listener_given(const struct config *c, const struct notify *n, bool *by_unit);

#endif
