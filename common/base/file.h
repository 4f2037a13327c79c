/*
 * Small files of our own that others may read at any time.
 */
#ifndef TANDEM_FILE_H
#define TANDEM_FILE_H

#include "common/base/buf.h"

/*
 * Writes PATH.new (mode 0600) and gives it the name PATH, so that a reader finds the old text or the
 * new one, never a part. What stood at either name, a link even, is replaced and not written to. Blocks for
 * the disk. 0, or -errno, and then PATH is as it was.
 */
int file_replace(const char *path, struct slice text);
/* All of the text, however the kernel takes it; blocks as fd does. 0 or -errno. */
int file_write_all(int fd, struct slice text);

#endif
