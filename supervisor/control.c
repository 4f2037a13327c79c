#include "supervisor/control.h"

#include "supervisor/supervisor.h"

static uint64_t not_yet(struct buf *err)
{
	buf_add_str(err, "this tandemd cannot do that");
	return 0;
}

uint64_t control_restart(struct supervisor *s, const char *device, bool backend, struct buf *err)
{
	(void)s, (void)device, (void)backend;
	return not_yet(err);
}

uint64_t control_drain(struct supervisor *s, const char *device, struct buf *err)
{
	(void)s, (void)device;
	return not_yet(err);
}

uint64_t control_reset(struct supervisor *s, const char *device, struct buf *err)
{
	(void)s, (void)device;
	return not_yet(err);
}

uint64_t control_reload(struct supervisor *s, struct buf *err)
{
	(void)s;
	return not_yet(err);
}

uint64_t control_upgrade(struct supervisor *s, struct buf *err)
{
	return upgrade_begin(s, err);
}

bool control_cancel(struct supervisor *s, const char *request_id)
{
	(void)s, (void)request_id;
	return false;
}
