#include "tests/bench/options.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct option long_options[] = {
	{"port", required_argument, NULL, 'p'},
	{"path", required_argument, NULL, 'P'},
	{"body", required_argument, NULL, 'b'},
	{"connections", required_argument, NULL, 'c'},
	{"requests", required_argument, NULL, 'n'},
	{"ms", required_argument, NULL, 'm'},
	{"limit-ms", required_argument, NULL, 'l'},
	{"pause-us", required_argument, NULL, 'u'},
	{"skip", required_argument, NULL, 's'},
	{"announce", no_argument, NULL, 'a'},
	{"hold", no_argument, NULL, 'H'},
	{NULL, 0, NULL, 0},
};

static int parse(struct load_options *o, int argc, char **argv)
{
	int opt;

	*o = (struct load_options){.path = "/api/chat", .connections = 1, .limit_ms = 60000};
	while ((opt = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (opt) {
		case 'p':
			o->port = atoi(optarg);
			break;
		case 'P':
			o->path = optarg;
			break;
		case 'b':
			o->body = optarg;
			break;
		case 'c':
			o->connections = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'n':
			o->requests = strtoull(optarg, NULL, 10);
			break;
		case 'm':
			o->ms = strtoull(optarg, NULL, 10);
			break;
		case 'l':
			o->limit_ms = strtoull(optarg, NULL, 10);
			break;
		case 'u':
			o->pause_us = strtoull(optarg, NULL, 10);
			break;
		case 's':
			o->skip = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'a':
			o->announce = true;
			break;
		case 'H':
			o->hold = true;
			break;
		default:
			return -EINVAL;
		}
	}
	if (o->hold)
		o->requests = o->connections;
	if (optind < argc || o->port < 1 || o->port > 65535 || !o->body || o->connections == 0 ||
		o->connections > CONNECTIONS_MAX || (o->requests == 0 && o->ms == 0))
		return -EINVAL;
	return 0;
}

int load_options_parse(struct load_options *o, int argc, char **argv)
{
	int rc = parse(o, argc, argv);

	if (rc)
		fprintf(stderr,
			"usage: bench-load --port N --body FILE [--path P] [--connections N]\n"
			"  [--requests N] [--ms N] [--limit-ms N] [--pause-us N] [--skip N]\n"
			"  [--announce] [--hold]\n");
	return rc;
}

/* The whole request, head and body, in one block. */
int load_request_build(const struct load_options *o, char **request, size_t *len)
{
	char head[1024];
	struct stat st;
	int fd = open(o->body, O_RDONLY | O_CLOEXEC), head_len, rc = 0;
	size_t at;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) || st.st_size > BODY_MAX) {
		rc = -EFBIG;
		goto out;
	}
	head_len = snprintf(head, sizeof(head),
		"POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\n"
		"Content-Length: %lld\r\n\r\n",
		o->path, o->port, (long long)st.st_size);
	if (head_len < 0 || (size_t)head_len >= sizeof(head)) {
		rc = -ENAMETOOLONG;
		goto out;
	}
	*len = (size_t)head_len + (size_t)st.st_size;
	*request = malloc(*len);
	if (!*request) {
		rc = -ENOMEM;
		goto out;
	}
	memcpy(*request, head, (size_t)head_len);
	for (at = (size_t)head_len; at < *len;) {
		ssize_t n = read(fd, *request + at, *len - at);

		if (n <= 0) {
			rc = -EIO;
			break;
		}
		at += (size_t)n;
	}
out:
	close(fd);
	return rc;
}
