/*
 * What is told about the service as a whole when its devices change: to the service manager
 * (READY once the first main device is ready, STATUS, more time while models load), and to the
 * predecessor in an upgrade (successor.h).
 */
#ifndef TANDEM_SERVICE_H
#define TANDEM_SERVICE_H

#include <stdbool.h>
#include <uv.h>

struct life;

#define SERVICE_STATUS_BYTES 400

struct service {
	bool in_charge; /* we accept, and have the known names */
	bool announced; /* READY=1 was said */
	bool given;  /* the listening socket is a socket unit's, whatever the configuration says */
	bool stored; /* the service manager has the socket already */
	uv_timer_t extend;
	char status[SERVICE_STATUS_BYTES]; /* as last told */
};

void service_init(struct life *l);
void service_fini(struct life *l);
/* We accept and have the known names: from now on we speak for the service. */
void service_in_charge(struct life *l);
/* A device's state has changed. */
void service_look(struct life *l);
/* A reload has ended; RELOADING=1 was said before. */
void service_reloaded(struct life *l);

#endif
