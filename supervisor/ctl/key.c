/* key: makes a key for a client, and writes its hash where tandemd finds it. */
#include "supervisor/ctl/ctl.h"

#include "common/base/file.h"
#include "common/config/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEFAULT_FILE "/etc/tandem/keys"
#define FIRST_LINES                                                                                \
	"# Keys of tandem's clients: NAME sha256:HEX [requests=N] "                                \
	"[class=interactive|agent|idle]\n"                                                         \
	"# `tandemctl key add NAME` adds one; remove a line, then `tandemctl reload`, to lock "    \
	"somebody out.\n"

struct asked {
	const char *name, *file, *class;
	long requests;
};

enum { FILE_ = 'f', REQUESTS = 256, CLASS };

static const struct option options[] = {
	{"file", required_argument, NULL, FILE_},
	{"requests", required_argument, NULL, REQUESTS},
	{"class", required_argument, NULL, CLASS},
	{"rundir", required_argument, NULL, 'R'},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{0},
};

static enum ctl_exit take_words(struct asked *a, int argc, char **argv)
{
	if (argc != 2 || strcmp(argv[0], "add") != 0)
		return ctl_usage("key wants `add NAME`");
	a->name = argv[1];
	const char *problem = key_check_name(a->name);
	return problem ? ctl_usage("a key's name %s, not '%s'", problem, a->name) : CTL_OK;
}

static enum ctl_exit parse(struct ctl *ctl, struct asked *a)
{
	int c;
	while ((c = getopt_long(ctl->argc, ctl->argv, "f:R:hV", options, NULL)) != -1) {
		switch (c) {
		case FILE_:
			a->file = optarg;
			break;
		case REQUESTS:
			if (!ctl_number(optarg, 1, KEY_REQUESTS_MAX, &a->requests))
				return ctl_usage("--requests wants 1 to %d, not '%s'",
					KEY_REQUESTS_MAX, optarg);
			break;
		case CLASS:
			if (key_check_class(optarg))
				return ctl_usage(
					"--class %s, not '%s'", key_check_class(optarg), optarg);
			a->class = optarg;
			break;
		default:
			if (ctl_take(ctl, c, optarg) != CTL_OK)
				return CTL_USAGE;
			if (ctl->told)
				return CTL_OK;
		}
	}
	return take_words(a, ctl->argc - optind, ctl->argv + optind);
}

/* Why the file cannot take this name, or NULL. */
static const char *why_not(const struct keys *known, const char *name)
{
	for (size_t i = 0; i < known->count; i++)
		if (strcmp(known->of[i].name, name) == 0)
			return "has a key of that name already";
	return known->count == KEYS_MAX ? "is full" : NULL;
}

/* Says why it cannot. */
static bool has_room(const struct asked *a)
{
	struct keys known;
	struct buf err;
	buf_init(&err, 0);
	int rc = keys_load(a->file, &known, &err);
	const char *why = rc ? NULL : why_not(&known, a->name);
	if (rc)
		fprintf(stderr, "tandemctl: %s", err.n ? buf_cstr(&err) : "out of memory\n");
	else if (why)
		fprintf(stderr, "tandemctl: %s %s\n", a->file, why);
	buf_free(&err);
	if (rc == 0)
		keys_free(&known);
	return rc == 0 && !why;
}

/* Appends, so that owner and mode of the file stay as they are. */
static int append(int fd, const struct asked *a, const char *line)
{
	struct buf text;
	char last = '\n';
	off_t size = lseek(fd, 0, SEEK_END);
	buf_init(&text, 0);
	if (size == 0)
		buf_add_str(&text, FIRST_LINES);
	else if (size < 0 || pread(fd, &last, 1, size - 1) != 1)
		return -EIO;
	buf_printf(&text, "%s%s", last == '\n' ? "" : "\n", line);
	if (a->requests)
		buf_printf(&text, " requests=%ld", a->requests);
	if (a->class)
		buf_printf(&text, " class=%s", a->class);
	buf_add_char(&text, '\n');
	int rc = buf_error(&text);
	if (rc == 0)
		rc = file_write_all(fd, buf_slice(&text));
	if (rc == 0 && fsync(fd))
		rc = -errno;
	buf_free(&text);
	return rc;
}

/* Nobody learns a key from its hash, so the file may be read by whatever user tandemd runs as. */
static enum ctl_exit add(const struct asked *a)
{
	char text[KEY_TEXT_BYTES], line[KEY_LINE_BYTES];
	int rc = 0, fd = open(a->file, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (fd < 0 || flock(fd, LOCK_EX))
		rc = -errno;
	if (rc == 0 && !has_room(a)) {
		close(fd);
		return CTL_FAILED;
	}
	if (rc == 0)
		rc = key_make(a->name, text, line);
	if (rc == 0)
		rc = append(fd, a, line);
	if (fd >= 0 && close(fd) && rc == 0)
		rc = -errno;
	if (rc) {
		fprintf(stderr, "tandemctl: %s: %s\n", a->file, strerror(-rc));
		return CTL_FAILED;
	}
	puts(text);
	fprintf(stderr,
		"This is the key of %s, shown only now; %s holds its hash. Once access.key_file "
		"names that file `tandemctl reload` makes it count.\n",
		a->name, a->file);
	explicit_bzero(text, sizeof(text));
	return CTL_OK;
}

enum ctl_exit ctl_key(struct ctl *ctl)
{
	struct asked a = {.file = DEFAULT_FILE};
	enum ctl_exit rc = parse(ctl, &a);
	return rc != CTL_OK || ctl->told ? rc : add(&a);
}
