/* Which device a request goes to, by its model or by a role. Nothing is changed. */
#ifndef TANDEM_PICK_H
#define TANDEM_PICK_H

#include "supervisor/devices/devices.h"

/* The device for a model name: the main one unless only another device serves it. NULL when no main
 * device is configured. */
struct device *pick_model(struct devices *s, struct slice model);
/* The first device with that role, ready ones first; NULL when none has it. */
struct device *pick_role(struct devices *s, enum device_role role);

#endif
