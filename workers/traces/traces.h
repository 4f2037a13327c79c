/*
 * The process that sends traces: tandem-worker --traces, started by tandemd where traces.endpoint is set.
 *
 * A collector is somebody else's server, reached with TLS and a parser of HTTP: what it does to this process
 * (hang it, crash it) costs traces, and no client anything. It knows no request: on stdin come one line of
 * settings (a JSON object, settings.h), then lines "N SPANS": N of OpenTelemetry's Span as JSON objects with commas
 * between them. On stdout go lines "SENT REJECTED DROPPED" with the sums so far. The end of stdin is the
 * end: what waits is tried once more, for last_ms.
 */
#ifndef TANDEM_WORKERS_TRACES_H
#define TANDEM_WORKERS_TRACES_H

/* The process's exit code (enum worker_code). */
int traces_run(void);

#endif
