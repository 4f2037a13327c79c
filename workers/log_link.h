/*
 * The worker's log lines of info and above go over the link as well (LOG), for those who listen to
 * tandemd's events: a request's steps in all processes are then in one place. What does not fit is
 * left out; the log itself has all. Prompt text never comes here (log_content()).
 */
#ifndef TANDEM_WORKERS_LOG_LINK_H
#define TANDEM_WORKERS_LOG_LINK_H

struct worker_self;

/* From now on, until log_link_stop(); w outlives it. */
void log_link_start(struct worker_self *w);
void log_link_stop(void);

#endif
