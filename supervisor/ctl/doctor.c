/* The command: what is asked, what is looked at, and what its exit status says. */
#include "supervisor/ctl/doctor.h"
#include "supervisor/ctl/ctl.h"
#include "supervisor/ctl/screen.h"

#include <time.h>
#include <unistd.h>

#define DEFAULT_CONF "/etc/tandem/tandem.conf"
#define COLUMNS_PLAIN 80 /* where the output is no terminal */
#define COLUMNS_MOST 100 /* longer lines are hard to read */

typedef void take_fn(struct doctor_facts *f, struct json_value root);

static const struct {
	const char *request;
	take_fn *take;
} documents[] = {
	{"status", doctor_take_status}, /* first: it makes the devices */
	{"backends", doctor_take_backends},
	{"devices", doctor_take_gpus},
	{"sessions", doctor_take_sessions},
	{"counters", doctor_take_counters},
	{"histograms", doctor_take_histograms},
	{"keys", doctor_take_keys},
};

/* Asks for each document. What one does not tell stays unknown, but for the first. */
static enum ctl_exit gather(const char *run_dir, struct doctor_facts *f, struct buf *err)
{
	enum ctl_exit first = CTL_OK;
	for (size_t i = 0; i < sizeof(documents) / sizeof(*documents) && first == CTL_OK; i++) {
		struct buf answer;
		struct json_value root;
		buf_init(&answer, CTL_ANSWER_BYTES);
		enum ctl_exit rc =
			ctl_ask(run_dir, documents[i].request, CTL_TIMEOUT_MS, &answer, &root, err);
		if (rc == CTL_OK)
			documents[i].take(f, root);
		else if (i == 0)
			first = rc;
		else
			fprintf(stderr, "tandemctl: %s: %s\n", documents[i].request, buf_cstr(err));
		buf_free(&answer);
	}
	return first;
}

static int64_t since_1970_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static size_t columns(void)
{
	size_t n = isatty(STDOUT_FILENO) ? screen_size().columns : COLUMNS_PLAIN;
	return n > COLUMNS_MOST ? COLUMNS_MOST : n;
}

static enum ctl_exit out_of_memory(void)
{
	fputs("tandemctl: out of memory\n", stderr);
	return CTL_FAILED;
}

/* Looks, and prints what is found. why: no tandemd was there to ask; NULL. */
static enum ctl_exit report(
	const struct ctl *ctl, struct doctor_facts *f, const char *why, enum doctor_severity *worst)
{
	struct doctor_report r;
	struct buf text;
	enum ctl_exit rc = CTL_OK;
	buf_init(&text, 0);
	doctor_look_at_ports(f);
	doctor_look_at_processes(f);
	if (doctor_look(f, &r) == 0) {
		*worst = doctor_worst(&r);
		if (ctl->json)
			doctor_json(f, &r, why, &text);
		else
			doctor_print(f, &r, columns(), stdout);
		if (ctl->json && buf_error(&text) == 0)
			printf("%s\n", buf_cstr(&text));
		rc = buf_error(&text) ? out_of_memory() : CTL_OK;
	} else {
		rc = out_of_memory();
	}
	doctor_report_free(&r);
	buf_free(&text);
	return rc;
}

/* The configuration instead: what is named, else that of the machine, where there is one. */
static enum ctl_exit look_at_config(const struct ctl *ctl, struct doctor_facts *f, const char *why)
{
	const char *path = ctl->argument		     ? ctl->argument
			   : access(DEFAULT_CONF, F_OK) == 0 ? DEFAULT_CONF
							     : NULL;
	enum doctor_severity worst;
	struct config conf;
	struct buf err;
	if (!path) {
		fputs("tandemctl: name a configuration to have it looked at: tandemctl doctor "
		      "FILE\n",
			stderr);
		if (ctl->json && report(ctl, f, why, &worst) != CTL_OK)
			return CTL_FAILED;
		return CTL_NOT_RUNNING;
	}
	buf_init(&err, 0);
	if (config_load(path, &conf, &err)) {
		fputs(err.n ? buf_cstr(&err) : "tandemctl: out of memory\n", stderr);
		buf_free(&err);
		return CTL_FAILED;
	}
	fprintf(stderr, "tandemctl: looking at %s alone\n", path);
	doctor_take_config(f, &conf);
	enum ctl_exit rc = report(ctl, f, why, &worst);
	config_free(&conf);
	buf_free(&err);
	return rc == CTL_OK ? CTL_NOT_RUNNING : rc;
}

enum ctl_exit ctl_doctor(struct ctl *ctl)
{
	static struct doctor_facts facts;
	enum doctor_severity worst = DOCTOR_NONE;
	struct buf err;
	buf_init(&err, 0);
	doctor_facts_init(&facts);
	facts.at_ms = since_1970_ms();
	enum ctl_exit rc = gather(ctl->run_dir, &facts, &err);
	if (rc != CTL_OK)
		fprintf(stderr, "tandemctl: %s\n", buf_cstr(&err));
	if (rc == CTL_NOT_RUNNING)
		rc = look_at_config(ctl, &facts, buf_cstr(&err));
	else if (rc == CTL_OK)
		rc = report(ctl, &facts, NULL, &worst);
	buf_free(&err);
	if (rc != CTL_OK || worst == DOCTOR_NONE)
		return rc;
	return worst == DOCTOR_SERIOUS ? CTL_SERIOUS : CTL_ADVICE;
}
